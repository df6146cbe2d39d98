/*-------------------------------------------------------------------------
 *
 * verify.c
 *		contactsync_verify(): asking a provider whether it has what we have.
 *
 * Each provider answers other questions; what it says is set beside our own
 * knowledge.  Then a few contacts that were synced are looked up, and compared
 * field by field with what their rows would be sent as now.
 *
 * The transaction of the caller is open while a provider thinks, so this is
 * for a person who looks, or a check once a day.  No lock is held on a source
 * meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "api/fetch.h"
#include "api/verify.h"
#include "base/compat.h"
#include "base/encoding.h"
#include "base/sql.h"
#include "base/try.h"
#include "delivery/row_contact.h"
#include "provider/endpoint.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/source_row.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_verify);

/* A request is made again after a hiccup when somebody asked for the answer. */
#define TRIES			3

#define MAX_SAMPLES		1000

static const char *const result_names[] = {
	[CS_FINDING_UNAVAILABLE] = "not available",
	[CS_FINDING_OK] = "ok",
	[CS_FINDING_DIFFERS] = "differs"
};

/* A contact to be looked up. */
typedef struct CsSample
{
	int			watch;
	char	   *key;
	bool		queued;			/* a change of it has not been sent */
	CsContact  *contact;		/* as it would be sent now */
	const char *problem;		/* why there is none */
} CsSample;

typedef struct CsVerification
{
	const CsEndpoint *endpoint;
	int			endpoint_id;
	CsFetcher  *fetcher;
	CsLocalCounts local;
	ReturnSetInfo *result;
} CsVerification;

/*
 * What we hold
 */

/* Effect: adds what the watch maps. */
static void
add_mapped(CsLocalCounts *local, const CsWatch *watch)
{
	local->attributes = local->attributes ?
		repalloc(local->attributes, (local->nattributes + watch->nmapped) * sizeof(char *)) :
		palloc(Max(watch->nmapped, 1) * sizeof(char *));
	for (int i = 0; i < watch->nmapped; i++)
	{
		const CsMapped *mapped = &watch->mapped[i];

		local->fields |= CS_FIELD_BIT(mapped->field);
		if (mapped->attribute)
			local->attributes[local->nattributes++] = mapped->attribute;
	}
}

/*
 * Effect: finds the caller's endpoint, and how many contacts it has sent.
 * Leaves an endpoint_id of 0 if it never sent any.
 */
static void
count_contacts(CsVerification *verification)
{
	static CsStatement statement = {
		"SELECT e.id, (SELECT count(DISTINCT c.upsert_key) FROM contactsync.contact c"
		" WHERE c.endpoint = e.id AND c.action = 'u' AND c.digest IS NOT NULL)"
		" FROM contactsync.endpoint e WHERE e.server = $1 AND e.role = $2",
		2, {TEXTOID, OIDOID}
	};
	Datum		args[2] = {CStringGetTextDatum(verification->endpoint->server_name),
	ObjectIdGetDatum(verification->endpoint->roleid)};
	bool		isnull;

	if (cs_sql_execute(&statement, args, NULL) == 0)
		return;
	verification->endpoint_id = cs_sql_int(0, 1);
	verification->local.contacts = DatumGetInt64(cs_sql_value(0, 2, &isnull));
}

/* Contacts at random, of those that were sent; palloc'd in the context. */
static CsSample *
draw_samples(int endpoint_id, int wanted, int *n, MemoryContext context)
{
	static CsStatement statement = {
		"SELECT s.watch, s.key, EXISTS (SELECT FROM contactsync.queue q WHERE q.endpoint = $1"
		" AND q.watch = s.watch AND (s.key = ANY (q.keys) OR q.keys IS NULL))"
		" FROM (SELECT c.watch, c.key FROM contactsync.contact c WHERE c.endpoint = $1 AND c.watch <> 0"
		" AND c.action = 'u' AND c.digest IS NOT NULL ORDER BY random() LIMIT $2) s",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint_id), Int32GetDatum(wanted)};
	CsSample   *samples;
	bool		isnull;

	*n = (int) cs_sql_execute(&statement, args, NULL);
	samples = MemoryContextAllocZero(context, Max(*n, 1) * sizeof(CsSample));
	for (int i = 0; i < *n; i++)
	{
		samples[i].watch = cs_sql_int(i, 1);
		samples[i].key = MemoryContextStrdup(context, cs_sql_text(i, 2));
		samples[i].queued = DatumGetBool(cs_sql_value(i, 3, &isnull));
	}
	return samples;
}

/* Effect: the sample's contact is what its row would be sent as now. */
static void
read_sample(const CsEndpoint *endpoint, const CsWatch *watch, CsSample *sample)
{
	CsSource   *source = cs_source_row_open(watch);
	CsRowContact current;

	PG_TRY();
	{
		cs_row_contact_read(source, watch, endpoint, 1, &sample->key, &current);
	}
	PG_FINALLY();
	{
		cs_source_row_close(source);
	}
	PG_END_TRY();
	sample->contact = current.contact;
	if (current.refusal)
		sample->problem = psprintf("it cannot be sent any more: %s", current.refusal->message);
	else if (current.contact == NULL)
		sample->problem = "its row has gone, or the filter keeps it out";
}

