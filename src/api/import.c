/*-------------------------------------------------------------------------
 *
 * import.c
 *		SQL functions that import and reconcile.
 *
 * They only store a scan of the source, which delivery performs; see
 * delivery/scan.c.  With dry_run, the source is scanned here, in the transaction
 * of the caller, and nothing is written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"

#include "api/argument.h"
#include "api/import.h"
#include "base/compat.h"
#include "base/contactsync.h"
#include "base/invalidation.h"
#include "base/sql.h"
#include "base/text.h"
#include "delivery/guard.h"
#include "delivery/row_contact.h"
#include "store/scan_store.h"
#include "provider/endpoint.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/policy.h"
#include "store/contact_state.h"
#include "store/failure.h"
#include "store/source.h"
#include "store/source_page.h"
#include "store/source_row.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_import);
CS_FUNCTION(contactsync_reconcile);
CS_FUNCTION(contactsync_cancel);

#define ROWS_AT_ONCE	1000

/* So many keys are shown as examples. */
#define MAX_EXAMPLES	5

const char *const cs_import_outcomes[CS_DIFFERENCES] = {"new", "changed", "unchanged", "refused", "withheld", "invalid", "filtered", "gone"};

/* The arguments of contactsync_import() and contactsync_reconcile(). */
typedef struct CsScanOrder
{
	CsScanKind	kind;
	CsWatch    *watch;
	CsEndpoint *endpoint;
	char	   *filter;
	double		rate;
	char	   *automations;
	const char *claims;			/* NULL: as of the watch */
	bool		dry_run;
} CsScanOrder;

/*
 * Arguments
 */

static void
read_filter(CsScanOrder *order, text * filter)
{
	Bitmapset  *columns = NULL;
	Oid			type;

	order->filter = text_to_cstring(filter);
	LockRelationOid(order->watch->source, AccessShareLock);
	type = cs_source_check_expression(order->watch, order->filter, "filter", NULL, &columns);
	if (getBaseType(type) != BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("filter must be of type boolean, not %s", format_type_be(type))));
}

/* Find the caller's watch and its server. */
static void
find_watch(CsScanOrder *order, Oid source, const char *server)
{
	order->endpoint = cs_server_read_unmapped(cs_server_find(server, GetUserId()));
	order->watch = cs_watch_find(source, server, GetUserId());
}

/* source, server, filter, rate, automations, dry_run, claims */
static void
read_order(FunctionCallInfo fcinfo, CsScanKind kind, CsScanOrder *order)
{
	const char *server;

	cs_argument_require(fcinfo, 0, "source");
	cs_argument_require(fcinfo, 1, "server");
	server = NameStr(*PG_GETARG_NAME(1));
	memset(order, 0, sizeof(CsScanOrder));
	order->kind = kind;
	find_watch(order, PG_GETARG_OID(0), server);
	if (!PG_ARGISNULL(2))
		read_filter(order, PG_GETARG_TEXT_PP(2));
	order->rate = PG_ARGISNULL(3) ? 0 : PG_GETARG_FLOAT8(3);
	if (!PG_ARGISNULL(3) && !(order->rate > 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"rate\" must be greater than 0"),
				 errhint("Specify contacts per second, or omit \"rate\" to send as fast as the provider allows.")));
	order->automations = cs_argument_text(fcinfo, 4);
	if (order->automations)
		cs_guard_check_automations(order->automations);
	order->dry_run = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	order->claims = order->watch->claims_all ? "all" : "new";
	if (!PG_ARGISNULL(6))
		order->claims = cs_policy_check_claims(text_to_cstring(PG_GETARG_TEXT_PP(6)));
}

/*
 * Dry run
 */

/* How many rows, and contacts, had an outcome for a reason. */
typedef struct CsTally
{
	CsDifference difference;
	char	   *reason;			/* or NULL */
	int64		rows;
	Tuplesortstate *contacts;	/* hashes of upsert keys, on disk if needed;
								 * NULL: they have none */
	int			nkeys;
	char	   *keys[MAX_EXAMPLES];
	char	   *message;		/* of the first row, or NULL */
} CsTally;

typedef struct CsDryRun
{
	const CsScanOrder *order;
	List	   *tallies;
	bool		counts_contacts;	/* beside rows */
	MemoryContext context;
} CsDryRun;

/* Find the tally of an outcome and reason, or begin it. */
static CsTally *
find_tally(CsDryRun *run, const CsComparison *found)
{
	CsTally    *tally;
	ListCell   *lc;

	foreach(lc, run->tallies)
	{
		tally = lfirst(lc);
		if (tally->difference == found->difference &&
			(tally->reason == NULL ? found->reason == NULL :
			 found->reason && strcmp(tally->reason, found->reason) == 0))
			return tally;
	}
	tally = palloc0(sizeof(CsTally));
	tally->difference = found->difference;
	tally->reason = found->reason ? pstrdup(found->reason) : NULL;
	tally->message = found->message ? pstrdup(found->message) : NULL;
	if (found->difference == CS_IS_WITHHELD)
		tally->message = pstrdup(cs_provider_mails_whoever_exists(run->order->endpoint));
	run->tallies = lappend(run->tallies, tally);
	return tally;
}

