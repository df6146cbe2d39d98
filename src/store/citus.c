/*-------------------------------------------------------------------------
 *
 * citus.c
 *		Tables whose rows are in shards, as Citus has them.
 *
 * On the coordinator, such a table is empty, and what reads it is planned by Citus: for
 * the values of its parameters, without LATERAL subqueries that stay by themselves, and
 * without those that have no columns (docs/growth.md).  Its rows come and go in the
 * shards, on whichever node, where the triggers of the table are not known by their
 * watch.
 *
 * Citus is known by its catalog, which only a superuser could imitate.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_namespace.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "store/citus.h"

bool
cs_citus_has(Oid relid)
{
	Oid			catalog = get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE);
	AttrNumber	attnum = OidIsValid(catalog) ? get_attnum(catalog, "logicalrelid") : InvalidAttrNumber;
	ScanKeyData key;
	SysScanDesc scan;
	Relation	rel;
	bool		found;

	if (attnum == InvalidAttrNumber)
		return false;
	rel = table_open(catalog, AccessShareLock);
	ScanKeyInit(&key, attnum, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

void
cs_citus_check_triggers(Oid relid)
{
	if (cs_citus_has(relid))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" belongs to Citus, so its triggers do not tell of its changes", get_rel_name(relid)),
				 errhint("Use capture => 'poll' with poll_column => '...', a column that every change sets to now().")));
}