/* What read_samples() reads. */
typedef struct CsSampleJob
{
	const CsEndpoint *endpoint;
	List	   *watches;
	int			n;
	CsSample   *samples;
} CsSampleJob;

static void
read_samples(void *arg)
{
	CsSampleJob *job = arg;

	for (int i = 0; i < job->n; i++)
	{
		ListCell   *lc;

		foreach(lc, job->watches)
		{
			const CsWatch *watch = lfirst(lc);

			if (watch->id == job->samples[i].watch)
				read_sample(job->endpoint, watch, &job->samples[i]);
		}
	}
}

/*
 * Asking
 */

static void
set_text(Datum *values, bool *nulls, int column, const char *utf8)
{
	nulls[column] = utf8 == NULL;
	values[column] = utf8 ? CStringGetTextDatum(cs_encoding_from_utf8(utf8)) : (Datum) 0;
}

/* Effect: a row of the result; what the provider said is made fit to be shown. */
static void
put_finding(const CsVerification *verification, const CsFinding *finding)
{
	const CsEndpoint *endpoint = verification->endpoint;
	Datum		values[5];
	bool		nulls[5];

	set_text(values, nulls, 0, finding->name);
	set_text(values, nulls, 1, finding->ours);
	set_text(values, nulls, 2, cs_endpoint_clean(endpoint, finding->theirs));
	set_text(values, nulls, 3, result_names[finding->result]);
	set_text(values, nulls, 4, cs_endpoint_clean(endpoint, finding->detail));
	tuplestore_putvalues(verification->result->setResult, verification->result->setDesc, values, nulls);
}

/* Effect: makes the n-th check.  Returns false if there is none. */
static bool
check(const CsEndpoint *endpoint, CsFetcher *fetcher, int n, const CsLocalCounts *local,
	  CsFinding *finding)
{
	const CsProvider *provider = endpoint->provider;
	CsRequest	request = {0};
	CsResponse	response = {0};
	CsJson	   *doc = NULL;
	const char *problem = NULL;

	memset(finding, 0, sizeof(CsFinding));
	if (provider->build_check == NULL || !provider->build_check(endpoint, n, &request))
		return false;
	if (request.method)
	{
		cs_fetch(fetcher, &request, &response);
		doc = cs_json_parse(response.body ? response.body : "", response.body_len);
		problem = cs_fetch_problem(endpoint, &response, doc);
	}
	/* of an answer that is none it has but the name */
	provider->judge_check(endpoint, n, local, &response, problem ? NULL : doc, finding);
	if (problem)
	{
		finding->result = CS_FINDING_UNAVAILABLE;
		finding->theirs = NULL;
		finding->detail = problem;
	}
	else if (finding->result == CS_FINDING_UNAVAILABLE && finding->detail == NULL)
		finding->detail = "the answer is of another form than documented";
	return true;
}

/*
 * Comparing
 */

static void
append_difference(StringInfo out, const char *name, const char *ours, const char *theirs)
{
	appendStringInfo(out, "%s%s is %s here and %s there", out->len > 0 ? "; " : "", name,
					 ours ? ours : "null", theirs ? theirs : "null");
}

/* Are both the same JSON?  As jsonb has it, 1 is 1.0. */
static bool
same_json(const char *a, const char *b)
{
	Datum		left = DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_encoding_from_utf8(a)));
	Datum		right = DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_encoding_from_utf8(b)));

	return DatumGetBool(DirectFunctionCall2(jsonb_eq, left, right));
}

static bool
same_field(CsField field, const char *ours, const char *theirs)
{
	if (theirs == NULL)
		return *ours == '\0';
	switch (field)
	{
		case CS_EMAIL:
			return pg_strcasecmp(ours, theirs) == 0;
		case CS_TAGS:
		case CS_TOPICS:
			return same_json(ours, theirs);
		default:
			return strcmp(ours, theirs) == 0;
	}
}

/*
 * What is other there than it would be sent, for a person; empty if nothing is.
 * What is not sent, or not shown by the provider, is no difference.
 */
static char *
differences(const CsContact *ours, const CsContact *theirs)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < CS_ATTRIBUTES; i++)
	{
		if (ours->value[i] && (theirs->present & CS_FIELD_BIT(i)) &&
			!same_field(i, ours->value[i], theirs->value[i]))
			append_difference(&out, cs_contact_field_name(i), ours->value[i], theirs->value[i]);
	}
	for (int i = 0; i < ours->nattributes; i++)
	{
		const CsAttribute *attribute = &ours->attributes[i];
		const CsAttribute *other = cs_contact_attribute(theirs, attribute->name);

		if (strcmp(attribute->json, "null") != 0 &&
			(other == NULL || !same_json(attribute->json, other->json)))
			append_difference(&out, attribute->name, attribute->json, other ? other->json : NULL);
	}
	return out.data;
}

