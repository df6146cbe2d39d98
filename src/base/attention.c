/*-------------------------------------------------------------------------
 *
 * attention.c
 *		Whether a worker has to be told of changes that were committed.
 *
 * A backend that commits changes leaves news, and has to set the worker's latch only
 * if it sleeps.  The worker takes the news before it reads the queue, and sleeps only
 * if none has come since.  So a burst of commits costs one signal, and none is
 * overlooked.
 *
 * A worker that sleeps says which endpoints are quiet: nothing can be sent to them
 * before a time at which it wakes by itself.  News of these are kept for it, which
 * costs the application nothing.  State and endpoints are one word, so that a backend
 * cannot mistake the quiet endpoints of one sleep for those of the next.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/attention.h"

typedef enum CsAttentionState
{
	CS_ASLEEP,
	CS_KEPT,					/* asleep; there are news of quiet endpoints */
	CS_AWAKE,
	CS_NEWS						/* awake, and has to read the queue again */
} CsAttentionState;

/* The quiet endpoints are above the state. */
#define STATE_BITS		2
#define STATE_MASK		((UINT64CONST(1) << STATE_BITS) - 1)
#define ENDPOINT_BITS	(64 - STATE_BITS)

uint64
cs_attention_bit(int endpoint)
{
	return UINT64CONST(1) << ((unsigned int) endpoint % ENDPOINT_BITS);
}

/* Nobody is there to be told. */
void
cs_attention_init(CsAttention *attention)
{
	pg_atomic_init_u64(&attention->word, CS_ASLEEP);
}

/* What becomes of the word when changes for these endpoints are committed. */
static uint64
with_news(uint64 word, uint64 endpoints)
{
	uint64		state = word & STATE_MASK;
	uint64		quiet = word >> STATE_BITS;
	bool		is_quiet = endpoints != CS_ANY_ENDPOINT && (endpoints & ~quiet) == 0;

	if ((state == CS_ASLEEP || state == CS_KEPT) && is_quiet)
		return (word & ~STATE_MASK) | CS_KEPT;
	return CS_NEWS;
}

/* Would it change nothing to tell of these endpoints? */
bool
cs_attention_is_told(CsAttention *attention, uint64 endpoints)
{
	uint64		word = pg_atomic_read_u64(&attention->word);

	return with_news(word, endpoints) == word;
}

/* Tell of them.  Return whether the worker's latch has to be set. */
bool
cs_attention_tell(CsAttention *attention, uint64 endpoints)
{
	uint64		word = pg_atomic_read_u64(&attention->word);
	uint64		next;

	do
		next = with_news(word, endpoints);
	while (!pg_atomic_compare_exchange_u64(&attention->word, &word, next));
	word &= STATE_MASK;
	return next == CS_NEWS && (word == CS_ASLEEP || word == CS_KEPT);
}

bool
cs_attention_is_asleep(CsAttention *attention)
{
	return (pg_atomic_read_u64(&attention->word) & STATE_MASK) == CS_ASLEEP;
}

/* The worker begins, and has to read all that is there. */
void
cs_attention_wake(CsAttention *attention)
{
	pg_atomic_write_u64(&attention->word, CS_NEWS);
}

/* Return whether there are news for a worker that is awake. */
bool
cs_attention_has_news(CsAttention *attention)
{
	return (pg_atomic_read_u64(&attention->word) & STATE_MASK) == CS_NEWS;
}

/* Take the news; return whether there were any. */
bool
cs_attention_take(CsAttention *attention)
{
	uint64		state = pg_atomic_exchange_u64(&attention->word, CS_AWAKE) & STATE_MASK;

	return state == CS_NEWS || state == CS_KEPT;
}

/*
 * Return whether no news have come; if so, the next will set the latch, unless they
 * are of these endpoints.
 */
bool
cs_attention_may_sleep(CsAttention *attention, uint64 quiet)
{
	uint64		word = CS_AWAKE;

	return pg_atomic_compare_exchange_u64(&attention->word, &word, (quiet << STATE_BITS) | CS_ASLEEP);
}
