/*-------------------------------------------------------------------------
 *
 * room.h
 *		What all lanes of a delivery may have in memory together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ROOM_H
#define CS_DELIVERY_ROOM_H

#include "postgres.h"

typedef struct CsRoom
{
	int			nlanes;
	int			nchanges;		/* that were queued, in all lanes */
	int64		contact_bytes;	/* of contacts that were read and have no
								 * stored outcome */
	int64		read_bytes;		/* of all that were read since memory was
								 * given back */
} CsRoom;

extern int	cs_room_share(const CsRoom *room);
extern int	cs_room_for_changes(const CsRoom *room, int held, int needed);
extern int64 cs_room_for_contacts(const CsRoom *room, int64 held);
extern void cs_room_give_back(CsRoom *room, bool idle);

#endif							/* CS_DELIVERY_ROOM_H */
