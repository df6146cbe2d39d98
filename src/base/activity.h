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

/* The worker of a database. */
extern void cs_activity_publish(int endpoint, int in_flight, int64 waiting, double pace, bool locked);
extern void cs_activity_clear(void);

/* Any backend. */
extern void cs_activity_visit(void (*visit) (int endpoint, int in_flight, int64 waiting, double pace,
											 bool locked, void *arg), void *arg);

#endif							/* CS_BASE_ACTIVITY_H */
