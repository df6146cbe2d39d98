/*-------------------------------------------------------------------------
 *
 * account.h
 *		One account at a provider: its endpoint, pace, health and lanes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ACCOUNT_H
#define CS_DELIVERY_ACCOUNT_H

#include "postgres.h"

#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "utils/hsearch.h"

#include "delivery/breaker.h"
#include "delivery/budget.h"
#include "delivery/lane.h"
#include "delivery/pace.h"
#include "provider/endpoint.h"
#include "store/consent.h"
#include "store/endpoint_state.h"

/* Any state but RUNNING ends with a call that the provider answers well. */
typedef enum CsHealth
{
	CS_RUNNING,
	CS_THROTTLED,				/* waits as the provider said; then as before */
	CS_UNAVAILABLE,				/* the provider fails; one call probes after a
								 * pause */
	CS_HALTED					/* a configuration fault; one call in a while
								 * probes */
} CsHealth;

/* Whether it is known who is at the provider, and who opted out there. */
typedef enum CsLearning
{
	CS_LEARNING_OFF,			/* it cannot be listed: claims decides */
	CS_LEARNING_DUE,			/* it is to be listed before consent is
								 * claimed */
	CS_LEARNING_DONE
} CsLearning;

/*
 * The options of a server and a user mapping, as they were once.  What was started
 * under them is judged by them, and uses them until then.
 */
typedef struct CsServerVersion
{
	MemoryContext context;
	CsEndpoint *endpoint;
	int			users;
	bool		superseded;		/* somebody has changed an option since */
	bool		moved;			/* ... and it is another account since */
} CsServerVersion;

typedef struct CsAccount
{
	int			id;				/* contactsync.endpoint.id */
	Oid			serverid;
	Oid			roleid;
	MemoryContext context;
	CsEndpoint *endpoint;		/* NULL: it could never be read */
	CsServerVersion *version;	/* that endpoint belongs to, or NULL */
	bool		unreadable;		/* the last attempt failed, so it is HALTED */
	bool		denied;			/* ... because the role may not use the server
								 * any more */
	bool		reconfigured;	/* an option has changed since definitions
								 * were loaded */
	bool		moved;			/* ... and it is another account since */

	/* what the provider taught us; stored in contactsync.endpoint */
	CsPace		pace;
	CsLearnedPace learned;
	double		learned_stored; /* its rate, as stored */
	char	   *limitation;		/* what the provider's judge() remembers, or
								 * NULL */
	bool		learned_changed;	/* since it was last stored */

	CsHealth	health;
	char	   *reason;
	double		resume_at;		/* no call before, unless RUNNING */
	int			failures;		/* in a row */
	double		last_success;	/* when a contact last had its outcome */
	CsBreaker	breaker;		/* of refusals */
	int			suspects;		/* contacts since then that may be at fault,
								 * or else the account is */
	bool		paused;			/* by contactsync_pause(): no call at all */
	bool		is_new;			/* since definitions were last loaded */
	double		locked_until;	/* somebody has locked what is stored of it:
								 * nothing is read or stored before */
	double		store_at;		/* the same of its health, and its lanes' */
	double		kept_until;		/* the same of outcomes */
	bool		probed_by_repeat;	/* the last probe was a repeated call */
	bool		halt_notified;	/* as stored: listeners were told of the halt */
	bool		synced_since_halt;	/* a contact was */
	bool		health_changed; /* since it was last stored */

	CsConsentScope consents;	/* whose memory of consent counts */
	CsLearning	learning;		/* who opted out there */
	struct CsPuller *puller;	/* a pull that is under way, or NULL */
	double		pull_at;		/* when who opted out is learnt again */
	bool		listing;		/* it is asked for a page of that; not one of
								 * in_flight */
	bool		listed_last;	/* the last request was that */
	char	   *pull_error;		/* why the last one failed, or NULL */
	bool		pull_error_changed; /* since it was last stored */
	struct bloom_filter *waiting;	/* identities of contacts that wait for
									 * it, or NULL */
	int64		nwaiting;		/* how many */

	CsBudget   *budget;			/* of the role */
	List	   *lanes;
	List	   *retired;		/* lanes of watches that were dropped, while
								 * their calls are in flight */
	CsLane	   *removals;		/* contacts that no row stands for; not in
								 * lanes */
	double		removals_at;	/* when they are looked for again */
	bool		has_remaining;	/* there may be rows in
								 * contactsync.remaining_row */
	TimestampTz removal_cutoff; /* of those that left until then all rows are
								 * being waited for; 0: none */
	int64		contact_bytes;	/* of contacts that were read and have no
								 * stored outcome */
	int			next_lane;		/* index of the lane to be asked first */
	HTAB	   *spoken;			/* contacts that a row spoke for over another
								 * one; spoken.c */
	bool		busy;			/* as stored: calls may be under way */
	TimestampTz stale_before;	/* what was synced earlier is not trusted */
	TimestampTz reclaim_before; /* ... and what it claimed may be claimed
								 * again */
	int			in_flight;		/* calls */
	int			published;		/* in_flight as status shows it */
	int64		nwaiting_published;
	bool		locked_published;
	dlist_head	ready;			/* calls that wait for their time */
	dlist_head	flying;			/* calls in flight */
	int64		last_batch;		/* number of the last batch */

	/* of what alert_url is told; alert.c */
	struct CsAlertCall *alert;	/* a message that is under way, or not stored
								 * yet; or NULL */
	double		alert_at;		/* when the next one is due, or what became of
								 * this one can be stored; DBL_MAX: none is */

	/* of an OAuth access token; token.c */
	bool		refresh_wanted; /* the provider refused the one in use */
	struct CsTokenRefresh *refresh; /* under way, or not stored yet; no call
									 * starts meanwhile */
	double		refresh_at;		/* not before, after a refresh that failed */
	double		refreshed_at;	/* when the one in use was stored */
} CsAccount;

