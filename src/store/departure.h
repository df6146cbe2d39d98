/*-------------------------------------------------------------------------
 *
 * departure.h
 *		contactsync.departure: contacts that a row has left.
 *
 * Whether one is to be removed is decided last: when all that was committed before
 * has been read, and nobody stands for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_DEPARTURE_H
#define CS_STORE_DEPARTURE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "store/remaining_row.h"
#include "store/watch.h"

/*
 * A table expression: what is to be removed and due, of all endpoints, with the row that
 * left it; "waits" until all rows of all watches of the endpoint have been read once, and
 * those again that were forgotten and may stand for it.
 */
#define CS_DUE_REMOVALS \
	"(SELECT d.endpoint, d.watch, d.key, d.departed_at," \
	" COALESCE(CASE d.action WHEN 'd' THEN 'delete' WHEN 'n' THEN 'unsubscribe' END, w.on_delete) AS action," \
	" NOT d.erase AND (EXISTS (SELECT FROM contactsync.watch i WHERE i.endpoint = d.endpoint" \
	" AND i.state = 'running' AND NOT i.complete) OR " CS_SQL_REMAINS("d", "true") ") AS waits" \
	" FROM contactsync.departure d LEFT JOIN contactsync.watch w ON w.id = d.watch" \
	" WHERE NOT d.failed AND (d.action IS NOT NULL OR w.on_delete <> 'ignore')" \
	" AND (d.erase OR d.departed_at + COALESCE(w.delete_delay, '0')" \
	" / current_setting('contactsync.clock_speed')::float8 <= clock_timestamp()))"

/* A contact that may have to be removed; texts in the database's encoding. */
typedef struct CsDeparture
{
	const char *upsert_key;
	int			watch;			/* whose row it was, and whose on_delete
								 * counts; 0: one that was dropped since */
	const char *key;			/* of that row */
	char		action;			/* 'n' or 'd', whatever on_delete says; or
								 * '\0' */
	/* as far as it was read */
	TimestampTz departed_at;
	bool		erase;			/* contactsync_forget() erased the person */
	bool		stands;			/* a row, or contactsync_upsert(), still does */
} CsDeparture;

/* All need a transaction and the scope of cs_sql_enter(). */
extern void cs_departure_store(int endpoint, int n, const CsDeparture *departures);

/* Seconds until the first one of an endpoint is due; DBL_MAX: there is none. */
extern double cs_departure_due_in(int endpoint);

/* If the system's clock was set back, contacts that were left later have been left now.
 * Return whether there are any. */
extern bool cs_departure_set_back(int endpoint);

/* Those that are due of watches that may be removed from, or only those to be erased; palloc'd. */
extern CsDeparture *cs_departure_read_due(int endpoint, bool only_erased, int limit, int *n);

/* Nothing is left to decide about these contacts. */
extern void cs_departure_remove(int endpoint, int n, char **upsert_keys);

/*
 * They could not be removed.  What is to be erased is kept, with its contact, until
 * somebody has it tried again, or gives up on it.
 */
extern void cs_departure_refuse(int endpoint, int n, char **upsert_keys);

/* A watch is dropped: what is to be erased still is, and what waits for a row of it that was
 * forgotten stays at the provider. */
extern void cs_departure_leave_watch(int endpoint, int watch);

/*
 * Count the contacts that are about to be removed of a watch, and those that were
 * removed within the last minute; erased ones and those that were let go do not count.
 * The keys of the first "named" ones are returned as a list for people, or NULL.
 */
extern int64 cs_departure_count(int endpoint, int watch, int named, int64 *recently, char **first);

/* Read CS_DUE_REMOVALS of the endpoints of a role, and of the roles whose privileges it
 * has, as rows of the last statement.  Return how many. */
extern uint64 cs_departure_list_due(Oid roleid);

/* Keep at the provider what has left a watch, except what is to be erased. */
extern void cs_departure_keep(int endpoint, int watch);

/* Is the contact to be removed because it was forgotten? */
extern bool cs_departure_erases(int endpoint, const char *upsert_key);

#endif							/* CS_STORE_DEPARTURE_H */
