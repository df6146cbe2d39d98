/*-------------------------------------------------------------------------
 *
 * endpoint_state.h
 *		The rows of contactsync.endpoint.
 *
 * Every function needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_ENDPOINT_STATE_H
#define CS_STORE_ENDPOINT_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A row of contactsync.endpoint. */
typedef struct CsEndpointState
{
	int			id;
	Oid			serverid;
	Oid			roleid;
	char	   *server_name;
	bool		busy;			/* calls may be in flight, or were at a crash */
	double		pace;			/* that the provider taught us; 0: none */
	char	   *limitation;		/* see CsJudgement; or NULL */
	TimestampTz stale_before;	/* what was synced before is not trusted */
	TimestampTz reclaim_before; /* ... and what it claimed may be claimed
								 * again */
	double		throttled_until;	/* on our clock; 0: not throttled */
	char	   *reason;			/* what the provider said then, or NULL */
	TimestampTz learned_at;		/* when who is there was last listed; 0: never */
	char	   *pull_error;		/* why the last pull failed, or NULL */
	char	   *unlearnable;	/* why that cannot be listed, or NULL */
	bool		halt_notified;	/* the last NOTIFY said that it is halted */
	char	   *breaker;		/* of refusals: "open", "released" or NULL */
	bool		has_remaining;	/* there are rows in contactsync.remaining_row */
} CsEndpointState;

extern void cs_endpoint_state_follow_servers(void);

/* What belongs to a role, a server or a table that does not exist any more. */
typedef struct CsOrphan
{
	int			endpoint;
	int			watch;			/* 0: the endpoint has none */
	bool		whole;			/* the endpoint as well */
} CsOrphan;

extern int	cs_endpoint_state_find_orphans(CsOrphan **orphans);
extern void cs_endpoint_state_drop(int endpoint);
extern List *cs_endpoint_state_load_all(void);

/*
 * Read what the provider's contacts are trusted to be, and learnt of them: limitation,
 * stale_before, reclaim_before, learned_at and unlearnable.  All else is zero, and all if
 * there is no such endpoint.
 */
extern void cs_endpoint_state_read_learned(int id, CsEndpointState *state);

extern int	cs_endpoint_state_find(Oid serverid, const char *server_name, Oid roleid);
extern int	cs_endpoint_state_id(Oid serverid, const char *server_name, Oid roleid);
extern List *cs_endpoint_state_ids(Name server, Oid roleid);
extern List *cs_endpoint_state_visible_ids(Oid roleid);
extern void cs_endpoint_state_set_busy(int endpoint, bool busy);
extern void cs_endpoint_state_set_health(int endpoint, const char *state, const char *reason,
										 TimestampTz until);
extern void cs_endpoint_state_set_learned(int endpoint, double pace, const char *limitation);
extern void cs_endpoint_state_set_pull_error(int endpoint, const char *error);
extern void cs_endpoint_state_set_unlearnable(int endpoint, const char *reason);
extern void cs_endpoint_state_set_breaker(int endpoint, const char *state);
extern bool cs_endpoint_state_release_breaker(int endpoint);
extern void cs_endpoint_state_set_halt_notified(int endpoint, bool halt_notified);

/* Not all contacts of the provider have been listed, as far as is known. */
extern void cs_endpoint_state_forget_learned(int endpoint);

#endif							/* CS_STORE_ENDPOINT_STATE_H */
