/*-------------------------------------------------------------------------
 *
 * database_identity.h
 *		Which database sends: this one, or the one that it is a copy of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_DATABASE_IDENTITY_H
#define CS_DELIVERY_DATABASE_IDENTITY_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* All within cs_sql_enter(). */
extern bool cs_database_identity_claim(int endpoint);
extern void cs_database_identity_require(int endpoint);
extern void cs_database_identity_check_timeline(void);
extern void cs_database_identity_warn(void);
extern void cs_database_identity_mark_stale(int endpoint, TimestampTz before, bool again);

#endif							/* CS_DELIVERY_DATABASE_IDENTITY_H */
