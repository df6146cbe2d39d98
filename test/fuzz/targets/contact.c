/*-------------------------------------------------------------------------
 *
 * contact.c
 *		Targets email and contact.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "base/text.h"
#include "fuzz.h"
#include "http/url.h"
#include "provider/email.h"

/* ---------- email ---------- */

/* Return what a valid address cannot have, or NULL. */
static const char *
fault_of_address(const char *email)
{
	const char *at = strchr(email, '@');
	const char *domain = at ? at + 1 : "";

	if (at == NULL || at == email || strchr(domain, '@'))
		return "does not have one @";
	if (strlen(email) > 254 || at - email > 64)
		return "is too long";
	if (strchr(domain, '.') == NULL || *domain == '.' || email[strlen(email) - 1] == '.' ||
		strstr(email, "..") || email[0] == '.' || at[-1] == '.')
		return "has a dot where there can be none";
	for (const char *c = email; *c; c++)
		if ((unsigned char) *c <= ' ' || *c == 0x7F || strchr("\"(),:;<>[\\]", *c) || (*c >= 'A' && *c <= 'Z'))
			return "has a character that it cannot have";
	return NULL;
}

static void
run_email(char *data, size_t len)
{
	char	   *email;
	const char *fault;

	(void) cs_email_problem(data);
	if (!pg_verify_mbstr(PG_UTF8, data, len, true))
		return;
	email = cs_email_normalize(data);
	if (strcmp(cs_email_normalize(email), email) != 0)
		fuzz_fail("%s is normalized again to %s", email, cs_email_normalize(email));
	if (!pg_verify_mbstr(PG_UTF8, email, strlen(email), true))
		fuzz_fail("the address is not UTF-8 any more");
	if (strlen(email) > len)
		fuzz_fail("the address has become longer");
	fault = cs_email_problem(email) ? NULL : fault_of_address(email);
	if (fault)
		fuzz_fail("%s is accepted, and %s", email, fault);
	if (strlen(cs_text_make_visible(email)) > strlen(email))
		fuzz_fail("the visible text is longer");
}

/* ---------- contact ---------- */

static CsEndpoint *endpoints[10];

static void
init_contact(const char *argument)
{
	static const char *const servers[] = {
		"campaignlark", "caramel", "mailingcore", "owlat", "spotzee",
		"campaignlark2", "caramel2", "mailingcore2", "owlat2", "spotzee2"
	};

	for (int i = 0; i < lengthof(servers); i++)
		endpoints[i] = fuzz_endpoint(servers[i]);
}

static bool
has_control_character(const char *text)
{
	for (; *text; text++)
		if ((unsigned char) *text < ' ')
			return true;
	return false;
}

/* Build the first request of a contact, if it can be sent. */
static void
check_contact(const CsEndpoint *endpoint, Jsonb *jsonb, CsAction action)
{
	CsContact  *contact = cs_contact_from_jsonb(jsonb);
	CsBatch		batch = {.action = action,.ncontacts = 1,.contacts = &contact,.number = 1};
	CsRequest	request = {0};
	CsRefusal  *refusal;
	pg_uuid_t	digest;

	contact->action = action;
	if (action != CS_UPSERT)
		contact->upsert_key = pstrdup("a@example.com");
	refusal = cs_provider_prepare(endpoint, contact);
	if (refusal)
	{
		if (refusal->reason == NULL || refusal->message == NULL)
			fuzz_fail("a refusal has no reason");
		return;
	}
	if (contact->upsert_key == NULL || *contact->upsert_key == '\0')
		fuzz_fail("a contact without a key can be sent");
	cs_contact_digest(contact, endpoint->payload, &digest);
	endpoint->provider->build(endpoint, &batch, &request);
	if (cs_url_problem(request.url, true))
		fuzz_fail("the URL is wrong: %s", request.url);
	for (int i = 0; i < request.nheaders; i++)
		if (has_control_character(request.headers[i].value))
			fuzz_fail("the header %s has a control character", request.headers[i].name);
	if (request.body.data && !fuzz_is_json(request.body.data, request.body.len))
		fuzz_fail("the body is not JSON: %s", request.body.data);
}

/* The first letter chooses the server and the action, the rest is the contact. */
static void
run_contact(char *data, size_t len)
{
	Jsonb	   *jsonb;
	int			choice;

	if (len < 2 || data[0] < 'A' || data[0] >= 'A' + 3 * lengthof(endpoints))
		return;
	choice = data[0] - 'A';
	if (!pg_verify_mbstr(PG_UTF8, data + 1, len - 1, true))
		return;
	jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(data + 1)));
	check_contact(endpoints[choice % lengthof(endpoints)], jsonb, choice / lengthof(endpoints));
}

const FuzzTarget fuzz_contact_targets[] = {
	{"email", run_email},
	{"contact", run_contact, init_contact},
	{NULL}
};
