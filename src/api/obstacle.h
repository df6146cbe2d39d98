/*-------------------------------------------------------------------------
 *
 * obstacle.h
 *		What keeps delivery from going on, as contactsync.status says it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_OBSTACLE_H
#define CS_API_OBSTACLE_H

#include "postgres.h"

/* Texts are palloc'd. */
typedef struct CsObstacle
{
	char	   *state;			/* of contactsync.status */
	char	   *text;			/* a message; NULL: there is no obstacle */
	char	   *hint;			/* or NULL */
	bool		certain;		/* nothing goes on; otherwise it may */
} CsObstacle;

extern void cs_obstacle_read(Oid serverid, CsObstacle *obstacle);

#endif							/* CS_API_OBSTACLE_H */
