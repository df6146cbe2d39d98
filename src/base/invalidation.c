/*-------------------------------------------------------------------------
 *
 * invalidation.c
 *		Being told that one of our small tables was changed.
 *
 * What sessions say to whoever delivers is in tables that are kept in memory
 * there.  That they changed is sent as an invalidation of the table, which costs
 * nothing to look for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "base/contactsync.h"
#include "base/invalidation.h"
#include "base/shmem.h"

static void
note_change(Datum arg, Oid relid)
{
	CsInvalidation *invalidation = (CsInvalidation *) DatumGetPointer(arg);

	if (relid == invalidation->relid || !OidIsValid(relid))
		invalidation->changed = true;
}

static Oid
relid_of(const char *table)
{
	return get_relname_relid(table, get_namespace_oid(CS_SCHEMA, false));
}

void
cs_invalidation_register(CsInvalidation *invalidation)
{
	if (!invalidation->registered)
		CacheRegisterRelcacheCallback(note_change, PointerGetDatum(invalidation));
	invalidation->registered = true;
	invalidation->relid = relid_of(invalidation->table);
}

bool
cs_invalidation_take(CsInvalidation *invalidation)
{
	bool		changed = invalidation->changed;

	invalidation->changed = false;
	return changed;
}

void
cs_invalidation_send(const CsInvalidation *invalidation)
{
	CacheInvalidateRelcacheByRelid(relid_of(invalidation->table));
	cs_shmem_wake_late_at_commit();
}
