/*-------------------------------------------------------------------------
 *
 * invalidation.h
 *		Noticing that definitions have changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_INVALIDATION_H
#define CS_BASE_INVALIDATION_H

#include "postgres.h"

/* What whoever delivers keeps in memory, and reads again once it has changed. */
typedef enum CsDefinition
{
	CS_DEFINITIONS,				/* which endpoints, watches and scans there
								 * are */
	CS_DEFINITION_SERVERS,		/* options of servers and user mappings,
								 * rights on servers; sent by the server
								 * itself */
	CS_DEFINITION_PAUSES,
	CS_DEFINITION_TRACED
} CsDefinition;

extern void cs_invalidation_begin(void);
extern bool cs_invalidation_pending(CsDefinition definition);
extern bool cs_invalidation_take(CsDefinition definition);
extern void cs_invalidation_send(CsDefinition definition);
extern void cs_invalidation_hold(bool hold);

#endif							/* CS_BASE_INVALIDATION_H */
