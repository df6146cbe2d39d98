/*-------------------------------------------------------------------------
 *
 * trial.c
 *		SQL functions that show what would be sent of source rows, and send
 *		nothing.
 *
 * Rows are read as they are for delivery: with the rights of the watch's owner, or
 * of the caller where there is no watch.  What is queued is not looked at, nor what
 * other rows of a contact say: where it depends on whether a row is sent because it
 * changed or by a scan, both are said, and the request is the one that claims more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api/argument.h"
#include "api/import.h"
#include "api/imagine.h"
#include "api/preview.h"
#include "api/verify.h"
#include "base/compat.h"
#include "base/sql.h"
#include "base/text.h"
#include "delivery/claim.h"
#include "delivery/person.h"
#include "delivery/row_contact.h"
#include "delivery/withhold.h"
#include "http/json.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/consent.h"
#include "store/contact_known.h"
#include "store/endpoint_state.h"
#include "store/failure.h"
#include "store/schedule.h"
#include "store/source_page.h"
#include "store/source_row.h"
#include "store/watch.h"
#include "store/watch_make.h"

CS_FUNCTION(contactsync_preview_rows);
CS_FUNCTION(contactsync_try);
CS_FUNCTION(contactsync_try_definition);

#define MAX_ROWS	1000

/* The id of a watch that is not stored. */
#define NO_WATCH	(-1)

/* The columns of the result. */
enum
{
	COL_KEY, COL_OUTCOME, COL_REASON, COL_MESSAGE, COL_CONTACT, COL_CONSENT, COL_DIFFERENCE,
	COL_SENT_AT, COL_UPSERT_KEY, COL_METHOD, COL_URL, COL_BODY, COL_CURL, COL_COUNT
};

typedef struct CsTrial
{
	ReturnSetInfo *result;
	CsComparer	comparer;
	CsConsentScope consents;
	CsEndpointState learned;	/* only what was learnt of the provider's
								 * contacts */
	int			n;
	char	  **keys;
	CsRowContact *rows;
	CsPerson   *people;
	bool	   *exist;			/* the row is there, if it has no contact */
} CsTrial;

/* One row of the result. */
typedef struct CsTrialRow
{
	Datum		values[COL_COUNT];
	bool		nulls[COL_COUNT];
} CsTrialRow;

static void
set_text(CsTrialRow *row, int column, const char *text)
{
	row->nulls[column] = text == NULL;
	row->values[column] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
set_utf8(CsTrialRow *row, int column, const char *utf8)
{
	set_text(row, column, utf8 ? cs_text_from_utf8(utf8) : NULL);
}

/*
 * What is shown of a contact
 */

/* Return the contact as JSON, with what is mapped and null. */
static Datum
contact_as_jsonb(const CsContact *contact)
{
	StringInfoData out;
	StringInfoData attributes;

	initStringInfo(&out);
	initStringInfo(&attributes);
	appendStringInfoCharMacro(&out, '{');
	appendStringInfoCharMacro(&attributes, '{');
	for (int i = 0; i < CS_ATTRIBUTES; i++)
	{
		const char *name = cs_contact_field_name(i);
		bool		is_json = i == CS_OPT_IN || i == CS_TAGS || i == CS_TOPICS;

		if (!(contact->present & CS_FIELD_BIT(i)))
			continue;
		if (is_json && contact->value[i])
			cs_json_member_raw(&out, name, contact->value[i]);
		else
			cs_json_member(&out, name, contact->value[i]);
	}
	for (int i = 0; i < contact->nattributes; i++)
		cs_json_member_raw(&attributes, contact->attributes[i].name, contact->attributes[i].json);
	appendStringInfoCharMacro(&attributes, '}');
	if (contact->nattributes > 0)
		cs_json_member_raw(&out, cs_contact_field_name(CS_ATTRIBUTES), attributes.data);
	appendStringInfoCharMacro(&out, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_text_from_utf8(out.data)));
}

static void
fill_facts(const CsTrial *trial, int i, CsClaimFacts *facts)
{
	const CsRowContact *row = &trial->rows[i];
	const CsContact *contact = row->contact;
	const CsKnown *known = &row->known;

	memset(facts, 0, sizeof(CsClaimFacts));
	facts->consent = contact->consent;
	facts->opt_in_at = contact->opt_in_at;
	facts->has_times = (contact->present & CS_FIELD_BIT(CS_OPT_IN_AT)) != 0;
	facts->row = &row->row;
	facts->rows_known = trial->comparer.watch->complete;
	facts->known = known;
	facts->person = &trial->people[i];
	facts->moves = cs_contact_known_is_moving(known, contact);
	facts->all = trial->comparer.claims_all;
}

