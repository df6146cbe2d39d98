/*-------------------------------------------------------------------------
 *
 * init.c
 *		Loading of the library, which mirrors tables of customers to e-mail
 *		marketing providers.
 *
 * docs/architecture.md explains how the sources are organized.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "base/activity.h"
#include "base/contactsync.h"
#include "base/invalidation.h"
#include "base/settings.h"
#include "base/slots.h"
#include "base/wakeup.h"
#include "capture/dirty_set.h"
#include "store/definition_store.h"
#include "worker/launcher.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static object_access_hook_type prev_object_access_hook = NULL;

/*
 * Have definitions reloaded when the extension is dropped or updated, or a server
 * or user mapping is dropped.  The validator sees those that are created or
 * altered.
 */
static void
reload_after_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, classId, objectId, subId, arg);
	if ((access == OAT_DROP &&
		 (classId == ExtensionRelationId || classId == ForeignServerRelationId ||
		  classId == UserMappingRelationId)) ||
		(access == OAT_POST_ALTER && classId == ExtensionRelationId))
		cs_invalidation_send(CS_DEFINITIONS);
}

void
_PG_init(void)
{
	cs_settings_define();
	cs_dirty_set_init();
	cs_definition_store_init();

	if (!process_shared_preload_libraries_in_progress)
		return;
	cs_slots_init();
	cs_wakeup_init();
	cs_activity_init();
	cs_launcher_register();
	cs_launcher_hook();
	prev_object_access_hook = object_access_hook;
	object_access_hook = reload_after_access;
}
