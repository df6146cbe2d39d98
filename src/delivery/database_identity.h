/*-------------------------------------------------------------------------
 *
 * database_identity.h
 *		Which database sends: this one, or the one that it is a copy of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HOME_H
#define CS_HOME_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Of this extension in this database of this cluster; palloc'd. */
extern char *cs_home_name(void);

/* All within cs_sql_enter(). */
extern bool cs_home_claim(int endpoint);
extern void cs_home_require(int endpoint);
extern void cs_home_note_timeline(void);
extern void cs_home_warn(void);
extern void cs_home_doubt(int endpoint, TimestampTz before);

#endif							/* CS_HOME_H */
