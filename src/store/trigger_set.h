/*-------------------------------------------------------------------------
 *
 * trigger_set.h
 *		Which triggers a watch has, and with which arguments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_TRIGGER_SET_H
#define CS_STORE_TRIGGER_SET_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "store/watch.h"

/* What matters here of a relation. */
typedef struct CsTable
{
	Oid			relid;
	Oid			owner;
	bool		is_partition;
} CsTable;

/* The triggers of a watch on its source, or on a related table. */
typedef struct CsTriggerSet
{
	int			endpoint;
	int			watch;
	const CsRelated *related;	/* NULL: the source */
	Oid			relid;
	List	   *key;			/* arguments that name the watch and its key */
} CsTriggerSet;

/* Fill "table"; return false unless it exists and can have triggers of ours. */
extern bool cs_trigger_set_read_table(Oid relid, CsTable *table);

/* Return the OIDs of a table and of all that inherit from it, itself first; or NIL. */
extern List *cs_trigger_set_tree(Oid relid);

/* Return the set of a watch on its source, or on a related table; or all of its sets:
 * of CsTriggerSet *, palloc'd. */
extern CsTriggerSet *cs_trigger_set_make(const CsWatch *watch, const CsRelated *related);
extern List *cs_trigger_set_all(const CsWatch *watch);

/* Return the triggers of a set on one table, or on all of its tables: of CsOwnTrigger *. */
extern List *cs_trigger_set_on(const CsTriggerSet *set, Oid relid);
extern List *cs_trigger_set_triggers(const CsTriggerSet *set);

/* Arguments are of char *, as capture.c reads them. */
extern bool cs_trigger_set_same_arguments(List *a, List *b);

/* Return those of the triggers of a watch that is being made. */
extern List *cs_trigger_set_made_arguments(const CsWatch *watch, const CsTriggerSet *set);

/*
 * Return those that the triggers of a stored watch have, by those on its table; NIL if
 * there are none.
 */
extern List *cs_trigger_set_stored_arguments(const CsTriggerSet *set, char *fires);

#endif							/* CS_STORE_TRIGGER_SET_H */
