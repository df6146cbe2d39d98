/*-------------------------------------------------------------------------
 *
 * definition.h
 *		What a watch is: a source table mirrored to an endpoint.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_DEFINITION_H
#define CS_STORE_DEFINITION_H

#include "postgres.h"

#include "utils/date.h"
#include "utils/timestamp.h"

#include "provider/contact.h"

/* A canonical field or an attribute, and the expression it comes from. */
typedef struct CsMapped
{
	CsField		field;
	char	   *attribute;		/* name of the attribute, or NULL */
	char	   *expression;		/* SQL over the row */
} CsMapped;

typedef enum CsOnDelete
{
	CS_ON_DELETE_IGNORE,
	CS_ON_DELETE_UNSUBSCRIBE,
	CS_ON_DELETE_DELETE
} CsOnDelete;

typedef struct CsWatch
{
	int			id;
	int			endpoint;
	Oid			source;
	Oid			owner;
	int			nkeys;
	char	  **keys;			/* column names */
	int			nmapped;
	CsMapped   *mapped;
	char	   *filter;			/* or NULL */
	char	   *search_path;
	CsOnDelete	on_delete;
	bool		broken;
	bool		away;			/* another database sends; see
								 * delivery/database_identity.c */
	TimestampTz stale_before;	/* what was synced before is not trusted */
	bool		guarded;		/* guard.c keeps it from sending */
	uint64		released;		/* ... but not what is older, as a full xid */
	char	   *poll_column;	/* its source is polled by it; NULL: triggers */
	double		poll_every;		/* s */
	char	   *poll_overlap;	/* an interval */
	double		reconcile_next; /* Unix seconds; 0: not by itself */

	struct Bitmapset *used;		/* columns, while it is being made */
} CsWatch;

/* What is done by itself, as contactsync_watch() or contactsync_alter_watch() is told. */
typedef struct CsSchedule
{
	bool		poll;			/* instead of triggers */
	const char *poll_column;
	Interval   *poll_every;
	Interval   *poll_overlap;
	Interval   *reconcile_every;	/* NULL: not */
	const TimeADT *reconcile_at;	/* the time of day, or NULL */
	bool		poll_anew;		/* how it is polled was altered */
	bool		other_column;	/* ... poll_column as well */
} CsSchedule;

#endif							/* CS_STORE_DEFINITION_H */