/*
 * Of a person that nothing is known of here, say whether consent would be claimed, and
 * show that it is if that depends on the provider.
 */
static const char *
resolve_claim(const CsTrial *trial, const CsPerson *person, CsContact *contact)
{
	/* the answer to the call proves it, and the adapter knows how to ask */
	if (trial->comparer.endpoint->provider->build_pull == NULL)
		return "claimed if the provider does not know the person";
	contact->claim = CS_CLAIM_NOT;
	if (trial->learned.unlearnable)
		return "not claimed: the provider's contacts cannot be listed, so it is not known whether the person is new";
	if (person->listed.found)
		return "not claimed: the provider knows the person";
	contact->claim = CS_CLAIM;
	return trial->learned.learned_at != 0 ? "claimed" : "claimed if the provider does not know the person";
}

/* Decide whether consent would be claimed, and say so; NULL: opt_in is not mapped. */
static const char *
decide_claim(const CsTrial *trial, int i)
{
	CsContact  *contact = trial->rows[i].contact;
	CsClaimFacts facts;
	CsClaimFacts live;

	fill_facts(trial, i, &facts);
	live = facts;
	live.live = true;
	contact->claim = cs_claim_decide(&facts);
	contact->claimed = cs_claim_stands(&facts);
	contact->opted_out = cs_claim_is_closed(&facts);
	if (contact->consent == CS_CONSENT_UNKNOWN)
		return NULL;
	if (contact->consent != CS_CONSENT_YES)
		return contact->consent == CS_CONSENT_NO ? "not given" : "not said";
	if (contact->claim == CS_CLAIM)
		return "claimed";
	if (cs_claim_decide(&live) == CS_CLAIM)
	{
		contact->claim = CS_CLAIM;
		return "claimed if it is sent because the row changed, which is a word of the person; not by an import";
	}
	if (contact->claim == CS_CLAIM_IF_NEW)
		return resolve_claim(trial, &trial->people[i], contact);
	if (contact->opted_out)
		return "not claimed: the person opted out";
	if (contact->claimed)
		return "claimed before";
	return "not claimed: held until the person says yes again, or claims => 'all'";
}

/*
 * Say how the contact differs from what was sent last.  Of that only a digest is stored,
 * beside the address, consent, and which contact the row was.
 */
static char *
difference_of(const CsTrial *trial, int i, const CsComparison *found)
{
	const CsRowContact *row = &trial->rows[i];
	const CsContact *contact = row->contact;
	const CsKnown *known = &row->known;
	StringInfoData out;

	if (found->difference == CS_IS_NEW)
		return pstrdup(known->found && known->action != 'u' ? "it was removed at the provider, or unsubscribed" : "it was never sent");
	if (found->difference != CS_IS_CHANGED)
		return NULL;
	initStringInfo(&out);
	if (row->row.found && strcmp(row->row.upsert_key, row->upsert_key) != 0)
		appendStringInfo(&out, "another contact: it was \"%s\"", row->row.upsert_key);
	if (cs_contact_known_is_moving(known, contact))
		appendStringInfo(&out, "%semail", out.len > 0 ? ", " : "");
	if (contact->consent != CS_CONSENT_UNKNOWN && known->opt_in != CS_CONSENT_UNKNOWN && known->opt_in != contact->consent)
		appendStringInfo(&out, "%sopt_in", out.len > 0 ? ", " : "");
	if (!known->has_digest)
		appendStringInfo(&out, "%s", out.len > 0 ? "; what else was sent is not known, or not trusted" :
						 "what was sent is not known, or not trusted");
	else
		appendStringInfo(&out, "%s", out.len > 0 ? "; perhaps other fields, of which only a digest is stored" :
						 "a field or attribute other than email and opt_in; of these only a digest is stored");
	return out.data;
}

/*
 * The request
 */

/* Would the contact be deleted, because opt_in is not true any more? */
static bool
is_to_be_deleted(const CsEndpoint *endpoint, const CsContact *contact)
{
	return contact->known && contact->consent == CS_CONSENT_NO &&
		cs_provider_deletes_opt_outs(endpoint);
}