/* Add a row to the tally of its outcome and reason. */
static void
count(CsDryRun *run, const char *key, const CsComparison *found)
{
	MemoryContext old = MemoryContextSwitchTo(run->context);
	CsTally    *tally = find_tally(run, found);

	tally->rows++;
	if (tally->nkeys < MAX_EXAMPLES)
		tally->keys[tally->nkeys++] = pstrdup(key);
	if (found->upsert_key && run->counts_contacts)
	{
		uint64		hash = cs_text_hash(found->upsert_key, 0);

		if (tally->contacts == NULL)
			tally->contacts = tuplesort_begin_datum(INT8OID, Int8LessOperator, InvalidOid, false,
													work_mem, NULL, TUPLESORT_NONE);
		tuplesort_putdatum(tally->contacts, Int64GetDatum((int64) hash), false);
	}
	MemoryContextSwitchTo(old);
}

/* Return how many contacts the rows of a tally are. */
static int64
count_contacts(CsTally *tally)
{
	int64		previous = 0;
	int64		n = 0;
	Datum		value;
	bool		isnull;

	tuplesort_performsort(tally->contacts);
	while (cs_tuplesort_getdatum(tally->contacts, &value, &isnull))
	{
		if (n == 0 || DatumGetInt64(value) != previous)
			n++;
		previous = DatumGetInt64(value);
	}
	tuplesort_end(tally->contacts);
	tally->contacts = NULL;
	return n;
}

/* Return a row of the result: what a tally counted, or with no tally that a scan has started. */
static void
put_outcome(FunctionCallInfo fcinfo, const char *outcome, int64 rows, CsTally *tally)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[6] = {CStringGetTextDatum(outcome), 0, Int64GetDatum(rows)};
	bool		nulls[6] = {false, true, false, true, true, true};

	if (tally && tally->reason)
	{
		nulls[1] = false;
		values[1] = CStringGetTextDatum(tally->reason);
	}
	if (tally && tally->contacts)
	{
		nulls[3] = false;
		values[3] = Int64GetDatum(count_contacts(tally));
	}
	if (tally)
	{
		nulls[4] = false;
		values[4] = cs_sql_make_text_array(tally->nkeys, tally->keys);
	}
	if (tally && tally->message)
	{
		nulls[5] = false;
		values[5] = CStringGetTextDatum(tally->message);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Count the rows of the source, a page at a time. */
static void
count_rows(CsDryRun *run, const CsComparer *comparer, CsPages *pages, MemoryContext page)
{
	CsPagePosition rows[ROWS_AT_ONCE];
	CsPagePosition after = {0};
	char	   *keys[ROWS_AT_ONCE];
	CsComparison found[ROWS_AT_ONCE];
	int			n;

	do
	{
		MemoryContext old = MemoryContextSwitchTo(page);

		n = cs_source_page_next(pages, &after, ROWS_AT_ONCE, rows);
		for (int i = 0; i < n; i++)
			keys[i] = rows[i].key;
		if (n > 0)
			cs_row_contact_compare(comparer, n, keys, found);
		for (int i = 0; i < n; i++)
			count(run, keys[i], &found[i]);
		MemoryContextSwitchTo(old);
		if (n > 0)
			after.key = pstrdup(rows[n - 1].key);
		MemoryContextReset(page);
		CHECK_FOR_INTERRUPTS();
	} while (n == ROWS_AT_ONCE);
}

/* Count the contacts that would be removed because their rows are gone. */
static void
count_missing(CsDryRun *run, CsComparer *comparer, MemoryContext page)
{
	const CsWatch *watch = run->order->watch;
	char	   *keys[ROWS_AT_ONCE];
	CsComparison found[ROWS_AT_ONCE];
	char	   *after = "";
	int			n;

	do
	{
		MemoryContext old = MemoryContextSwitchTo(page);

		n = cs_row_contact_next_known(watch, after, ROWS_AT_ONCE, keys);
		if (n > 0)
			cs_row_contact_compare_known(comparer, n, keys, found);
		for (int i = 0; i < n; i++)
			if (found[i].pending)
				count(run, keys[i], &found[i]);
		MemoryContextSwitchTo(old);
		if (n > 0)
			after = pstrdup(keys[n - 1]);
		MemoryContextReset(page);
		CHECK_FOR_INTERRUPTS();
	} while (n == ROWS_AT_ONCE);
}

static void
dry_run(CsDryRun *run)
{
	const CsScanOrder *order = run->order;
	CsPageOrder page_order = {.filter = order->filter};
	CsComparer	comparer = {.watch = order->watch,.endpoint = order->endpoint};
	MemoryContext page = AllocSetContextCreate(CurrentMemoryContext, "contactsync page",
											   ALLOCSET_DEFAULT_SIZES);
	CsPages    *volatile pages = NULL;
	CsSource   *volatile source = NULL;
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	comparer.claims_all = order->claims && strcmp(order->claims, "all") == 0;
	comparer.has_failures = cs_failure_exists(order->watch->endpoint, order->watch->id);
	cs_sql_leave(&scope);
	comparer.finds_missing_later = order->kind == CS_RECONCILE && order->filter == NULL &&
		order->watch->on_delete != CS_ON_DELETE_IGNORE;
	PG_TRY();
	{
		pages = cs_source_page_open(order->watch, &page_order);
		comparer.source = source = cs_source_row_open(order->watch);
		count_rows(run, &comparer, pages, page);
		if (comparer.finds_missing_later)
		{
			cs_source_row_close(source);
			source = NULL;
			comparer.source = source = cs_source_row_open(cs_row_contact_presence(order->watch));
			count_missing(run, &comparer, page);
		}
	}
	PG_FINALLY();
	{
		/* the plans outlive a transaction */
		if (source)
			cs_source_row_close(source);
		if (pages)
			cs_source_page_close(pages);
	}
	PG_END_TRY();
}

int64
cs_import_count_differing(Oid source, const char *server)
{
	CsScanOrder order = {.kind = CS_RECONCILE};
	CsDryRun	run = {.order = &order,.context = CurrentMemoryContext};
	ListCell   *lc;
	int64		n = 0;

	find_watch(&order, source, server);
	dry_run(&run);
	foreach(lc, run.tallies)
	{
		CsTally    *tally = lfirst(lc);

		if (tally->difference == CS_IS_NEW || tally->difference == CS_IS_CHANGED ||
			tally->difference == CS_IS_GONE)
			n += tally->rows;
	}
	return n;
}

/*
 * Starting a scan
 */

/*
 * Refuse to import if so many contacts at once could trigger emails to people,
 * unless the user says that they cannot, or may.
 */
static void
check_risk(const CsScanOrder *order)
{
	const char *risk = cs_guard_risk(order->endpoint, order->watch);

	if (risk == NULL || order->automations || order->kind != CS_IMPORT)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("importing table \"%s\" could trigger emails to people",
					get_rel_name(order->watch->source)),
			 errdetail("%s", risk),
			 errhint("Pause the automations at %s and import with automations => 'paused', or import with automations => 'accepted' if these emails are intended. "
					 "Use dry_run => true to count what would be sent.", order->endpoint->provider->title)));
}

