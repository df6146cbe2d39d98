/*-------------------------------------------------------------------------
 *
 * wakeup.h
 *		Waking the worker when the transaction at hand commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_WAKEUP_H
#define CS_BASE_WAKEUP_H

/* Register the callbacks; only while shared_preload_libraries are loaded. */
extern void cs_wakeup_init(void);

/* Have the worker read the queue. */
extern void cs_wakeup_at_commit(void);

/* ... if it can send anything to the endpoint; else when it can. */
extern void cs_wakeup_for_endpoint_at_commit(int endpoint);

/* Have it notice a changed definition, even if it waits for a time. */
extern void cs_wakeup_interrupt_at_commit(void);

/* Have one started where the extension was not there. */
extern void cs_wakeup_launch_at_commit(void);

#endif							/* CS_BASE_WAKEUP_H */
