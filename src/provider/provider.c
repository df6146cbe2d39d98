/*-------------------------------------------------------------------------
 *
 * provider.c
 *		What delivery asks of a provider, apart from build().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "common/sha1.h"
#include "mb/pg_wchar.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/digest.h"
#include "base/text.h"
#include "provider/email.h"
#include "provider/provider.h"

/* Bytes of a contact's text that a refusal quotes. */
#define MAX_QUOTED	60

/* Longer identifiers of a provider are not kept. */
#define MAX_ID		500

/* The namespace of our name-based UUIDs: the UUID of the DNS name "contactsync". */
static const uint8 uuid_namespace[16] = {
	0x66, 0x40, 0xf1, 0x20, 0x59, 0x89, 0x5f, 0xbf,
	0x8a, 0x1c, 0xff, 0x08, 0x41, 0x97, 0x21, 0xe6
};

/* ---------- limits and settings ---------- */

int
cs_provider_batch_limit(const CsEndpoint *endpoint, CsAction action, int step)
{
	const CsProvider *provider = endpoint->provider;
	int			limit = provider->max_batch;

	if (provider->batch_limit)
		limit = provider->batch_limit(endpoint, action, step);
	return Max(1, Min(limit, endpoint->batch_size));
}

int
cs_provider_first_step(const CsEndpoint *endpoint, const CsContact *contact)
{
	return endpoint->provider->first_step ? endpoint->provider->first_step(endpoint, contact) : 0;
}

const char *
cs_provider_mails_whoever_exists(const CsEndpoint *endpoint)
{
	const CsProvider *provider = endpoint->provider;

	return provider->mails_by_consent && provider->mails_by_consent(endpoint) ? NULL : provider->mails_whoever_exists;
}

const void *
cs_provider_settings(const CsEndpoint *endpoint)
{
	if (endpoint->settings == NULL && endpoint->provider->configure != NULL)
	{
		CsEndpoint *writable = unconstify(CsEndpoint *, endpoint);
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(writable));

		writable->settings = endpoint->provider->configure(endpoint);
		MemoryContextSwitchTo(old);
	}
	return endpoint->settings;
}

bool
cs_provider_deletes_opt_outs(const CsEndpoint *endpoint)
{
	return endpoint->provider->deletes_opt_outs && endpoint->provider->deletes_opt_outs(endpoint);
}

bool
cs_provider_is_same(const CsProvider *a, const CsProvider *b)
{
	return a == b || (a->hash != 0 && b->hash != 0 && strcmp(a->name, b->name) == 0);
}

const char *
cs_provider_account_name(const CsEndpoint *endpoint)
{
	const char *option = endpoint->provider->account_option;

	return cs_endpoint_option(endpoint, option ? option : "account");
}

uint64
cs_provider_account_hash(const CsEndpoint *endpoint)
{
	const char *name = cs_provider_account_name(endpoint);
	uint64		hash = hash_combine64(cs_text_hash(endpoint->provider->name, 0), cs_text_hash(endpoint->base_url, 0));

	return hash_combine64(hash, cs_text_hash(name ? name : endpoint->server_name, 0)) | 1;
}

/* ---------- authorization ---------- */

bool
cs_provider_has_auth_header(const CsProvider *provider)
{
	return provider->auth != CS_AUTH_NONE && provider->auth != CS_AUTH_QUERY;
}

const char *
cs_provider_auth_header(const CsProvider *provider)
{
	return provider->auth_header ? provider->auth_header : "Authorization";
}

char *
cs_provider_auth_format(const CsProvider *provider, const char *secret)
{
	const char *scheme = provider->auth_scheme ? provider->auth_scheme : "Bearer";

	return psprintf("%s%s%s", scheme, *scheme ? " " : "", secret);
}

/* User name and password, in base64. */
static char *
basic_value(const CsEndpoint *endpoint)
{
	const char *username = cs_endpoint_option(endpoint, "username");
	const char *password = cs_endpoint_option(endpoint, "password");
	char	   *pair;
	char	   *encoded;
	char	   *value;

	if (username == NULL || password == NULL)
		return NULL;
	pair = psprintf("%s:%s", username, password);
	encoded = cs_digest_base64(pair, strlen(pair));
	value = cs_provider_auth_format(endpoint->provider, encoded);
	cs_provider_auth_wipe(pair);
	cs_provider_auth_wipe(encoded);
	return value;
}

