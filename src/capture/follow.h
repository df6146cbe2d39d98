/*-------------------------------------------------------------------------
 *
 * follow.h
 *		Watches follow columns that are renamed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_CAPTURE_FOLLOW_H
#define CS_CAPTURE_FOLLOW_H

#include "postgres.h"

/* Both within cs_sql_enter(). */
extern bool cs_follow_columns(void);
extern void cs_follow_from_now(int endpoint);

#endif							/* CS_CAPTURE_FOLLOW_H */
