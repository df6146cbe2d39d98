/*-------------------------------------------------------------------------
 *
 * forget.h
 *		Showing and erasing everything that is stored of a person.
 *
 * Every function needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_FORGET_H
#define CS_STORE_FORGET_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef enum CsForgetKind
{
	CS_FORGET_CONTACT,
	CS_FORGET_FAILURE,
	CS_FORGET_CHANGE,
	CS_FORGET_REMOTE_CONTACT,
	CS_FORGET_TRACE,
	CS_FORGET_OUTCOME,
	CS_FORGET_CALL,				/* which stays, without the address */
	CS_FORGET_KINDS
} CsForgetKind;

extern const char *const cs_forget_kinds[CS_FORGET_KINDS];

/* What has become of a row that was known to be the person. */
typedef enum CsForgetFate
{
	CS_FATE_UNKNOWN,
	CS_FATE_HERE,				/* it still is that person */
	CS_FATE_OTHER,				/* it is somebody else now */
	CS_FATE_GONE				/* it was deleted, or is filtered out */
} CsForgetFate;

typedef struct CsForgetRow
{
	int			endpoint;
	int			watch;			/* 0: contactsync_upsert() */
	char	   *key;
	CsForgetFate fate;			/* the caller looks */
} CsForgetRow;

typedef struct CsForgetRows
{
	int			n;
	CsForgetRow *rows;
	char	   *snapshot;		/* what was queued later is kept */
} CsForgetRows;

/* Find the rows of a person, at the endpoints of a role and of the roles whose
 * privileges it has; palloc'd. */
extern void cs_forget_find_rows(const char *email, Oid roleid, CsForgetRows *rows);

/*
 * Forget a person at these endpoints, or a row of a watch and the contact that no
 * other row stands for; and add to "forgotten", by kind, how many rows that were.
 * Unless "suppression" is false, contactsync.consent remembers that consent is
 * closed, and contactsync.remaining_row which rows are still there.  Of calls in flight
 * nothing else is stored.
 */
extern void cs_forget_email(const char *email, Oid roleid, bool suppression, const CsForgetRows *rows,
							int64 *forgotten);
extern void cs_forget_row(const CsForgetRow *row, bool suppression, int64 *forgotten);

/* A row, or with watch 0 an address or a contact, that was forgotten. */
typedef struct CsForgetNote
{
	int			endpoint;
	int			watch;
	char	   *key;
	bool		notes;			/* that its row is still there, if it is */
} CsForgetNote;

/* What was forgotten, not swept, and not queued since; a list of CsForgetNote. */
extern List *cs_forget_notes(void);

/*
 * Forget what calls that were in flight then have stored: of one endpoint, or with 0
 * of all, but not of those in a list of int, where calls of others may be in flight.
 * Return whether rows were noted that are still there.
 */
extern bool cs_forget_sweep(int only, List *except);

/*
 * List what is stored of a person, in the order of time, as rows of the last
 * statement.  Return how many.
 */
extern uint64 cs_forget_list(const char *email, Oid roleid);

#endif							/* CS_STORE_FORGET_H */