/*
 * Who waits for an answer.  This is the first member of each of these structs, so
 * that an answer finds its owner.
 */
typedef enum CsRequestOwnerKind
{
	CS_OWNER_CALL,				/* a CsCall */
	CS_OWNER_REFRESH,			/* a CsTokenRefresh */
	CS_OWNER_PULL,				/* a CsPuller */
	CS_OWNER_ALERT				/* a CsAlertCall */
} CsRequestOwnerKind;

typedef struct CsRequestOwner
{
	CsRequestOwnerKind kind;
} CsRequestOwner;

extern CsAccount *cs_account_create(const CsEndpointState *state);
extern CsLane *cs_account_find_lane(const CsAccount *account, int watch);
extern bool cs_account_has_failures(const CsAccount *account);
extern void cs_account_read_endpoint(CsAccount *account, double now);
extern CsServerVersion *cs_account_hold_version(CsAccount *account);
extern void cs_account_release_version(CsServerVersion *version);

extern void cs_account_remember(CsAccount *account, const char *limitation, double now);
extern void cs_account_start_anew(CsAccount *account, double now);

extern void cs_account_resume_throttle(CsAccount *account, double now, double until,
									   const char *reason);
extern void cs_account_succeed(CsAccount *account, double now);
extern void cs_account_recover(CsAccount *account, double now);
extern double cs_account_time_to_wait(const CsAccount *account, double retry_after, int failures);
extern void cs_account_throttle(CsAccount *account, double sent_at, double now, double retry_after,
								const char *message);
extern void cs_account_wait(CsAccount *account, double now, double retry_after,
							const char *message);
extern void cs_account_fail(CsAccount *account, double now, double retry_after,
							const char *message);
extern void cs_account_halt(CsAccount *account, double now, double retry_after,
							const char *reason, const char *message);
extern void cs_account_let_probe(CsAccount *account, double now);

extern bool cs_account_is_probing(const CsAccount *account);
extern int	cs_account_free_slots(const CsAccount *account, double now);
extern double cs_account_ready_at(const CsAccount *account, double now);
extern bool cs_account_has_room(const CsAccount *account);
extern bool cs_account_has_changes(const CsAccount *account, double now);

#endif							/* CS_DELIVERY_ACCOUNT_H */
