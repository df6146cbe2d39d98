/*-------------------------------------------------------------------------
 *
 * export.c
 *		contactsync_export(): return the contacts of a watch as rows.
 *
 * The providers' dashboards import CSV files, with options that their API lacks,
 * such as a statement that the contacts opted in, or not to start journeys.  So
 * the rows hold what would be sent, one for each contact.  If several source rows
 * have the same upsert key, the last one in the order of their keys is returned,
 * because the order in which they were changed is not known here.
 *
 * The source is read a page at a time and sorted by upsert key, on disk if
 * needed, so the use of memory does not depend on the number of rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/sql.h"
#include "base/text.h"
#include "delivery/claim.h"
#include "delivery/person.h"
#include "delivery/row_contact.h"
#include "http/json.h"
#include "provider/endpoint.h"
#include "provider/server.h"
#include "store/consent.h"
#include "store/source_page.h"
#include "store/source_row.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_export);

#define ROWS_AT_ONCE	1000

/* The columns that rows are sorted by come before those that are returned. */
#define SORT_COLUMNS	2
#define COLUMNS			(SORT_COLUMNS + CS_FIELD_COUNT)

typedef struct CsExport
{
	const CsEndpoint *endpoint;
	Tuplesortstate *sort;
	TupleTableSlot *slot;		/* for a row to be sorted */
	int64		nread;
	int64		nrefused;
	int64		ncollapsed;
	char	   *refused_key;	/* the first that was refused */
	char	   *refused_why;
	CsConsentScope consents;
	MemoryContext context;
} CsExport;

static TupleDesc
sort_columns(TupleDesc result)
{
	TupleDesc	desc = CreateTemplateTupleDesc(COLUMNS);

	TupleDescInitEntry(desc, 1, "upsert_key", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	TupleDescInitEntry(desc, 2, "n", INT8OID, -1, 0);
	for (int i = 0; i < CS_FIELD_COUNT; i++)
		TupleDescCopyEntry(desc, SORT_COLUMNS + i + 1, result, i + 1);
	cs_tuple_desc_finalize(desc);
	return desc;
}

/* Sort by upsert key, with the last row of an upsert key first. */
static Tuplesortstate *
begin_sort(TupleDesc desc)
{
	AttrNumber	columns[SORT_COLUMNS] = {1, 2};
	Oid			operators[SORT_COLUMNS] = {TextLessOperator,
	lookup_type_cache(INT8OID, TYPECACHE_GT_OPR)->gt_opr};
	Oid			collations[SORT_COLUMNS] = {C_COLLATION_OID, InvalidOid};
	bool		nulls_first[SORT_COLUMNS] = {false, false};

	return tuplesort_begin_heap(desc, SORT_COLUMNS, columns, operators, collations, nulls_first,
								work_mem, NULL, TUPLESORT_NONE);
}

/* Return the attributes as one object, with nulls only if they are sent. */
static char *
attributes_json(const CsExport *export, const CsContact *contact)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoCharMacro(&out, '{');
	for (int i = 0; i < contact->nattributes; i++)
		if (export->endpoint->nulls_clear || strcmp(contact->attributes[i].json, "null") != 0)
			cs_json_member_raw(&out, contact->attributes[i].name, contact->attributes[i].json);
	appendStringInfoCharMacro(&out, '}');
	return out.data;
}

