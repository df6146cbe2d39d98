/*-------------------------------------------------------------------------
 *
 * trigger_catalog.h
 *		The rows of pg_trigger that belong to watches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_TRIGGER_CATALOG_H
#define CS_STORE_TRIGGER_CATALOG_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Whose triggers are meant: those on the source, on any table, or by the number that they
 * have on a related table. */
#define CS_OF_SOURCE	0
#define CS_OF_ANY		PG_INT32_MIN

/* A trigger that calls contactsync.capture(), or capture_related(), for a watch. */
typedef struct CsOwnTrigger
{
	Oid			oid;
	Oid			relid;
	char	   *name;
	bool		on_truncate;	/* or else for each row */
	bool		is_clone;		/* of that of a partitioned table */
	char		enabled;		/* TRIGGER_FIRES_... */
	List	   *args;			/* of char *, as capture.c reads them */
} CsOwnTrigger;

extern List *cs_trigger_catalog_of_table(Oid relid, int endpoint, int watch, int related);
extern List *cs_trigger_catalog_tables(int endpoint, int watch);
extern void cs_trigger_catalog_set_arguments(const CsOwnTrigger *trigger, List *args);

#endif							/* CS_STORE_TRIGGER_CATALOG_H */