/* Effect: looks the sample up, and says what came of it. */
static void
look_up(CsVerification *verification, const CsSample *sample, CsFinding *finding)
{
	const CsEndpoint *endpoint = verification->endpoint;
	CsRequest	request = {0};
	CsResponse	response;
	CsRemoteContact remote = {0};
	CsJson	   *doc;

	if (!endpoint->provider->build_lookup(endpoint, sample->contact, &request))
	{
		finding->detail = "nothing is known of it that it can be looked up by";
		return;
	}
	cs_fetch(verification->fetcher, &request, &response);
	doc = cs_json_parse(response.body ? response.body : "", response.body_len);
	finding->detail = cs_fetch_problem(endpoint, &response, doc);
	if (response.status == 404 && doc)
		finding->result = CS_FINDING_DIFFERS;
	if (finding->detail)
		return;
	if (!endpoint->provider->read_contact(endpoint, doc, &remote))
	{
		finding->detail = "the answer is of another form than documented";
		return;
	}
	finding->theirs = remote.contact->value[CS_EXTERNAL_ID] ? remote.contact->value[CS_EXTERNAL_ID] :
		remote.contact->value[CS_EMAIL];
	finding->detail = differences(sample->contact, remote.contact);
	finding->result = *finding->detail ? CS_FINDING_DIFFERS : CS_FINDING_OK;
	if (*finding->detail == '\0')
		finding->detail = NULL;
}

static void
spot_check(CsVerification *verification, const CsSample *sample)
{
	CsFinding	finding = {.name = "contact"};

	finding.ours = sample->contact ? sample->contact->upsert_key :
		cs_encoding_to_utf8(sample->key, strlen(sample->key));
	if (sample->queued)
		finding.detail = "a change of it is queued";
	else if (sample->problem)
		finding.detail = sample->problem;
	else
		look_up(verification, sample, &finding);
	put_finding(verification, &finding);
}

/*
 * contactsync_verify(server, samples)
 */
Datum
contactsync_verify(PG_FUNCTION_ARGS)
{
	Oid			serverid = cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
	int			wanted = PG_GETARG_INT32(1);
	CsVerification verification = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	MemoryContext context = CurrentMemoryContext;
	List	   *watches;
	CsSample   *samples;
	int			nsamples;
	CsSampleJob job;
	CsSqlScope	scope;
	ListCell   *lc;
	CsFinding	finding;

	if (wanted < 0 || wanted > MAX_SAMPLES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"samples\" must be from 0 to %d", MAX_SAMPLES)));
	InitMaterializedSRF(fcinfo, 0);
	verification.endpoint = cs_server_read(serverid, GetUserId());
	if (verification.endpoint->provider->build_lookup == NULL)
		wanted = 0;

	cs_sql_enter(&scope);
	count_contacts(&verification);
	samples = draw_samples(verification.endpoint_id, wanted, &nsamples, context);
	MemoryContextSwitchTo(context);
	watches = cs_watch_load_all();
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);

	foreach(lc, watches)
		if (((CsWatch *) lfirst(lc))->endpoint == verification.endpoint_id)
		add_mapped(&verification.local, lfirst(lc));

	/*
	 * rolled back, so that nobody waits for its locks while we wait for a
	 * provider
	 */
	job = (CsSampleJob)
	{
		verification.endpoint, watches, nsamples, samples
	};
	cs_try_and_undo(read_samples, &job);

	verification.fetcher = cs_fetch_open(verification.endpoint, TRIES);
	for (int n = 0; check(verification.endpoint, verification.fetcher, n, &verification.local, &finding); n++)
		put_finding(&verification, &finding);
	for (int i = 0; i < nsamples; i++)
		spot_check(&verification, &samples[i]);
	return (Datum) 0;
}

void
cs_verify_mapping(const CsEndpoint *endpoint, const CsWatch *watch)
{
	int			n = endpoint->provider->mapping_check - 1;
	CsLocalCounts local = {0};
	CsFinding	finding;

	if (n < 0 || !cs_endpoint_option_bool(endpoint, "check_fields"))
		return;
	add_mapped(&local, watch);
	if (!check(endpoint, cs_fetch_open(endpoint, 1), n, &local, &finding))
		return;
	if (finding.result == CS_FINDING_DIFFERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", cs_encoding_from_utf8(cs_endpoint_clean(endpoint, finding.detail))),
				 errdetail("It has: %s.", cs_encoding_from_utf8(cs_endpoint_clean(endpoint, finding.theirs))),
				 errhint("Create it there, leave it out of the mapping, or use ALTER SERVER %s OPTIONS (ADD check_fields 'false').",
						 quote_identifier(endpoint->server_name))));
	if (finding.result == CS_FINDING_UNAVAILABLE)
		ereport(WARNING,
				(errmsg("%s could not be asked whether it has the fields of the mapping", endpoint->provider->title),
				 errdetail("%s.", cs_encoding_from_utf8(cs_endpoint_clean(endpoint, finding.detail)))));
}