static Datum
field_datum(CsField field, const char *utf8)
{
	char	   *value = cs_text_from_utf8(utf8);

	switch (field)
	{
		case CS_OPT_IN:
			return BoolGetDatum(strcmp(value, "true") == 0);
		case CS_OPT_IN_AT:
			return DirectFunctionCall3(timestamptz_in, CStringGetDatum(value),
									   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
		case CS_TAGS:
		case CS_TOPICS:
		case CS_ATTRIBUTES:
			return DirectFunctionCall1(jsonb_in, CStringGetDatum(value));
		default:
			return CStringGetTextDatum(value);
	}
}

/* Add a contact to the sort. */
static void
put_contact(CsExport *export, const CsContact *contact)
{
	TupleTableSlot *slot = export->slot;

	ExecClearTuple(slot);
	slot->tts_values[0] = CStringGetTextDatum(cs_text_from_utf8(contact->upsert_key));
	slot->tts_values[1] = Int64GetDatum(export->nread);
	slot->tts_isnull[0] = slot->tts_isnull[1] = false;
	for (int i = 0; i < CS_FIELD_COUNT; i++)
	{
		const char *value = contact->value[i];

		if (i == CS_ATTRIBUTES && contact->nattributes > 0)
			value = attributes_json(export, contact);
		slot->tts_isnull[SORT_COLUMNS + i] = value == NULL;
		slot->tts_values[SORT_COLUMNS + i] = value ? field_datum(i, value) : (Datum) 0;
	}
	ExecStoreVirtualTuple(slot);
	tuplesort_puttupleslot(export->sort, slot);
}

static void
note_refusal(CsExport *export, const char *key, const CsRefusal *refusal)
{
	MemoryContext old;

	if (export->nrefused++ > 0)
		return;
	old = MemoryContextSwitchTo(export->context);
	export->refused_key = pstrdup(key);
	export->refused_why = pstrdup(cs_text_from_utf8(refusal->message));
	MemoryContextSwitchTo(old);
}

/* Leave out the consent of a person who is known to have opted out, and gave no newer word. */
static void
withhold_consent(const CsExport *export, CsRowContact *row)
{
	CsContact  *contact = row->contact;
	CsPerson	person;
	CsClaimFacts facts = {
		.consent = contact->consent,
		.opt_in_at = contact->opt_in_at,
		.row = &row->row,
		.known = &row->known,
		.person = &person
	};

	if (contact->consent != CS_CONSENT_YES)
		return;
	cs_person_read(&export->consents, export->endpoint, 1, &contact, &row->upsert_key, &person);
	if (!cs_claim_is_closed(&facts) || cs_claim_decide(&facts) == CS_CLAIM)
		return;
	contact->value[CS_OPT_IN] = NULL;
	contact->value[CS_STATUS] = NULL;
}

/* Read one page.  Return its last key, or NULL at the end. */
static char *
read_page(CsExport *export, const CsWatch *watch, CsPages *pages, CsSource *source,
		  char *after)
{
	CsPagePosition position = {.key = after};
	CsPagePosition next[ROWS_AT_ONCE];
	char	   *keys[ROWS_AT_ONCE];
	CsRowContact rows[ROWS_AT_ONCE];
	int			n = cs_source_page_next(pages, &position, ROWS_AT_ONCE, next);

	if (n == 0)
		return NULL;
	for (int i = 0; i < n; i++)
		keys[i] = next[i].key;
	cs_row_contact_read(source, watch, export->endpoint, n, keys, rows);
	for (int i = 0; i < n; i++)
	{
		export->nread++;
		if (rows[i].refusal)
			note_refusal(export, keys[i], rows[i].refusal);
		else if (rows[i].contact)
		{
			withhold_consent(export, &rows[i]);
			put_contact(export, rows[i].contact);
		}
	}
	return n < ROWS_AT_ONCE ? NULL : keys[n - 1];
}

static void
read_all(CsExport *export, const CsWatch *watch)
{
	CsPages    *volatile pages = NULL;
	CsSource   *volatile source = NULL;
	CsPageOrder order = {0};
	MemoryContext page = AllocSetContextCreate(CurrentMemoryContext, "contactsync page",
											   ALLOCSET_DEFAULT_SIZES);
	char	   *after = NULL;

	PG_TRY();
	{
		pages = cs_source_page_open(watch, &order);
		source = cs_source_row_open(watch);
		do
		{
			MemoryContext old = MemoryContextSwitchTo(page);
			char	   *last = read_page(export, watch, pages, source, after);

			MemoryContextSwitchTo(old);
			if (after)
				pfree(after);
			after = last ? pstrdup(last) : NULL;
			MemoryContextReset(page);
			CHECK_FOR_INTERRUPTS();
		} while (after);
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
	MemoryContextDelete(page);
}

/* Return the first row of each upsert key. */
static void
return_contacts(CsExport *export, TupleDesc desc, ReturnSetInfo *result)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	char	   *previous = NULL;

	while (tuplesort_gettupleslot(export->sort, true, false, slot, NULL))
	{
		char	   *key;

		slot_getallattrs(slot);
		key = TextDatumGetCString(slot->tts_values[0]);
		if (previous && strcmp(previous, key) == 0)
			export->ncollapsed++;
		else
			tuplestore_putvalues(result->setResult, result->setDesc,
								 slot->tts_values + SORT_COLUMNS, slot->tts_isnull + SORT_COLUMNS);
		if (previous)
			pfree(previous);
		previous = key;
		CHECK_FOR_INTERRUPTS();
	}
	ExecDropSingleTupleTableSlot(slot);
}

/* Tell the user which rows are not in the result, and why. */
static void
report(const CsExport *export)
{
	if (export->nrefused > 0)
		ereport(NOTICE,
				(errmsg_plural("skipping " INT64_FORMAT " row that cannot be sent",
							   "skipping " INT64_FORMAT " rows that cannot be sent",
							   export->nrefused, export->nrefused),
				 errdetail("The first one has the key %s: %s.", export->refused_key,
						   export->refused_why)));
	if (export->ncollapsed > 0)
		ereport(NOTICE,
				(errmsg_plural("skipping " INT64_FORMAT " row because a later row is the same contact",
							   "skipping " INT64_FORMAT " rows because later rows are the same contacts",
							   export->ncollapsed, export->ncollapsed)));
}

/* contactsync_export(source, server) */
Datum
contactsync_export(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			source = PG_GETARG_OID(0);
	const char *server = NameStr(*PG_GETARG_NAME(1));
	CsExport	export = {.context = CurrentMemoryContext};
	CsSqlScope	scope;
	CsWatch    *watch;
	TupleDesc	desc;

	InitMaterializedSRF(fcinfo, 0);
	export.endpoint = cs_server_read_unmapped(cs_server_find(server, GetUserId()));
	watch = cs_watch_find(source, server, GetUserId());
	cs_sql_enter(&scope);
	MemoryContextSwitchTo(export.context);
	cs_consent_load_scope(watch->endpoint, 0, &export.consents);
	cs_sql_leave(&scope);
	desc = sort_columns(result->setDesc);
	export.slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	export.sort = begin_sort(desc);
	read_all(&export, watch);
	tuplesort_performsort(export.sort);
	return_contacts(&export, desc, result);
	tuplesort_end(export.sort);
	ExecDropSingleTupleTableSlot(export.slot);
	report(&export);
	return (Datum) 0;
}
