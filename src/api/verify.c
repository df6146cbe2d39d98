/*-------------------------------------------------------------------------
 *
 * verify.c
 *		contactsync_verify(): compare what the provider has with what was sent.
 *
 * First come the checks of the provider, which differ from one to another: each
 * compares an answer of the provider with what is known here.  Then a few
 * contacts that were sent are looked up, and compared field by field with what
 * their rows would be sent as now.
 *
 * The transaction of the caller stays open while the provider is asked, so this
 * is meant for interactive use, or for a check once a day.  No locks are held on
 * the sources meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

#include "api/fetch.h"
#include "api/verify.h"
#include "base/compat.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/row_contact.h"
#include "provider/endpoint.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/contact_sample.h"
#include "store/endpoint_state.h"
#include "store/source_row.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_verify);

/* How often a request is made if it fails. */
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
	const CsContactSample *sent;
	CsContact  *contact;		/* as it would be sent now */
	const char *problem;		/* why it cannot be compared, or NULL */
} CsSample;

typedef struct CsVerification
{
	const CsEndpoint *endpoint;
	int			endpoint_id;	/* 0: nothing was ever sent */
	CsFetcher  *fetcher;
	CsLocalCounts local;
	ReturnSetInfo *result;
} CsVerification;

/*
 * What was sent
 */

/* Add the fields and attributes that a watch maps. */
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
			local->attributes[local->nattributes++] = mapped->attribute_utf8;
	}
}

/* What read_samples() reads. */
typedef struct CsSampleJob
{
	const CsEndpoint *endpoint;
	List	   *watches;
	int			n;
	CsSample   *samples;
} CsSampleJob;

/*
 * Draw samples from the contacts that were sent, find the watches, and count what
 * they map and what they sent.  Results are palloc'd in the current context.
 */
static void
read_state(CsVerification *verification, Oid serverid, int wanted, CsSampleJob *job)
{
	const CsEndpoint *endpoint = verification->endpoint;
	MemoryContext context = CurrentMemoryContext;
	CsContactSample *sent;
	CsSqlScope	scope;
	ListCell   *lc;

	cs_sql_enter(&scope);
	verification->endpoint_id = cs_endpoint_state_find(serverid, endpoint->server_name, endpoint->roleid);
	verification->local.contacts = cs_contact_sample_count(verification->endpoint_id);
	/* each statement leaves us in a context that ends with the scope */
	MemoryContextSwitchTo(context);
	sent = cs_contact_sample_read(verification->endpoint_id, wanted, &job->n);
	job->watches = cs_watch_load_all();
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);

	foreach(lc, job->watches)
	{
		if (((CsWatch *) lfirst(lc))->endpoint == verification->endpoint_id)
			add_mapped(&verification->local, lfirst(lc));
	}
	job->endpoint = endpoint;
	job->samples = palloc0(Max(job->n, 1) * sizeof(CsSample));
	for (int i = 0; i < job->n; i++)
		job->samples[i].sent = &sent[i];
}

/* Read what a sample's row would be sent as now. */
static void
read_sample(const CsEndpoint *endpoint, const CsWatch *watch, CsSample *sample)
{
	CsSource   *source = cs_source_row_open(watch);
	char	   *key = sample->sent->key;
	CsRowContact current;

	PG_TRY();
	{
		cs_row_contact_read(source, watch, endpoint, 1, &key, &current);
	}
	PG_FINALLY();
	{
		cs_source_row_close(source);
	}
	PG_END_TRY();
	if (current.later)
		ReThrowError(current.later);
	sample->contact = current.contact;
	if (current.refusal)
		sample->problem = psprintf("it can no longer be sent: %s", current.refusal->message);
	else if (current.contact == NULL)
		sample->problem = "its row is gone or does not pass the filter";
}

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

			if (watch->id == job->samples[i].sent->watch)
				read_sample(job->endpoint, watch, &job->samples[i]);
		}
	}
}

/*
 * Checks of the provider
 */

static void
set_text(Datum *values, bool *nulls, int column, const char *utf8)
{
	nulls[column] = utf8 == NULL;
	values[column] = utf8 ? CStringGetTextDatum(cs_text_from_utf8(utf8)) : (Datum) 0;
}

/* Return a row of the result; what the provider said is cleaned first. */
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

/*
 * Make the n-th check of the provider, and return its answer, NULL if it is not usable.
 * Return false if there is none.
 */
static bool
check(const CsEndpoint *endpoint, CsFetcher *fetcher, int n, const CsLocalCounts *local,
	  CsFinding *finding, CsJson **answer)
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
	*answer = problem ? NULL : doc;
	/* without a usable answer, this only sets the name of the check */
	provider->judge_check(endpoint, n, local, &response, *answer, finding);
	if (problem)
	{
		finding->result = CS_FINDING_UNAVAILABLE;
		finding->theirs = NULL;
		finding->detail = problem;
	}
	else if (finding->result == CS_FINDING_UNAVAILABLE && finding->detail == NULL)
		finding->detail = CS_FETCH_UNDOCUMENTED;
	return true;
}

/*
 * Lookups of contacts
 */