/* Show the first request that the contact would go in, alone. */
static void
set_request(CsTrialRow *row, const CsEndpoint *endpoint, const char *limitation, CsContact *contact)
{
	CsBatch		batch = {
		.action = CS_UPSERT,.ncontacts = 1,.contacts = &contact,.number = 1,.limitation = limitation
	};
	CsRequest	request;

	if (is_to_be_deleted(endpoint, contact))
		batch.action = contact->action = CS_DELETE;
	memset(&request, 0, sizeof(request));
	endpoint->provider->build(endpoint, &batch, &request);
	set_text(row, COL_METHOD, request.method);
	set_utf8(row, COL_URL, request.url);
	set_utf8(row, COL_BODY, request.body.data);
	set_utf8(row, COL_CURL, cs_preview_curl(endpoint->provider, &request));
}

/*
 * Rows
 */

/* Say what becomes of a key without a contact. */
static void
set_without_contact(CsTrialRow *row, const CsTrial *trial, int i, const CsComparison *found)
{
	static const char *const removed[] = {"", "; its contact is to be unsubscribed", "; its contact is to be deleted"};
	bool		leaves = trial->rows[i].row.found;

	if (trial->rows[i].later)
		set_text(row, COL_MESSAGE, trial->rows[i].later->message);
	else if (found->difference == CS_IS_GONE || found->difference == CS_IS_FILTERED)
	{
		set_text(row, COL_OUTCOME, trial->exist[i] ? "filtered" : "gone");
		set_text(row, COL_MESSAGE, psprintf("%s%s", trial->exist[i] ? "the row does not pass the filter" : "there is no row with this key",
											leaves ? removed[trial->comparer.watch->on_delete] : ""));
	}
}

static void
put_row(const CsTrial *trial, int i, const CsFailed *failed)
{
	CsRowContact *current = &trial->rows[i];
	CsContact  *contact = current->contact;
	const CsEndpoint *endpoint = trial->comparer.endpoint;
	CsComparison found;
	CsTrialRow	row;

	memset(row.nulls, true, sizeof(row.nulls));
	cs_row_contact_judge(&trial->comparer, current, trial->keys[i], failed, &found);
	set_text(&row, COL_KEY, trial->keys[i]);
	set_text(&row, COL_OUTCOME, current->later ? "later" : cs_import_outcomes[found.difference]);
	set_text(&row, COL_REASON, found.reason);
	set_text(&row, COL_MESSAGE, found.message);
	if (contact == NULL)
		set_without_contact(&row, trial, i, &found);
	else
	{
		bool		withheld;

		row.nulls[COL_CONTACT] = false;
		row.values[COL_CONTACT] = contact_as_jsonb(contact);
		set_text(&row, COL_CONSENT, decide_claim(trial, i));
		withheld = !is_to_be_deleted(endpoint, contact) && cs_withhold_applies(endpoint, contact);
		contact->withheld = withheld && cs_withhold_updates(endpoint, contact);
		if (withheld)
		{
			set_text(&row, COL_OUTCOME, cs_import_outcomes[CS_IS_WITHHELD]);
			set_text(&row, COL_MESSAGE, psprintf("%s%s", cs_provider_mails_whoever_exists(endpoint),
												 contact->withheld ? " It is updated if it exists, and not created." : " It is not created."));
		}
		else
			set_text(&row, COL_DIFFERENCE, difference_of(trial, i, &found));
		set_text(&row, COL_UPSERT_KEY, current->upsert_key);
		row.nulls[COL_SENT_AT] = current->known.synced_at == 0;
		row.values[COL_SENT_AT] = TimestampTzGetDatum(current->known.synced_at);
		/* what is withheld already is not looked up again */
		if (withheld ? contact->withheld && (found.difference != CS_IS_WITHHELD || found.pending) : found.difference == CS_IS_NEW || found.difference == CS_IS_CHANGED)
			set_request(&row, endpoint, trial->learned.limitation, contact);
	}
	tuplestore_putvalues(trial->result->setResult, trial->result->setDesc, row.values, row.nulls);
}

