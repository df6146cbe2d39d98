/*-------------------------------------------------------------------------
 *
 * read_batch.c
 *		The memory of contacts that were read together.
 *
 * The contacts of one read go into different calls, and their outcomes are
 * stored at different times.  The reader, each call and each group of outcomes
 * count as users; the memory is freed when the last of them releases it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "delivery/read_batch.h"

/* Create a batch with one user. */
CsReadBatch *
cs_read_batch_create(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "contactsync contacts",
												  ALLOCSET_DEFAULT_SIZES);
	CsReadBatch *read_batch = MemoryContextAlloc(context, sizeof(CsReadBatch));

	read_batch->context = context;
	read_batch->users = 1;
	return read_batch;
}

void
cs_read_batch_retain(CsReadBatch *read_batch)
{
	read_batch->users++;
}

void
cs_read_batch_release(CsReadBatch *read_batch)
{
	if (--read_batch->users == 0)
		MemoryContextDelete(read_batch->context);
}
