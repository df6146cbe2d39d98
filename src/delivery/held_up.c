/*-------------------------------------------------------------------------
 *
 * held_up.c
 *		Accounts that a lock of somebody else holds up.
 *
 * Such an account is left alone for a while, longer each time, because every try
 * holds up all others for as long as it waits for the lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/held_up.h"

/* It is tried again after (s) this, twice this and so on, up to the maximum. */
#define PAUSE		0.5
#define MAX_PAUSE	10.0

typedef struct CsHeldUp
{
	int			endpoint;
	int			times;			/* in a row */
	double		until;
} CsHeldUp;

static CsHeldUp *
find(const List *all, int endpoint)
{
	ListCell   *lc;

	foreach(lc, all)
		if (((CsHeldUp *) lfirst(lc))->endpoint == endpoint)
		return lfirst(lc);
	return NULL;
}

/* A transaction of the account was ended by a lock.  Memory is of the current context. */
List *
cs_held_up_note(List *all, int endpoint, double now)
{
	CsHeldUp   *held_up = find(all, endpoint);

	if (held_up == NULL)
	{
		held_up = palloc0(sizeof(CsHeldUp));
		held_up->endpoint = endpoint;
		all = lappend(all, held_up);
	}
	held_up->until = now + Min(PAUSE * (1 << Min(held_up->times++, 10)), MAX_PAUSE);
	return all;
}

/*
 * The lock is still there, as was seen without waiting for it, so that the pause need
 * not grow.  Return until when the account is left alone.
 */
double
cs_held_up_wait(const List *all, int endpoint, double now)
{
	return find(all, endpoint)->until = now + PAUSE;
}

/* It is not held up any more. */
List *
cs_held_up_forget(List *all, int endpoint)
{
	CsHeldUp   *held_up = find(all, endpoint);

	all = list_delete_ptr(all, held_up);
	pfree(held_up);
	return all;
}

/* Return until when it is left alone; 0: it is not held up. */
double
cs_held_up_until(const List *all, int endpoint)
{
	const CsHeldUp *held_up = find(all, endpoint);

	return held_up ? held_up->until : 0;
}
