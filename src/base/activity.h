/*-------------------------------------------------------------------------
 *
 * activity.h
 *		What workers are doing, for the view status.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_ACTIVITY_H
#define CS_BASE_ACTIVITY_H

#include "postgres.h"

extern void cs_activity_init(void);

/* What the worker of a database does for an endpoint. */
typedef struct CsActivity
{
	Oid			dboid;			/* InvalidOid: free */
	int			endpoint;
	int			in_flight;
	int64		waiting;		/* contacts, for a pull */
	double		pace;			/* calls a second that are allowed now */
	double		configured_pace;
	bool		locked;			/* somebody has locked what is stored of it */
	Oid			roleid;			/* who sends; roles are those of all databases */
	uint64		account;		/* a hash of the account; 0: not known */
} CsActivity;

/* The worker of a database. */
extern void cs_activity_publish(const CsActivity *activity);
extern void cs_activity_clear(void);

/* Any backend. */
extern void cs_activity_visit(void (*visit) (const CsActivity *activity, void *arg), void *arg);

/*
 * Return another database that sends to an account, or InvalidOid: one in which a role
 * does that whose privileges this role has.  What others have is not told.
 */
extern Oid	cs_activity_other_database(uint64 account, Oid roleid);

#endif							/* CS_BASE_ACTIVITY_H */
