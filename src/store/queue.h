/*-------------------------------------------------------------------------
 *
 * queue.h
 *		Writing and reading contactsync.queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_QUEUE_H
#define CS_STORE_QUEUE_H

#include "postgres.h"

#include "access/transam.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* Where a row of the queue comes from. */
#define CS_QUEUE_CHANGE		'\0'
#define CS_QUEUE_SCAN		's'
#define CS_QUEUE_CLAIMS		'a' /* an import with claims => 'all' */
#define CS_QUEUE_RETRY		'r'
#define CS_QUEUE_TOUCH		't'
#define CS_QUEUE_SPEAKER	'p' /* the row that is to speak for its contact */

/* Size limit of the keys of a queue row, so that it is not toasted. */
#define CS_QUEUE_ROW_BYTES	7600

/*
 * Writing, in the transaction that changes something.  No SQL is run: the role needs
 * no privilege on the table, and nothing is parsed.
 */
typedef struct CsQueueWriter CsQueueWriter;

/* A row to be written. */
typedef struct CsQueueEntry
{
	int			endpoint;
	int			watch;
	uint64		xact;			/* 0: the current transaction */
	TimestampTz queued_at;		/* 0: now */
	int			n;
	ArrayType  *keys;			/* or NULL */
	Jsonb	   *contact;		/* or NULL */
	char		origin;			/* CS_QUEUE_... */
	int			related;		/* the keys are of that related table; 0: of
								 * the source */
	const char *cursor;			/* of a related change, or NULL */
} CsQueueEntry;

extern void cs_queue_prepare_write(void);
extern CsQueueWriter *cs_queue_begin_write(int64 *counter);
extern int64 cs_queue_write(CsQueueWriter *writer, int endpoint, int watch, int n,
							ArrayType *keys, Jsonb *contact, char origin);
extern int64 cs_queue_write_row(CsQueueWriter *writer, const CsQueueEntry *entry);
extern void cs_queue_end_write(CsQueueWriter *writer);

/* Reading, by the process that owns the queue. */

/* The place of a row; rows of a lane are read in this order. */
typedef struct CsQueuePosition
{
	uint64		xact;
	int64		id;
} CsQueuePosition;

/* Return a number that no other row has, as good as certain. */
static inline uint64
cs_queue_position_id(const CsQueuePosition *position)
{
	return position->xact ^ ((uint64) position->id << 40) ^ ((uint64) position->id >> 40);
}

/*
 * How far a lane has been read: up to "position", except for rows of the transactions
 * in "stragglers", which were in progress when we passed them.
 */
typedef struct CsQueueCursor
{
	CsQueuePosition position;
	int			nstragglers;
	CsQueuePosition *stragglers;	/* how far each was read */
	MemoryContext context;		/* of stragglers */
	bool		more;			/* the last read stopped at its limit */
} CsQueueCursor;

typedef struct CsQueueRow
{
	CsQueuePosition position;
	TimestampTz queued_at;
	int			nkeys;
	char	  **keys;			/* NULL with nkeys 0 */
	char		origin;			/* CS_QUEUE_... */
	Jsonb	   *contact;		/* or NULL; with keys: send those whatever is
								 * known of them */
	int			related;		/* the keys, or with none all rows, are of
								 * that related table; 0: of the source */
	char	   *cursor;			/* key of the last row that was found to use
								 * them, or NULL */
} CsQueueRow;

extern void cs_queue_adopt(void);
extern int	cs_queue_read(CsQueueCursor *cursor, int endpoint, int watch, int max_keys,
						  CsQueueRow **rows);
extern void cs_queue_delete(int endpoint, int watch, int n, const CsQueuePosition *positions);
extern bool cs_queue_has_direct(int endpoint, int64 id);
extern void cs_queue_expand(int endpoint, int watch, ArrayType *others);

#endif							/* CS_STORE_QUEUE_H */
