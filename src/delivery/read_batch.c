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

static void
end_batch(void *arg)
{
	const CsReadBatch *read_batch = arg;

	read_batch->room->contact_bytes -= read_batch->bytes;
	*read_batch->account_bytes -= read_batch->bytes;
}

/* Create a batch with one user, which counts in the room and in *account_bytes. */
CsReadBatch *
cs_read_batch_create(MemoryContext parent, CsRoom *room, int64 *account_bytes)
{
	MemoryContext context = AllocSetContextCreate(parent, "contactsync contacts",
												  ALLOCSET_DEFAULT_SIZES);
	CsReadBatch *read_batch = MemoryContextAlloc(context, sizeof(CsReadBatch));

	read_batch->context = context;
	read_batch->users = 1;
	read_batch->bytes = 0;
	read_batch->room = room;
	read_batch->account_bytes = account_bytes;
	read_batch->end.func = end_batch;
	read_batch->end.arg = read_batch;
	MemoryContextRegisterResetCallback(context, &read_batch->end);
	return read_batch;
}

/* Count what the batch takes, now that it is complete, and return it. */
int64
cs_read_batch_weigh(CsReadBatch *read_batch)
{
	int64		bytes = MemoryContextMemAllocated(read_batch->context, true);

	read_batch->room->contact_bytes += bytes - read_batch->bytes;
	read_batch->room->read_bytes += bytes - read_batch->bytes;
	*read_batch->account_bytes += bytes - read_batch->bytes;
	read_batch->bytes = bytes;
	return bytes;
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
