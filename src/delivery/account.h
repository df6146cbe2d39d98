/*-------------------------------------------------------------------------
 *
 * account.h
 *		An endpoint at work: its pace, its health and its lanes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ACCOUNT_H
#define CS_DELIVERY_ACCOUNT_H

#include "postgres.h"

#include "lib/ilist.h"
#include "nodes/pg_list.h"

#include "delivery/lane.h"
#include "delivery/pace.h"
#include "provider/endpoint.h"
#include "store/endpoint_state.h"

/* Any state but RUNNING ends with a call that the provider answers as it should. */
typedef enum CsHealth
{
	CS_RUNNING,
	CS_THROTTLED,				/* told to wait; then as before */
	CS_UNAVAILABLE,				/* failing; after a pause one call tries */
	CS_HALTED					/* a configuration fault; one call in a while
								 * tries */
} CsHealth;

typedef struct CsAccount
{
	int			id;				/* contactsync.endpoint.id */
	Oid			serverid;
	Oid			roleid;
	char	   *server_name;
	CsEndpoint *endpoint;		/* NULL: it could never be read */
	bool		unreadable;		/* when last tried, so it is HALTED */
	MemoryContext endpoint_context;
	CsPace		pace;
	double		learned_pace;	/* calls a second that a 429 left; 0: all */
	char	   *provider_state; /* what the provider's judge() remembers, or
								 * NULL */
	bool		learned_changed;	/* either has, since it was last stored */

	CsHealth	health;
	char	   *reason;
	double		resume_at;		/* no call before, unless RUNNING */
	int			failures;		/* in a row */
	double		last_success;	/* when a contact had its outcome */
	bool		paused;			/* somebody told it to wait: no call at all */
	bool		repeated;		/* the last call that tried was a repeated one */
	bool		halt_notified;	/* as stored: that it is halted was told */
	bool		proven;			/* somebody was synced since it was halted */
	bool		health_changed; /* since it was last stored */

	List	   *lanes;
	int			turn;			/* the lane that is asked first */
	bool		busy;			/* as stored */
	TimestampTz stale_before;	/* what was synced before is not trusted */
	bool		has_direct;		/* contacts of upsert() are known */
	int			in_flight;
	int			published;		/* in_flight, as status shows it */
	dlist_head	ready;			/* calls that are made and wait for their turn */
	int64		number;			/* of the last call */

	/* of an access token; refresh.c */
	bool		refresh_wanted; /* the provider did not take the one there is */
	struct CsTokenRefresh *refresh; /* under way, or to be stored; no call
									 * starts */
	double		refresh_at;		/* not before, after a refresh that failed */
	double		refreshed_at;	/* when the one in use was stored */
	MemoryContext context;
} CsAccount;

typedef enum CsRequestOwnerKind
{
	CS_OWNER_CALL,				/* a CsCall */
	CS_OWNER_REFRESH			/* a CsTokenRefresh */
} CsRequestOwnerKind;

/* The first member of either, so that an answer finds its owner. */
typedef struct CsRequestOwner
{
	CsRequestOwnerKind kind;
} CsRequestOwner;

extern CsAccount *cs_account_create(const CsEndpointState *state);
extern void cs_account_carry_over(CsAccount *account, const CsAccount *before);
extern void cs_account_resume_throttle(CsAccount *account, double now, double until,
									   const char *reason);
extern void cs_account_remember(CsAccount *account, const char *provider_state, double now);
extern void cs_account_unlearn(CsAccount *account, double now);
extern void cs_account_read_endpoint(CsAccount *account, double now);
extern int	cs_account_free_slots(const CsAccount *account, double now);
extern bool cs_account_is_probing(const CsAccount *account);
extern double cs_account_ready_at(const CsAccount *account, double now);
extern void cs_account_recover(CsAccount *account, double now);
extern void cs_account_throttle(CsAccount *account, double now, double retry_after,
								const char *message);
extern void cs_account_fail(CsAccount *account, double now, double retry_after,
							const char *message);
extern void cs_account_halt(CsAccount *account, double now, double retry_after,
							const char *reason, const char *message);
extern const char *cs_account_health_name(const CsAccount *account);

#endif							/* CS_DELIVERY_ACCOUNT_H */
