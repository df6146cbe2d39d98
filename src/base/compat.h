/*-------------------------------------------------------------------------
 *
 * compat.h
 *		What differs between the versions of PostgreSQL, under one name each.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_COMPAT_H
#define CS_BASE_COMPAT_H

#include "postgres.h"

#include "access/tableam.h"
#include "fmgr.h"

#if PG_VERSION_NUM < 150000
#error "contactsync needs PostgreSQL 15 or later"
#endif

/* 16 exports by itself what SQL calls; symbols are hidden unless they say so. */
#define CS_FUNCTION(name) \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

/* 16 replaced one function per class by one for all. */
#if PG_VERSION_NUM >= 160000
#define cs_server_aclcheck(serverid, roleid, mode) \
	object_aclcheck(ForeignServerRelationId, serverid, roleid, mode)
#define cs_owns_database(dboid, roleid) \
	object_ownercheck(DatabaseRelationId, dboid, roleid)
#else
#define cs_server_aclcheck(serverid, roleid, mode) \
	pg_foreign_server_aclcheck(serverid, roleid, mode)
#define cs_owns_database(dboid, roleid) \
	pg_database_ownercheck(dboid, roleid)
#endif

/* 16 tells which indexes an update concerns. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes CsUpdateIndexes;
#define cs_insert_index_tuples(result, slot, estate, update) \
	ExecInsertIndexTuples(result, slot, estate, update, false, NULL, NIL, false)
#else
typedef bool CsUpdateIndexes;
#define cs_insert_index_tuples(result, slot, estate, update) \
	ExecInsertIndexTuples(result, slot, estate, update, false, NULL, NIL)
#endif

/* 17 can be asked for a stronger lock as well. */
#if PG_VERSION_NUM >= 170000
#define cs_lock_held(tag, mode)	LockHeldByMe(tag, mode, false)
#else
#define cs_lock_held(tag, mode)	LockHeldByMe(tag, mode)
#endif

/* 17 gave processes numbers of their own. */
#if PG_VERSION_NUM >= 170000
#define CS_MY_PROC_NUMBER	MyProcNumber
#else
#define CS_MY_PROC_NUMBER	(MyProc->pgprocno)
#endif

/* 17 has the counters of transactions under another name. */
#if PG_VERSION_NUM >= 170000
#define CS_OLDEST_CLOG_XID	(TransamVariables->oldestClogXid)
#else
#define CS_OLDEST_CLOG_XID	(ShmemVariableCache->oldestClogXid)
#endif

/* 17 hangs wait event sets on a resource owner; ours live until they are freed. */
#if PG_VERSION_NUM >= 170000
#define cs_create_wait_event_set(nevents)	CreateWaitEventSet(NULL, nevents)
#else
#define cs_create_wait_event_set(nevents)	CreateWaitEventSet(TopMemoryContext, nevents)
#endif

#endif							/* CS_BASE_COMPAT_H */
