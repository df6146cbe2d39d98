/*-------------------------------------------------------------------------
 *
 * init.c
 *		Mirrors tables of customers to e-mail marketing providers.
 *
 * This is where the library is loaded; docs/architecture.md is the map.
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

#include "base/contactsync.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "capture/capture.h"
#include "worker/launcher.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static object_access_hook_type prev_object_access_hook = NULL;

/*
 * The worker has to see that its extension may be gone or updated, or the right
 * to use an account gone with the user mapping.  What is made or altered of the
 * latter passes the validator.
 */
static void
note_object(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, classId, objectId, subId, arg);
	if ((access == OAT_DROP &&
		 (classId == ExtensionRelationId || classId == ForeignServerRelationId ||
		  classId == UserMappingRelationId)) ||
		(access == OAT_POST_ALTER && classId == ExtensionRelationId))
		cs_shmem_reload_at_commit();
}

void
_PG_init(void)
{
	cs_settings_define();
	cs_capture_init();

	if (!process_shared_preload_libraries_in_progress)
		return;
	cs_shmem_init();
	cs_launcher_register();
	cs_launcher_hook();
	prev_object_access_hook = object_access_hook;
	object_access_hook = note_object;
}
