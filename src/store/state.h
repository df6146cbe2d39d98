/*-------------------------------------------------------------------------
 *
 * state.h
 *		What is stored of endpoints, contacts, failures and calls.
 *
 * All of it needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_STATE_H
#define CS_STORE_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "provider/contact.h"

/* A row of contactsync.endpoint. */
typedef struct CsEndpointState
{
	int			id;
	Oid			serverid;
	Oid			roleid;
	char	   *server_name;
	bool		busy;			/* calls may be under way, or were at a crash */
	double		pace;			/* that the provider taught us; 0: none */
	char	   *provider_state; /* what it has to be remembered for, or NULL */
	TimestampTz stale_before;	/* what was synced before is not trusted */
	double		throttled_until;	/* on our clock; 0: it is not */
	char	   *reason;			/* what the provider said then, or NULL */
	bool		halt_notified;	/* that it is halted was told, and no more */
} CsEndpointState;

extern void cs_state_follow_servers(void);
extern void cs_state_drop_endpoint(int endpoint);
extern List *cs_state_load_endpoints(void);
extern int	cs_state_endpoint_id(Oid serverid, const char *server_name, Oid roleid);
extern void cs_state_set_busy(int endpoint, bool busy);
extern void cs_state_set_health(int endpoint, const char *state, const char *reason,
								TimestampTz until);
extern void cs_state_sweep(void);
extern void cs_state_remember(int endpoint, double pace, const char *provider_state);
extern void cs_state_set_halt_notified(int endpoint, bool halt_notified);

/* Returns true if it was not so before. */
extern bool cs_state_set_watch(int watch, bool broken, const char *reason);
extern void cs_state_guard_watch(int watch, const char *reason);

/* Does anything of a lane have to be looked for? */
extern bool cs_state_has_contacts(int endpoint, int watch);
extern bool cs_state_has_failures(int endpoint, int watch);

/* An outcome to be stored. */
typedef struct CsStored
{
	const char *key;
	const CsContact *contact;	/* NULL: it could not be made */
	pg_uuid_t	digest;			/* of a failure: of what was refused, or zero */
	const char *remote_id;
	const char *remote_status;
	const char *remote_updated_at;	/* as the provider writes it */
	const char *topics;
	const char *note;			/* stored as contact.error beside a success */
	bool		consent_sent;
	bool		opted_out;
	/* of a failure */
	const char *reason;
	const char *code;
	const char *message;
	const char *field;
	const char *request_id;
	int			attempts;
	bool		maybe_sent;		/* it may have reached the provider */
	bool		withdraws;		/* ... and said that consent is over */
	Jsonb	   *direct;
} CsStored;

extern void cs_state_expire_direct(int endpoint, int n, const CsStored *stored);
extern void cs_state_store_failed(int endpoint, int watch, int n, const CsStored *stored);
extern void cs_state_clear_failures(int endpoint, int watch, int n, char **keys);
extern void cs_state_forget_digests(int endpoint, int watch, int n, char **keys);
extern void cs_state_forget_contacts(int endpoint, int watch, int n, char **keys);
extern char *cs_state_find_sharer(int endpoint, const char *upsert_key, int watch, const char *key,
								  int *sharer_watch);
extern void cs_state_count(int endpoint, int watch, int64 synced, int64 unchanged,
						   int64 failed, const char *last_error);

/* A row of contactsync.call. */
typedef struct CsCallRecord
{
	int			endpoint;
	TimestampTz started_at;
	double		duration;		/* s */
	const char *method;
	const char *path;
	int			status;
	const char *verdict;
	int			contacts;
	int			failed;
	int			created;		/* as the provider counts; -1: it did not say */
	int			updated;
	int			attempt;
	int			sent;
	int			received;
	const char *idempotency_key;
	const char *request_id;
	const char *error;
	List	   *traces;			/* of CsTrace: to be kept beside it */
} CsCallRecord;

extern void cs_state_log_call(const CsCallRecord *record);
extern void cs_state_prune_calls(void);
extern void cs_state_prune_failures(void);

#endif							/* CS_STORE_STATE_H */
