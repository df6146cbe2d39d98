/*-------------------------------------------------------------------------
 *
 * trigger.h
 *		The triggers of a watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_TRIGGER_H
#define CS_TRIGGER_H

#include "postgres.h"

#include "definition.h"

/* All within cs_sql_enter(). */
extern void cs_trigger_create(const CsWatch *watch, bool always);
extern void cs_trigger_drop(int watch);
extern void cs_trigger_follow(void);

#endif							/* CS_TRIGGER_H */
