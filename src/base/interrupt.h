/*-------------------------------------------------------------------------
 *
 * interrupt.h
 *		Running code that is not ours, and telling what ended it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_INTERRUPT_H
#define CS_BASE_INTERRUPT_H

#include "postgres.h"

/* What ended code that is not ours, other than an error of its own. */
typedef enum CsInterrupt
{
	CS_INTERRUPT_NONE,
	CS_INTERRUPT_TIMEOUT,		/* it took longer than it may */
	CS_INTERRUPT_ENDING,		/* the process is to end, or was told to stop
								 * what it does */
	CS_INTERRUPT_CANCEL			/* somebody cancelled the query */
} CsInterrupt;

extern void cs_interrupt_init_worker(void);
extern bool cs_interrupt_is_ending(void);

extern bool cs_interrupt_begin(int limit);
extern bool cs_interrupt_end(void);
extern double cs_interrupt_take_spent(void);
extern void cs_interrupt_allow_end(bool allow);
extern CsInterrupt cs_interrupt_of(ErrorData *error);

#endif							/* CS_BASE_INTERRUPT_H */
