/*-------------------------------------------------------------------------
 *
 * table_trigger.h
 *		The triggers of a watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_TABLE_TRIGGER_H
#define CS_STORE_TABLE_TRIGGER_H

#include "postgres.h"

#include "store/watch.h"

/* Columns that were renamed. */
typedef struct CsRenames
{
	int			n;
	char	  **older;
	char	  **newer;
} CsRenames;

/* Return the new name of a column, or NULL. */
extern const char *cs_table_trigger_new_name(const CsRenames *renames, const char *older);

extern void cs_table_trigger_lock(Oid source);

/* All within cs_sql_enter(). */
/* "fires": for which rows, as pg_trigger.tgenabled has it: TRIGGER_FIRES_... */
extern void cs_table_trigger_create(const CsWatch *watch, char fires);
extern void cs_table_trigger_create_related(const CsWatch *watch, const CsRelated *related, char fires);
extern void cs_table_trigger_alter(const CsWatch *watch);
extern void cs_table_trigger_enable(const CsWatch *watch, char fires);
extern char cs_table_trigger_fires(const CsWatch *watch);
extern void cs_table_trigger_rename(const CsWatch *watch, const CsRelated *related, const CsRenames *renames);
extern void cs_table_trigger_follow(const CsWatch *watch, Oid relid);
extern void cs_table_trigger_drop(int endpoint, int watch);
extern void cs_table_trigger_drop_related(const CsWatch *watch, const CsRelated *related);

#endif							/* CS_STORE_TABLE_TRIGGER_H */