static void
append_difference(StringInfo out, const char *name, const char *ours, const char *theirs)
{
	appendStringInfo(out, "%s%s is %s here and %s there", out->len > 0 ? "; " : "", name,
					 ours ? ours : "null", theirs ? theirs : "null");
}

/* Are both the same JSON, with 1 and 1.0 being equal? */
static bool
same_json(const char *a, const char *b)
{
	Datum		left = DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_text_from_utf8(a)));
	Datum		right = DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_text_from_utf8(b)));

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
 * Describe how the provider's contact differs from what would be sent; return an
 * empty string if it does not.  What is not sent, or not shown by the provider,
 * is not compared.
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

/* Look up a sample and compare it. */
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
		finding->detail = "it has no key to be looked up by";
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
		finding->detail = CS_FETCH_UNDOCUMENTED;
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
		cs_text_message_to_utf8(sample->sent->key);
	if (sample->sent->queued)
		finding.detail = "a change is queued";
	else if (sample->problem || sample->contact == NULL)
		finding.detail = sample->problem ? sample->problem : "its watch has ended";
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
	CsSampleJob job;
	CsFinding	finding;
	CsJson	   *answer;

	if (wanted < 0 || wanted > MAX_SAMPLES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"samples\" must be between 0 and %d", MAX_SAMPLES)));
	InitMaterializedSRF(fcinfo, 0);
	verification.endpoint = cs_server_read(serverid, GetUserId());
	if (verification.endpoint->provider->build_lookup == NULL)
		wanted = 0;
	read_state(&verification, serverid, wanted, &job);
	/* undo it to release the locks before waiting for the provider */
	cs_try_and_undo(read_samples, &job);
	verification.fetcher = cs_fetch_open(verification.endpoint, TRIES);
	for (int n = 0; check(verification.endpoint, verification.fetcher, n, &verification.local, &finding, &answer); n++)
		put_finding(&verification, &finding);
	for (int i = 0; i < job.n; i++)
		spot_check(&verification, &job.samples[i]);
	return (Datum) 0;
}

/* Take over the types that fields and attributes have at the provider; "answer" may be NULL. */
static void
learn_value_types(const CsEndpoint *endpoint, CsJson *answer, CsWatch *watch)
{
	for (int i = 0; endpoint->provider->value_type && i < watch->nmapped; i++)
	{
		CsMapped   *mapped = &watch->mapped[i];

		mapped->type = answer ?
			endpoint->provider->value_type(endpoint, answer, mapped->field, mapped->attribute_utf8) : CS_VALUE_ANY;
	}
}

void
cs_verify_mapping(const CsEndpoint *endpoint, CsWatch *watch)
{
	int			n = endpoint->provider->mapping_check - 1;
	CsLocalCounts local = {0};
	CsFinding	finding;
	CsJson	   *answer;

	if (n < 0)
		return;
	if (!cs_endpoint_option_bool(endpoint, "check_fields"))
	{
		learn_value_types(endpoint, NULL, watch);
		return;
	}
	add_mapped(&local, watch);
	if (!check(endpoint, cs_fetch_open(endpoint, 1), n, &local, &finding, &answer))
		return;
	if (answer)
		learn_value_types(endpoint, answer, watch);
	if (finding.result == CS_FINDING_DIFFERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", cs_text_from_utf8(cs_endpoint_clean(endpoint, finding.detail))),
				 errdetail("It has: %s.", cs_text_from_utf8(cs_endpoint_clean(endpoint, finding.theirs))),
				 errhint("Create the field at %s, remove it from the mapping, or use ALTER SERVER %s OPTIONS (ADD check_fields 'false').",
						 endpoint->provider->title, quote_identifier(endpoint->server_name))));
	if (finding.result == CS_FINDING_UNAVAILABLE)
		ereport(WARNING,
				(errmsg("could not check whether %s has the fields of the mapping", endpoint->provider->title),
				 errdetail("The check failed with: %s.", cs_text_from_utf8(cs_endpoint_clean(endpoint, finding.detail)))));
}

const char **
cs_verify_find_missing(const CsEndpoint *endpoint, const CsWatch *watch)
{
	int			n = endpoint->provider->mapping_check - 1;
	const char **missing = palloc0(Max(watch->nmapped, 1) * sizeof(char *));
	CsLocalCounts none = {0};
	CsResponse	response = {.status = 200};
	CsFinding	finding;
	CsJson	   *answer = NULL;

	if (n < 0 || !cs_endpoint_option_bool(endpoint, "check_fields") ||
		!check(endpoint, cs_fetch_open(endpoint, 1), n, &none, &finding, &answer) || answer == NULL)
		return NULL;
	for (int i = 0; i < watch->nmapped; i++)
	{
		CsWatch		one = {.nmapped = 1,.mapped = &watch->mapped[i]};
		CsLocalCounts local = {0};

		add_mapped(&local, &one);
		memset(&finding, 0, sizeof(CsFinding));
		endpoint->provider->judge_check(endpoint, n, &local, &response, answer, &finding);
		if (finding.result == CS_FINDING_DIFFERS)
			missing[i] = cs_text_from_utf8(cs_endpoint_clean(endpoint, finding.detail));
	}
	return missing;
}
