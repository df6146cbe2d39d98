/*-------------------------------------------------------------------------
 *
 * attention.h
 *		Whether a worker has to be told of changes that were committed.
 *
 * In shared memory; needs no lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_ATTENTION_H
#define CS_BASE_ATTENTION_H

#include "postgres.h"

#include "port/atomics.h"

typedef struct CsAttention
{
	pg_atomic_uint64 word;
} CsAttention;

/* Endpoints are bits, which some of them share. */
extern uint64 cs_attention_bit(int endpoint);

#define CS_ANY_ENDPOINT		PG_UINT64_MAX

extern void cs_attention_init(CsAttention *attention);

/* A backend, which has committed changes for these endpoints. */
extern bool cs_attention_is_told(CsAttention *attention, uint64 endpoints);
extern bool cs_attention_tell(CsAttention *attention, uint64 endpoints);

/* The launcher: does the worker sleep, with nothing that waits for a time? */
extern bool cs_attention_is_asleep(CsAttention *attention);

/* The worker. */
extern void cs_attention_wake(CsAttention *attention);
extern bool cs_attention_has_news(CsAttention *attention);
extern bool cs_attention_take(CsAttention *attention);
extern bool cs_attention_may_sleep(CsAttention *attention, uint64 quiet);

#endif							/* CS_BASE_ATTENTION_H */