char *
cs_provider_auth_value(const CsEndpoint *endpoint)
{
	CsAuth		auth = endpoint->provider->auth;
	const char *secret = cs_endpoint_option(endpoint, auth == CS_AUTH_OAUTH ? "access_token" : "api_key");

	if (auth == CS_AUTH_BASIC)
		return basic_value(endpoint);
	return secret ? cs_provider_auth_format(endpoint->provider, secret) : NULL;
}

void
cs_provider_auth_wipe(char *value)
{
	if (value == NULL)
		return;
	explicit_bzero(value, strlen(value));
	pfree(value);
}

/* ---------- preparing a contact ---------- */

/* Refuse text that could not be converted, as arbitrary bytes in a database in SQL_ASCII. */
static CsRefusal *
check_encoding(const CsContact *contact)
{
	if (contact->undecodable == NULL)
		return NULL;
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, contact->undecodable,
							 GetDatabaseEncoding() == PG_SQL_ASCII ? "%s is not valid UTF-8" :
							 "%s has a character that UTF-8 lacks", contact->undecodable);
}

/* Refuse what the contact would be known by here if that changes when it is stored. */
static CsRefusal *
check_stored(const CsContact *contact)
{
	const char *email = contact->value[CS_EMAIL];

	if ((contact->upsert_key == NULL || cs_text_is_storable(contact->upsert_key)) &&
		(email == NULL || cs_text_is_storable(email)))
		return NULL;
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
							 "the key of the contact has a character that the encoding of the database lacks");
}

/* Normalize the email address, and refuse one that cannot be valid. */
static CsRefusal *
check_email(const CsEndpoint *endpoint, CsContact *contact)
{
	const char *problem;

	if (contact->value[CS_EMAIL] == NULL)
		return NULL;
	if (cs_endpoint_option_bool(endpoint, "keep_email_case"))
		contact->value[CS_EMAIL] = cs_email_trim(contact->value[CS_EMAIL]);
	else
		contact->value[CS_EMAIL] = cs_email_normalize(contact->value[CS_EMAIL]);
	if (contact->value[CS_EMAIL][0] == '\0')
	{
		contact->value[CS_EMAIL] = NULL;
		return NULL;			/* whether that is a fault is asked next */
	}

	problem = cs_email_problem(contact->value[CS_EMAIL]);
	if (problem)
	{
		const char *email = contact->value[CS_EMAIL];
		int			len = (int) strlen(email);
		int			shown = pg_encoding_mbcliplen(PG_UTF8, email, len, MAX_QUOTED);

		return cs_contact_refuse(CS_REASON_INVALID_EMAIL, "email",
								 "the address \"%.*s%s\" %s",
								 shown, email, shown < len ? "..." : "", problem);
	}
	return NULL;
}

/* Refuse fields that the provider does not support, and missing ones that it requires. */
static CsRefusal *
check_fields(const CsProvider *provider, const CsContact *contact)
{
	uint32		excess = contact->present & ~provider->fields;

	if (excess)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD,
								 cs_contact_field_name(pg_rightmost_one_pos32(excess)),
								 "%s does not support %s; it supports %s", provider->title,
								 cs_contact_field_list(excess),
								 cs_contact_field_list(provider->fields));
	for (int i = 0; i < CS_FIELD_COUNT; i++)
	{
		if ((provider->required & CS_FIELD_BIT(i)) && cs_contact_is_null(contact, i))
			return cs_contact_refuse(CS_REASON_MISSING_FIELD, cs_contact_field_name(i),
									 "%s is %s, and %s requires it", cs_contact_field_name(i),
									 contact->present & CS_FIELD_BIT(i) ? "empty" : "missing",
									 provider->title);
	}
	return NULL;
}

/* Consent is true, false or unknown. */
static CsRefusal *
check_opt_in(const CsContact *contact)
{
	const char *value = contact->value[CS_OPT_IN];

	if (value == NULL || strcmp(value, "true") == 0 || strcmp(value, "false") == 0)
		return NULL;
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, "opt_in",
							 "opt_in must be true or false, not \"%.*s\"",
							 pg_encoding_mbcliplen(PG_UTF8, value, (int) strlen(value), MAX_QUOTED),
							 value);
}

static CsRefusal *
refuse_too_large(void)
{
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL, "the contact is larger than %d kB",
							 CS_CONTACT_MAX_BYTES / 1024);
}

