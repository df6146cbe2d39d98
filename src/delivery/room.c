/*-------------------------------------------------------------------------
 *
 * room.c
 *		What all lanes of a delivery may have in memory together.
 *
 * A lane holds a window of its queue, and an account the contacts that are in
 * flight.  Each would be a bounded amount of memory, but a database can have a
 * thousand servers with a backlog.  So they have something in common that any of
 * them can use, and beside that a share each, which is smaller the more there
 * are: nobody is kept from sending by what others hold.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/settings.h"
#include "delivery/room.h"

/* Queued changes that all lanes share beside max_pending in common, and the least and
 * the most for each lane.  A change takes about 700 bytes. */
#define SHARED_CHANGES	50000
#define LEAST_CHANGES	100
#define MOST_CHANGES	5000

/* Bytes of contacts in common, and those that all accounts share, with the least and
 * the most for each. */
#define COMMON_BYTES	(24 * 1024 * 1024)
#define SHARED_BYTES	(64 * 1024 * 1024)
#define LEAST_BYTES		(256 * 1024)
#define MOST_BYTES		(4 * 1024 * 1024)

/* Bytes of contacts that were read after which memory is given back: it takes some
 * milliseconds until it is there again. */
#define WORTH_GIVING		(128 * 1024 * 1024)
#define WORTH_GIVING_IDLE	(1024 * 1024)

/* How many changes a lane may hold whatever others do. */
int
cs_room_share(const CsRoom *room)
{
	int			share = SHARED_CHANGES / Max(room->nlanes, 1);

	return Min(Max(Min(share, MOST_CHANGES), LEAST_CHANGES), cs_max_pending);
}

/*
 * How many more changes a lane may hold that holds so many.  "needed": so many it has
 * to see whatever others hold.
 */
int
cs_room_for_changes(const CsRoom *room, int held, int needed)
{
	int			share = cs_room_share(room) + needed;

	return Min(cs_max_pending - held, Max(share - held, cs_max_pending - room->nchanges));
}

/* How many more bytes of contacts an account may hold that holds so many. */
int64
cs_room_for_contacts(const CsRoom *room, int64 held)
{
	int64		share = SHARED_BYTES / Max(room->nlanes, 1);

	share = Max(Min(share, MOST_BYTES), LEAST_BYTES);
	return Max(share - held, COMMON_BYTES - room->contact_bytes);
}

/*
 * Give memory that was freed back to the operating system, if it can be much; "idle":
 * nothing is to be sent.  The C library would keep what is free between what is not,
 * which can be a multiple of it.
 */
void
cs_room_give_back(CsRoom *room, bool idle)
{
	if (room->read_bytes < (idle ? WORTH_GIVING_IDLE : WORTH_GIVING))
		return;
	room->read_bytes = 0;
#ifdef __GLIBC__
	(void) malloc_trim(0);
#endif
}
