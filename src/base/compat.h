/*-------------------------------------------------------------------------
 *
 * compat.h
 *		One name for what differs between the versions of PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_COMPAT_H
#define CS_BASE_COMPAT_H

#include "postgres.h"

#include "access/tableam.h"
#include "fmgr.h"
#include "utils/jsonb.h"

#if PG_VERSION_NUM < 150000
#error "contactsync needs PostgreSQL 15 or later"
#endif

/* 16 exports what SQL calls by itself; before, a symbol is hidden unless marked. */
#define CS_FUNCTION(name) \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

/* 16 replaced the functions for each class by one for all. */
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

/* 16 keeps beside the tables of a query which of their columns are selected. */
#if PG_VERSION_NUM >= 160000
#define cs_selected_columns(query, entry) \
	((entry)->perminfoindex == 0 ? NULL : getRTEPermissionInfo((query)->rteperminfos, entry)->selectedCols)
#else
#define cs_selected_columns(query, entry)	((void) (query), (entry)->selectedCols)
#endif

/* 17 wants to know where the lexer of a JSON text in UTF-8 is to be. */
#if PG_VERSION_NUM >= 170000
#define cs_json_lexer(text, len) \
	makeJsonLexContextCstringLen(NULL, text, len, PG_UTF8, false)
#else
#define cs_json_lexer(text, len) \
	makeJsonLexContextCstringLen(unconstify(char *, text), (int) (len), PG_UTF8, false)
#endif

/* 16 reports which indexes an update concerns. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes CsUpdateIndexes;
#else
typedef bool CsUpdateIndexes;
#endif
#if PG_VERSION_NUM >= 190000
#define cs_insert_index_tuples(result, slot, estate, update) \
	ExecInsertIndexTuples(result, estate, (update) ? EIIT_IS_UPDATE : 0, slot, NIL, NULL)
#elif PG_VERSION_NUM >= 160000
#define cs_insert_index_tuples(result, slot, estate, update) \
	ExecInsertIndexTuples(result, slot, estate, update, false, NULL, NIL, false)
#else
#define cs_insert_index_tuples(result, slot, estate, update) \
	ExecInsertIndexTuples(result, slot, estate, update, false, NULL, NIL)
#endif

/* 19 takes options. */
#if PG_VERSION_NUM >= 190000
#define cs_tuple_update(rel, tid, slot, snapshot, failure, lockmode, update_indexes) \
	table_tuple_update(rel, tid, slot, GetCurrentCommandId(true), 0, snapshot, InvalidSnapshot, true, \
					   failure, lockmode, update_indexes)
#define cs_tuple_delete(rel, tid, snapshot, failure) \
	table_tuple_delete(rel, tid, GetCurrentCommandId(true), 0, snapshot, InvalidSnapshot, true, failure)
#else
#define cs_tuple_update(rel, tid, slot, snapshot, failure, lockmode, update_indexes) \
	table_tuple_update(rel, tid, slot, GetCurrentCommandId(true), snapshot, InvalidSnapshot, true, \
					   failure, lockmode, update_indexes)
#define cs_tuple_delete(rel, tid, snapshot, failure) \
	table_tuple_delete(rel, tid, GetCurrentCommandId(true), snapshot, InvalidSnapshot, true, failure, false)
#endif

/*
 * Until 16, whoever may create roles administers all of them.  An SQL condition; its
 * argument is a row of pg_authid.
 */
#if PG_VERSION_NUM >= 160000
#define CS_SQL_ADMINISTERS_ALL(role)	role ".rolsuper"
#else
#define CS_SQL_ADMINISTERS_ALL(role)	"(" role ".rolsuper OR " role ".rolcreaterole)"
#endif

/* 16 gave the settings a memory context of their own. */
#if PG_VERSION_NUM >= 160000
#define cs_guc_malloc(size)	guc_malloc(LOG, size)
#define cs_guc_free(pointer)	guc_free(pointer)
#else
#define cs_guc_malloc(size)	malloc(size)
#define cs_guc_free(pointer)	free(pointer)
#endif

/* 16 can leave a sorted value where it is. */
#if PG_VERSION_NUM >= 160000
#define cs_tuplesort_getdatum(state, value, isnull) \
	tuplesort_getdatum(state, true, false, value, isnull, NULL)
