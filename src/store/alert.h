/*-------------------------------------------------------------------------
 *
 * alert.h
 *		contactsync.alert: trouble of servers and watches, to be told to alert_url.
 *
 * What reads or stores needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_ALERT_H
#define CS_STORE_ALERT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* A message is tried so often at most. */
#define CS_ALERT_ATTEMPTS	8

/*
 * A message to be sent: that some trouble has begun, or ended.  All texts are in UTF-8
 * and without anything that looks like an address; NULL: there is none.
 */
typedef struct CsAlert
{
	int64		id;
	bool		ended;
	int			attempt;		/* this one, from 1 */
	const char *event;
	const char *reason;			/* its class */
	const char *key;			/* the receiver knows the trouble by it */
	const char *server;
	const char *source;
	const char *owner;
	const char *database;
	const char *hint;			/* what to do, while it goes on */
	const char *since;			/* in UTC, as in RFC 3339 */
	const char *until;
	int64		contacts;		/* that it is about; -1: it is not about a
								 * number */
	int64		backlog;		/* contacts that waited when that was last
								 * counted */
	int64		failed;			/* contacts that failed within an hour */
} CsAlert;

/* What a role wants to be told of an endpoint, and what there is. */
typedef struct CsAlertThreshold
{
	int			endpoint;
	double		backlog_age;	/* s; 0: never */
	int			failures;		/* within an hour; 0: never */
	int64		backlog;		/* contacts that wait */
	double		oldest;			/* age of the oldest change (s) */
} CsAlertThreshold;

/*
 * Trouble of an endpoint, or of a watch that is not 0, has begun; if it goes on already,
 * it is noted once.  Only the class of the reason is kept, which may be NULL.
 * "contacts" is -1 if it is not about a number.
 */
extern void cs_alert_begin(const char *event, int endpoint, int watch, const char *reason, int64 contacts);

/* An endpoint is not halted any more. */
extern void cs_alert_end_halt(int endpoint);

/* End what is noted of watches that are not broken or guarded any more, or no more. */
extern void cs_alert_end_watches(int n, const int *endpoints);

/* Begin and end what is beyond a threshold, and notify listeners of a backlog. */
extern void cs_alert_compare(int n, const CsAlertThreshold *thresholds);

/* Set when the next message of each endpoint is due, in Unix seconds on our clock; DBL_MAX: there is none. */
extern void cs_alert_due(int n, const int *endpoints, double *due_at);

/*
 * Take the message of the endpoint that is due for longest, or return NULL.  Before its
 * call it is stored that one is made, and when the next one is, so that a crash neither
 * loses nor repeats it without end.
 */
extern CsAlert *cs_alert_take(int endpoint, double now);

/* The message was taken by its receiver. */
extern void cs_alert_told(const CsAlert *alert);

/* It was not, for that reason; it is not sent before "not_before", in Unix seconds on our clock. */
extern void cs_alert_failed(const CsAlert *alert, const char *error, double not_before);

/* Try again at once what could not be told of an endpoint: somebody has changed its options. */
extern void cs_alert_try_again(int endpoint);

/* Return whether anything was noted by this process since the last call. */
extern bool cs_alert_take_news(void);

/* Delete what is older than run_log_age, and the oldest of an endpoint beyond run_log_rows. */
extern void cs_alert_prune(void);

#endif							/* CS_STORE_ALERT_H */