/* Read which of the rows without a contact are there, whatever the filter says. */
static void
read_existence(CsTrial *trial)
{
	CsWatch    *unfiltered = cs_row_contact_presence(trial->comparer.watch);
	CsSource   *source;
	CsRowContact *rows = palloc(trial->n * sizeof(CsRowContact));

	trial->exist = palloc0(trial->n * sizeof(bool));
	unfiltered->filter = NULL;
	source = cs_source_row_open(unfiltered);
	PG_TRY();
	{
		cs_row_contact_read(source, unfiltered, trial->comparer.endpoint, trial->n, trial->keys, rows);
	}
	PG_FINALLY();
	{
		cs_source_row_close(source);
	}
	PG_END_TRY();
	for (int i = 0; i < trial->n; i++)
		trial->exist[i] = rows[i].contact || rows[i].refusal;
}

static void
read_people(CsTrial *trial)
{
	CsContact **contacts = palloc0(trial->n * sizeof(CsContact *));
	char	  **upsert_keys = palloc0(trial->n * sizeof(char *));

	for (int i = 0; i < trial->n; i++)
	{
		contacts[i] = trial->rows[i].contact;
		upsert_keys[i] = trial->rows[i].upsert_key;
	}
	trial->people = palloc0(trial->n * sizeof(CsPerson));
	cs_person_read(&trial->consents, trial->comparer.endpoint, trial->n, contacts, upsert_keys, trial->people);
}

/* Show the rows with the keys of a trial. */
static void
show(CsTrial *trial)
{
	const CsWatch *watch = trial->comparer.watch;
	MemoryContext context = CurrentMemoryContext;
	CsFailed   *failed = palloc0(trial->n * sizeof(CsFailed));
	CsSqlScope	scope;

	trial->rows = palloc(trial->n * sizeof(CsRowContact));
	trial->comparer.source = cs_source_row_open(watch);
	PG_TRY();
	{
		cs_row_contact_read(trial->comparer.source, watch, trial->comparer.endpoint, trial->n, trial->keys, trial->rows);
	}
	PG_FINALLY();
	{
		/* the plan outlives a transaction */
		cs_source_row_close(trial->comparer.source);
	}
	PG_END_TRY();
	read_existence(trial);
	cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	cs_consent_load_scope(watch->endpoint, 0, &trial->consents);
	MemoryContextSwitchTo(context);
	cs_endpoint_state_read_learned(watch->endpoint, &trial->learned);
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	for (int i = 0; i < trial->n; i++)
	{
		cs_contact_known_expire(1, &trial->rows[i].known, trial->learned.stale_before);
		cs_contact_known_reclaim(1, &trial->rows[i].known, trial->learned.reclaim_before);
	}
	if (watch->id != NO_WATCH)
		cs_failure_read(watch->endpoint, watch->id, trial->n, trial->keys, failed);
	read_people(trial);
	for (int i = 0; i < trial->n; i++)
		put_row(trial, i, &failed[i]);
}

static void
check_count(int n)
{
	if (n < 0 || n > MAX_ROWS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot show %d rows at once", n),
				 errhint("Show %d at most; contactsync_import() and contactsync_reconcile() count all of them with dry_run => true.",
						 MAX_ROWS)));
}

/* contactsync_preview(source, server, keys) */
Datum
contactsync_preview_rows(PG_FUNCTION_ARGS)
{
	CsTrial		trial = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	const char *server;
	CsWatch    *watch;

	InitMaterializedSRF(fcinfo, 0);
	cs_argument_require(fcinfo, 0, "source");
	cs_argument_require(fcinfo, 1, "server");
	cs_argument_require(fcinfo, 2, "keys");
	server = NameStr(*PG_GETARG_NAME(1));
	trial.comparer.endpoint = cs_server_read_unmapped(cs_server_find(server, GetUserId()));
	trial.comparer.watch = watch = cs_watch_find(PG_GETARG_OID(0), server, GetUserId());
	trial.comparer.claims_all = watch->claims_all;
	trial.keys = cs_argument_key_array(PG_GETARG_ARRAYTYPE_P(2), watch, &trial.n);
	check_count(trial.n);
	if (trial.n > 0)
		show(&trial);
	return (Datum) 0;
}

/*
 * contactsync_try()
 */

/* The arguments. */
enum
{
	ARG_SOURCE, ARG_SERVER, ARG_MAPPING, ARG_FILTER, ARG_KEY_COLUMNS, ARG_KEYS, ARG_ROWS, ARG_OPTIONS
};

