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

/* A trigger that calls contactsync.capture() for a watch. */
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

extern List *cs_trigger_catalog_of_table(Oid relid, int endpoint, int watch);
extern List *cs_trigger_catalog_tables(int endpoint, int watch);
extern void cs_trigger_catalog_set_arguments(const CsOwnTrigger *trigger, List *args);

#endif							/* CS_STORE_TRIGGER_CATALOG_H */