/* Read when the person opted in.  What is in the future is not a word yet. */
static CsRefusal *
check_opt_in_at(CsContact *contact)
{
	const char *value = contact->value[CS_OPT_IN_AT];

	contact->opt_in_at = 0;
	if (value == NULL)
		return NULL;
	if (strspn(value, "0123456789") > 4)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "opt_in_at",
								 "opt_in_at \"%.*s\" is after the year 9999",
								 pg_encoding_mbcliplen(PG_UTF8, value, (int) strlen(value), MAX_QUOTED), value);
	if (!cs_contact_parse_time(value, &contact->opt_in_at))
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "opt_in_at",
								 "opt_in_at \"%s\" is not a time such as 2026-07-04T12:00:00Z", value);
	contact->opt_in_at = Min(contact->opt_in_at, GetCurrentTimestamp());
	return NULL;
}

CsRefusal *
cs_provider_prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const CsProvider *provider = endpoint->provider;
	CsRefusal  *refusal;

	refusal = contact->too_large ? refuse_too_large() : check_encoding(contact);
	if (refusal == NULL)
		refusal = check_email(endpoint, contact);
	if (refusal == NULL && contact->action == CS_UPSERT)
		refusal = check_fields(provider, contact);
	if (refusal == NULL)
		refusal = check_opt_in(contact);
	if (refusal == NULL)
		refusal = check_opt_in_at(contact);
	if (refusal)
		return refusal;

	contact->size = cs_contact_size(contact);
	if (contact->size > CS_CONTACT_MAX_BYTES)
		return refuse_too_large();

	refusal = provider->prepare(endpoint, contact);
	contact->consent = cs_contact_consent(contact);
	if (contact->consent == CS_CONSENT_UNKNOWN && provider->implies_consent &&
		provider->implies_consent(endpoint))
		contact->consent = CS_CONSENT_YES;
	if (refusal == NULL && contact->upsert_key && strlen(contact->upsert_key) > CS_KEY_MAX_BYTES)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
								 "the key of the contact is longer than %d bytes",
								 CS_KEY_MAX_BYTES);
	return refusal ? refusal : check_stored(contact);
}

/* ---------- idempotency keys ---------- */

/* Add a length-prefixed part of a UUID's name; return false if the hash fails. */
static bool
hash_part(pg_cryptohash_ctx *hash, const void *data, size_t len)
{
	uint64		prefix = len;

	return pg_cryptohash_update(hash, (uint8 *) &prefix, sizeof(prefix)) == 0 &&
		pg_cryptohash_update(hash, data, len) == 0;
}

static bool
hash_batch(pg_cryptohash_ctx *hash, const CsBatch *batch, const StringInfoData *body)
{
	const char *first = batch->contacts[0]->upsert_key;
	const char *last = batch->contacts[batch->ncontacts - 1]->upsert_key;

	if (pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, uuid_namespace, sizeof(uuid_namespace)) < 0 ||
		!hash_part(hash, first, strlen(first)) ||
		!hash_part(hash, last, strlen(last)) ||
		!hash_part(hash, body->data, body->len) ||
		!hash_part(hash, &batch->rekeys, sizeof(batch->rekeys)))
		return false;
	for (int i = 0; i < batch->ncontacts; i++)
	{
		const CsContact *contact = batch->contacts[i];

		if (!hash_part(hash, &contact->change_id, sizeof(contact->change_id)) ||
			!hash_part(hash, &contact->retries, sizeof(contact->retries)))
			return false;
	}
	return true;
}

/*
 * Compute the SHA1 hash of a batch.  With OpenSSL, a hash context belongs to a
 * resource owner.  No transaction is open here that would have one, so make one
 * for the purpose.
 */
static void
digest_batch(const CsBatch *batch, const StringInfoData *body, uint8 *digest)
{
	ResourceOwner old = CurrentResourceOwner;
	ResourceOwner owner = ResourceOwnerCreate(NULL, "contactsync key");
	volatile bool ok = false;

	CurrentResourceOwner = owner;
	PG_TRY();
	{
		pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA1);

		ok = hash != NULL && hash_batch(hash, batch, body) &&
			pg_cryptohash_final(hash, digest, SHA1_DIGEST_LENGTH) == 0;
		pg_cryptohash_free(hash);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = old;
	}
	PG_END_TRY();
	ResourceOwnerDelete(owner);
	if (!ok)
		elog(ERROR, "could not compute a SHA1 hash");
}

