/*-------------------------------------------------------------------------
 *
 * orphans.h
 *		Drop what belongs to roles, servers or tables that do not exist any more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ORPHANS_H
#define CS_DELIVERY_ORPHANS_H

/* Drop it, in the scope of cs_sql_enter(); what somebody has locked goes later. */
extern void cs_orphans_drop(void);

#endif							/* CS_DELIVERY_ORPHANS_H */
