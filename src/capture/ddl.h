/*-------------------------------------------------------------------------
 *
 * ddl.h
 *		What becomes of watches when tables and servers change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_CAPTURE_DDL_H
#define CS_CAPTURE_DDL_H

#include "postgres.h"

/* Both within cs_sql_enter(). */
extern bool cs_ddl_follow_renames(int watch);
extern void cs_ddl_reset_columns(int endpoint);

#endif							/* CS_CAPTURE_DDL_H */