char *
cs_provider_idempotency_key(const CsBatch *batch, const StringInfoData *body)
{
	uint8		d[SHA1_DIGEST_LENGTH];

	digest_batch(batch, body, d);
	d[6] = (d[6] & 0x0F) | 0x50;	/* version 5 */
	d[8] = (d[8] & 0x3F) | 0x80;	/* variant of RFC 4122 */
	return psprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
					d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7],
					d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15]);
}

/* ---------- judging an answer ---------- */

const char *const cs_provider_verdict_names[] = {
	[CS_DONE] = "done",
	[CS_STEP] = "step",
	[CS_RETRY] = "retry",
	[CS_REKEY] = "rekey",
	[CS_REAUTH] = "reauth",
	[CS_SPLIT] = "split",
	[CS_REJECT] = "reject",
	[CS_HALT] = "halt",
	NULL
};

const char *
cs_provider_verdict_name(CsVerdict verdict)
{
	return cs_provider_verdict_names[verdict];
}

void
cs_provider_begin_judgement(const CsBatch *batch, CsJudgement *judgement)
{
	memset(judgement, 0, sizeof(CsJudgement));
	judgement->verdict = CS_DONE;
	judgement->retry_after = -1;
	judgement->next_step = batch->step;
	judgement->created = -1;
	judgement->updated = -1;
	judgement->outcomes = palloc0(batch->ncontacts * sizeof(CsOutcome));
	for (int i = 0; i < batch->ncontacts; i++)
	{
		const CsContact *contact = batch->contacts[i];
		CsOutcome  *outcome = &judgement->outcomes[i];

		outcome->claimed = batch->action == CS_UPSERT && contact->consent != CS_CONSENT_NO &&
			!contact->drops_consent &&
			(contact->claimed || contact->claim == CS_CLAIM);
		outcome->next_step = CS_NEXT_ALL;
		outcome->is_new = contact->is_new;
		outcome->moved = contact->moved;
		outcome->topics = contact->topics;
		outcome->opted_out = contact->opted_out && contact->claim != CS_CLAIM;
	}
}

/* Keep an identifier whole or not at all. */
static const char *
clean_id(const CsEndpoint *endpoint, const char *id)
{
	return id && *id && strlen(id) <= MAX_ID && cs_text_is_storable(id) ? cs_endpoint_clean(endpoint, id) : NULL;
}

void
cs_provider_judge(const CsEndpoint *endpoint, const CsBatch *batch,
				  const CsResponse *response, CsJudgement *judgement)
{
	cs_provider_begin_judgement(batch, judgement);
	endpoint->provider->judge(endpoint, batch, response, judgement);

	judgement->code = cs_endpoint_clean(endpoint, judgement->code);
	judgement->message = cs_endpoint_clean(endpoint, judgement->message);
	judgement->field = cs_endpoint_clean(endpoint, judgement->field);
	judgement->request_id = clean_id(endpoint, judgement->request_id);
	for (int i = 0; i < batch->ncontacts; i++)
	{
		CsOutcome  *outcome = &judgement->outcomes[i];

		outcome->code = cs_endpoint_clean(endpoint, outcome->code);
		outcome->message = cs_endpoint_clean(endpoint, outcome->message);
		outcome->field = cs_endpoint_clean(endpoint, outcome->field);
		outcome->note = cs_endpoint_clean(endpoint, outcome->note);
		outcome->remote_id = clean_id(endpoint, outcome->remote_id);
		outcome->remote_status = clean_id(endpoint, outcome->remote_status);
		outcome->remote_updated_at = clean_id(endpoint, outcome->remote_updated_at);
	}
}

void
cs_provider_keep_outcome(CsContact *contact, const CsOutcome *outcome, MemoryContext context)
{
	if (outcome->remote_id)
		contact->remote_id = MemoryContextStrdup(context, outcome->remote_id);
	if (outcome->remote_status)
		contact->remote_status = MemoryContextStrdup(context, outcome->remote_status);
	if (outcome->job)
		contact->job = MemoryContextStrdup(context, outcome->job);
	contact->moved |= outcome->moved;
	contact->opted_out |= outcome->opted_out;
	contact->untouched |= outcome->untouched;
	contact->is_new = outcome->is_new;
	if (outcome->address)
	{
		contact->refused_address = contact->value[CS_EMAIL];
		contact->value[CS_EMAIL] = MemoryContextStrdup(context, outcome->address);
		contact->keeps_address = true;
	}
}
