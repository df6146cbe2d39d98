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
	CsHeeded   *heeded = (CsHeeded *) DatumGetPointer(arg);

	if (relid == heeded->relid || !OidIsValid(relid))
		heeded->changed = true;
}

static Oid
relid_of(const char *table)
{
	return get_relname_relid(table, get_namespace_oid(CS_SCHEMA, false));
}

void
cs_heed_begin(CsHeeded *heeded)
{
	if (!heeded->registered)
		CacheRegisterRelcacheCallback(note_change, PointerGetDatum(heeded));
	heeded->registered = true;
	heeded->relid = relid_of(heeded->table);
}

bool
cs_heed_take_changes(CsHeeded *heeded)
{
	bool		changed = heeded->changed;

	heeded->changed = false;
	return changed;
}

void
cs_heed_tell(const CsHeeded *heeded)
{
	CacheInvalidateRelcacheByRelid(relid_of(heeded->table));
	cs_shmem_wake_late_at_commit();
}