/* Return the first keys of a source, in order. */
static char **
first_keys(const CsWatch *watch, int limit, int *n)
{
	CsPageOrder order = {0};
	CsPagePosition after = {0};
	CsPagePosition *rows = palloc(Max(limit, 1) * sizeof(CsPagePosition));
	char	  **keys = palloc(Max(limit, 1) * sizeof(char *));
	CsPages    *pages = cs_source_page_open(watch, &order);

	PG_TRY();
	{
		*n = limit > 0 ? cs_source_page_next(pages, &after, limit, rows) : 0;
	}
	PG_FINALLY();
	{
		cs_source_page_close(pages);
	}
	PG_END_TRY();
	for (int i = 0; i < *n; i++)
		keys[i] = rows[i].key;
	return keys;
}

/* Return the id of the caller's endpoint at a server, or 0: nothing was ever sent. */
static int
find_endpoint(Oid serverid, const char *server_name)
{
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	int			id = cs_endpoint_state_find(serverid, server_name, roleid);

	cs_sql_leave(&scope);
	return id;
}

/* Read the server, with its secrets only if the mapping is to be checked at the provider. */
static CsEndpoint *
read_server(Oid serverid)
{
	CsEndpoint *endpoint = cs_server_read_unmapped(serverid);

	if (endpoint->provider->mapping_check > 0 && cs_endpoint_option_bool(endpoint, "check_fields"))
		return cs_server_read(serverid, GetUserId());
	return endpoint;
}

/* Show what the arguments but the server say; serverid is InvalidOid if there is no server. */
static void
try_mapping(FunctionCallInfo fcinfo, Oid serverid, CsEndpoint *endpoint)
{
	CsTrial		trial = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	CsSchedule	schedule = {.poll = true,.only_reads = true};
	CsWatch    *watch;

	trial.comparer.endpoint = endpoint;
	trial.comparer.watch = watch = cs_watch_make(PG_GETARG_OID(ARG_SOURCE), endpoint,
												 PG_ARGISNULL(ARG_MAPPING) ? NULL : PG_GETARG_JSONB_P(ARG_MAPPING),
												 cs_argument_text(fcinfo, ARG_FILTER),
												 PG_ARGISNULL(ARG_KEY_COLUMNS) ? NIL :
												 cs_argument_names(PG_GETARG_ARRAYTYPE_P(ARG_KEY_COLUMNS)),
												 "ignore", &schedule, NULL);
	cs_verify_mapping(endpoint, watch);
	watch->id = NO_WATCH;
	watch->endpoint = OidIsValid(serverid) ? find_endpoint(serverid, endpoint->server_name) : 0;
	if (PG_ARGISNULL(ARG_KEYS))
	{
		check_count(PG_GETARG_INT32(ARG_ROWS));
		trial.keys = first_keys(watch, PG_GETARG_INT32(ARG_ROWS), &trial.n);
	}
	else
		trial.keys = cs_argument_key_array(PG_GETARG_ARRAYTYPE_P(ARG_KEYS), watch, &trial.n);
	check_count(trial.n);
	if (trial.n > 0)
		show(&trial);
}

/* contactsync_try(source, server, mapping, filter, key_columns, keys, rows) */
Datum
contactsync_try(PG_FUNCTION_ARGS)
{
	Oid			serverid;

	InitMaterializedSRF(fcinfo, 0);
	cs_argument_require(fcinfo, ARG_SOURCE, "source");
	cs_argument_require(fcinfo, ARG_SERVER, "server");
	cs_argument_require(fcinfo, ARG_ROWS, "rows");
	serverid = cs_server_find(NameStr(*PG_GETARG_NAME(ARG_SERVER)), GetUserId());
	try_mapping(fcinfo, serverid, read_server(serverid));
	return (Datum) 0;
}

/* contactsync_try(source, definition, mapping, filter, key_columns, keys, rows, options) */
Datum
contactsync_try_definition(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	cs_argument_require(fcinfo, ARG_SOURCE, "source");
	cs_argument_require(fcinfo, ARG_SERVER, "definition");
	cs_argument_require(fcinfo, ARG_ROWS, "rows");
	try_mapping(fcinfo, InvalidOid,
				cs_imagine_endpoint(PG_GETARG_JSONB_P(ARG_SERVER),
									PG_ARGISNULL(ARG_OPTIONS) ? NULL : PG_GETARG_JSONB_P(ARG_OPTIONS), GetUserId()));
	return (Datum) 0;
}