/* Return about how many rows will be scanned; it is an error if they cannot be read. */
static int64
estimate(const CsScanOrder *order)
{
	CsPageOrder page_order = {.filter = order->filter};
	CsPages    *pages = cs_source_page_open(order->watch, &page_order);
	int64		rows = cs_source_page_estimate(pages);

	cs_source_page_close(pages);
	cs_source_row_close(cs_source_row_open(order->watch));
	return rows;
}

/* Store a scan, and return about how many rows it will read. */
static int64
begin_scan(const CsScanOrder *order)
{
	int64		total = estimate(order);
	CsSqlScope	scope;
	Oid			roleid;
	int			id;

	check_risk(order);
	roleid = cs_sql_enter(&scope);
	id = cs_scan_store_create(order->watch, order->kind, order->filter, order->rate,
							  order->automations, order->claims, total, GetUserNameFromId(roleid, false));
	cs_sql_leave(&scope);
	if (id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("table \"%s\" is already being imported or reconciled",
						get_rel_name(order->watch->source)),
				 errhint("SELECT * FROM contactsync.progress shows how far it is; SELECT contactsync_cancel(%s) stops it.",
						 cs_source_typed(order->watch->source, order->endpoint->server_name))));
	cs_invalidation_send(CS_DEFINITIONS);
	return total;
}

static Datum
scan(FunctionCallInfo fcinfo, CsScanKind kind)
{
	CsScanOrder order;
	CsDryRun	run = {.order = &order,.counts_contacts = true,.context = CurrentMemoryContext};
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	read_order(fcinfo, kind, &order);
	if (!order.dry_run)
	{
		put_outcome(fcinfo, "started", begin_scan(&order), NULL);
		return (Datum) 0;
	}
	dry_run(&run);
	for (CsDifference difference = 0; difference < CS_DIFFERENCES; difference++)
	{
		foreach(lc, run.tallies)
		{
			CsTally    *tally = lfirst(lc);

			if (tally->difference == difference)
				put_outcome(fcinfo, cs_import_outcomes[difference], tally->rows, tally);
		}
	}
	return (Datum) 0;
}

/* contactsync_import(source, server, filter, rate, automations, dry_run, claims) */
Datum
contactsync_import(PG_FUNCTION_ARGS)
{
	return scan(fcinfo, CS_IMPORT);
}

/* contactsync_reconcile(source, server, filter, rate, automations, dry_run, claims) */
Datum
contactsync_reconcile(PG_FUNCTION_ARGS)
{
	return scan(fcinfo, CS_RECONCILE);
}

/* contactsync_cancel(source, server) */
Datum
contactsync_cancel(PG_FUNCTION_ARGS)
{
	CsWatch    *watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId());
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	bool		canceled = cs_scan_store_cancel(watch->endpoint, watch->id, GetUserNameFromId(roleid, false));

	cs_sql_leave(&scope);
	PG_RETURN_BOOL(canceled);
}