#else
#define cs_tuplesort_getdatum(state, value, isnull) \
	tuplesort_getdatum(state, true, value, isnull, NULL)
#endif

/* 17 can also look for a stronger lock. */
#if PG_VERSION_NUM >= 170000
#define cs_lock_held(tag, mode)	LockHeldByMe(tag, mode, false)
#else
#define cs_lock_held(tag, mode)	LockHeldByMe(tag, mode)
#endif

/* 17 gave processes a number of their own. */
#if PG_VERSION_NUM >= 170000
#define CS_MY_PROC_NUMBER	MyProcNumber
#else
#define CS_MY_PROC_NUMBER	(MyProc->pgprocno)
#endif

/* 17 renamed the counters of transactions. */
#if PG_VERSION_NUM >= 170000
#define CS_OLDEST_CLOG_XID	(TransamVariables->oldestClogXid)
#else
#define CS_OLDEST_CLOG_XID	(ShmemVariableCache->oldestClogXid)
#endif

/* 17 lets a resource owner own wait event sets; ours live until they are freed. */
#if PG_VERSION_NUM >= 170000
#define cs_create_wait_event_set(nevents)	CreateWaitEventSet(NULL, nevents)
#else
#define cs_create_wait_event_set(nevents)	CreateWaitEventSet(TopMemoryContext, nevents)
#endif

/* 18 has generated columns that are computed when they are read, and null in a row. */
#if PG_VERSION_NUM >= 180000
#define CS_IS_VIRTUAL(attribute)	((attribute)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#else
#define CS_IS_VIRTUAL(attribute)	((void) (attribute), false)
#endif

/* 18 has what is grouped by in an entry of the range table. */
#if PG_VERSION_NUM >= 180000
#define cs_grouped_expressions(entry)	((entry)->rtekind == RTE_GROUP ? (entry)->groupexprs : NIL)
#else
#define cs_grouped_expressions(entry)	((void) (entry), NIL)
#endif

/* 18 can leave out a deferrable primary key. */
#if PG_VERSION_NUM >= 180000
#define cs_primary_key_index(rel)	RelationGetPrimaryKeyIndex(rel, false)
#else
#define cs_primary_key_index(rel)	RelationGetPrimaryKeyIndex(rel)
#endif

/* 18 counts index searches, and 19 takes options. */
#if PG_VERSION_NUM >= 190000
#define cs_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0, SO_NONE)
#elif PG_VERSION_NUM >= 180000
#define cs_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#else
#define cs_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, nkeys, 0)
#endif

/* 16 wants to know the table, 17 takes no snapshot, and 19 can leave out the way down. */
#if PG_VERSION_NUM >= 190000
#define cs_bt_search(index, heap, key, buffer, snapshot) \
	_bt_search(index, heap, key, buffer, BT_READ, true)
#elif PG_VERSION_NUM >= 170000
#define cs_bt_search(index, heap, key, buffer, snapshot) \
	_bt_search(index, heap, key, buffer, BT_READ)
#elif PG_VERSION_NUM >= 160000
#define cs_bt_search(index, heap, key, buffer, snapshot) \
	_bt_search(index, heap, key, buffer, BT_READ, snapshot)
#else
#define cs_bt_search(index, heap, key, buffer, snapshot) \
	_bt_search(index, key, buffer, BT_READ, snapshot)
#endif

/* 19 wants to know when a row type is complete. */
#if PG_VERSION_NUM >= 190000
#define cs_tuple_desc_finalize(desc)	TupleDescFinalize(desc)
#else
#define cs_tuple_desc_finalize(desc)	((void) (desc))
#endif

/* 19 keeps the result of building JSON beside its state. */
#if PG_VERSION_NUM >= 190000
typedef JsonbInState CsJsonbState;
#define cs_jsonb_push(state, token, value)	pushJsonbValue(state, token, value)
#else
typedef struct CsJsonbState
{
	JsonbParseState *parse;
	JsonbValue *result;
} CsJsonbState;
#define cs_jsonb_push(state, token, value) \
	((state)->result = pushJsonbValue(&(state)->parse, token, value))
#endif

#endif							/* CS_BASE_COMPAT_H */
