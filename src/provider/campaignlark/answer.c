/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What CampaignLark's answers mean.
 *
 * [DOC introduction]: errors are {"error":{"message":"..."}} without a code, so
 * the message has to be parsed.  A success has "error":null.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/campaignlark/answer.h"
#include "provider/campaignlark/request.h"

/* An import or export blocks a workspace for seconds or minutes. */
#define BUSY_SECONDS	30

/* ---------- successes ---------- */

/* Does the status mean that the person wants no mail? */
static bool
is_opt_out(const char *status)
{
	return status && (strcmp(status, "UNSUBSCRIBED") == 0 || strcmp(status, "COMPLAINED") == 0);
}

/* Return the merge tag of a field, numbered like the bits of a step, or NULL. */
static const char *
tag_of(const CsCampaignLark *lark, const CsContact *contact, int field)
{
	if (field < CS_FIELD_COUNT)
		return lark->tag[field];
	field -= CS_FIELD_COUNT;
	return field < contact->nattributes ? contact->attributes[field].name : NULL;
}

/* List the fields that were left out as "a, b", palloc'd. */
static char *
list_dropped(const CsCampaignLark *lark, const CsContact *contact, uint32 dropped)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < CS_LARK_MAX_DROPPED; i++)
	{
		const char *tag = tag_of(lark, contact, i);

		if (tag && (dropped & (UINT32_C(1) << i)) != 0)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", tag);
	}
	return list.data;
}

/*
 * [SEED] 200: {"data":{"id","status","updated_at",...}}, for create and update.
 * Return false if the answer has another format.
 */
static bool
read_contact(CsJson *doc, CsOutcome *outcome)
{
	CsJson	   *data = cs_json_get(doc, "data");

	if (cs_answer_says_failed(doc))
		return false;
	outcome->remote_id = cs_answer_id(cs_json_get(data, "id"));
	outcome->remote_status = cs_json_string(cs_json_get(data, "status"));
	outcome->remote_updated_at = cs_json_string(cs_json_get(data, "updated_at"));
	return outcome->remote_id || (outcome->remote_status && *outcome->remote_status);
}

/*
 * Return what of a success cannot be true, or NULL: that it is about another address,
 * or that a contact can be mailed that was sent with a status that forbids it.
 */
static const char *
find_contradiction(const CsCampaignLark *lark, const CsBatch *batch, bool lookup, CsJson *doc)
{
	const CsContact *contact = batch->contacts[0];
	const char *sent = lookup ? NULL : cs_campaignlark_status(lark, contact, batch->step);
	const char *status = cs_json_string(cs_json_path(doc, "data.status"));

	if (cs_answer_is_another(contact, cs_json_path(doc, "data.data.email_address")))
		return "the contact of another address";
	if (sent && !cs_campaignlark_allows_mail(sent) && cs_campaignlark_allows_mail(status))
		return psprintf("the status %s, though %s was sent", status, sent);
	return NULL;
}

/* What the status that CampaignLark has now says of consent. */
static void
note_consent(const CsCampaignLark *lark, const CsBatch *batch, CsOutcome *outcome)
{
	const CsContact *contact = batch->contacts[0];
	const char *sent = cs_campaignlark_status(lark, contact, batch->step);

	if (sent == NULL && is_opt_out(outcome->remote_status))
	{
		outcome->opted_out |= contact->claimed || contact->consent == CS_CONSENT_YES;
		outcome->complained = strcmp(outcome->remote_status, "COMPLAINED") == 0;
	}
	else if (contact->consent == CS_CONSENT_YES && outcome->remote_status &&
			 strcmp(outcome->remote_status, "SUBSCRIBED") == 0)
		outcome->claimed = true;
	if (sent && is_opt_out(sent))
		outcome->claimed = false;
}

/* The contact was written. */
static void
accept_upsert(const CsCampaignLark *lark, const CsBatch *batch, CsJudgement *judgement)
{
	CsOutcome  *outcome = &judgement->outcomes[0];
	uint32		dropped = CS_LARK_DROPPED(batch->step);

	note_consent(lark, batch, outcome);
	if (dropped)
		outcome->note = psprintf("sent without fields that CampaignLark does not know: %s",
								 list_dropped(lark, batch->contacts[0], dropped));
}

/* The contact was looked up, and is there. */
static void
judge_found(const CsContact *contact, const CsOutcome *outcome, CsJudgement *judgement)
{
	bool		gone = is_opt_out(outcome->remote_status) ||
	strcmp(outcome->remote_status, "CLEANED") == 0;

	if (contact->action == CS_UNSUBSCRIBE && gone)
		return;					/* nothing is left to be done */
	cs_answer_conclude(judgement, CS_STEP, NULL, "the contact is %s", outcome->remote_status);
	judgement->next_step = CS_LARK_STEP(contact->action == CS_UNSUBSCRIBE ||
										(contact->consent == CS_CONSENT_NO && !gone) ?
										CS_LARK_SET : CS_LARK_KEEP, 0);
}

/*
 * [DOC retrieve-contact-by-email]: 200, or 404 "We couldn't find a contact with
 * that email address."  Any other 404 means a wrong URL.
 */
static bool
judge_lookup(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJson *doc, CsJudgement *judgement)
{
	const CsContact *contact = batch->contacts[0];
	CsOutcome  *outcome = &judgement->outcomes[0];

	if (response->status == 404 &&
		cs_answer_mentions(cs_answer_error_message(doc), "find a contact"))
	{
		if (contact->action == CS_UNSUBSCRIBE)
		{
			outcome->note = "there was no such contact";
			return true;
		}
		cs_answer_conclude(judgement, CS_STEP, NULL, "the contact is new");
		judgement->next_step = CS_LARK_STEP(CS_LARK_SET, 0);
	}
	else if (response->status >= 300)
		return false;
	else if (!read_contact(doc, outcome) || outcome->remote_status == NULL)
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
	else
		judge_found(contact, outcome, judgement);
	return true;
}

/* ---------- refusals ---------- */

/* Return the word after "merge_tag" in the message, without quotes, palloc'd. */
static char *
named_tag(const char *message)
{
	static const char phrase[] = "merge_tag";
	const char *tag = strstr(message, phrase);

	if (tag == NULL)
		return pstrdup("");
	tag += strlen(phrase);
	tag += strspn(tag, " :'\"`<");
	return pnstrdup(tag, strcspn(tag, " '\"`>,;"));
}

/* Return the bit of the field with a tag, or -1 if it cannot be left out. */
static int
find_field(const CsCampaignLark *lark, const CsContact *contact, const char *tag)
{
	/* attributes first: they replace fields with the same tag */
	for (int i = CS_LARK_MAX_DROPPED - 1; i >= 0; i--)
	{
		const char *name = tag_of(lark, contact, i);

		if (name && strcmp(name, tag) == 0 &&
			(i >= CS_FIELD_COUNT || (contact->present & CS_FIELD_BIT(i))))
			return i;
	}
	return -1;
}

/*
 * [SEED] 400: "We were unable to find a field with the merge_tag <tag>".  Leave
 * the field out if the option says so.  Else the mapping is at fault, or the
 * contact if it has no mapping.
 */
static void
judge_unknown_field(const CsCampaignLark *lark, const CsBatch *batch, const char *message,
					CsJudgement *judgement)
{
	const CsContact *contact = batch->contacts[0];
	uint32		dropped = CS_LARK_DROPPED(batch->step);
	char	   *tag = named_tag(message);
	int			field;

	if (strlen(tag) > 0 && tag[strlen(tag) - 1] == '.')
		tag[strlen(tag) - 1] = '\0';
	field = find_field(lark, contact, tag);
	if (lark->drop_unknown_fields && field >= 0 && !(dropped & (UINT32_C(1) << field)))
	{
		cs_answer_conclude(judgement, CS_STEP, NULL, "CampaignLark has no field \"%s\"", tag);
		judgement->next_step = CS_LARK_STEP(CS_LARK_KIND(batch->step),
											dropped | (UINT32_C(1) << field));
		return;
	}
	cs_answer_conclude(judgement, contact->direct ? CS_REJECT : CS_HALT,
					   contact->direct ? CS_REASON_INVALID_FIELD : CS_HALT_FIELD,
					   "%s: create it there, map another one, or set the option drop_unknown_fields",
					   *tag ? psprintf("CampaignLark has no field with the merge tag \"%s\"", tag) :
					   message);
	judgement->field = *tag ? tag : NULL;
	judgement->mapping_error = !contact->direct;
}

/* Return the text between the first two quotes, palloc'd, or NULL. */
static char *
quoted_word(const char *message)
{
	const char *start = strchr(message, '\'');
	const char *end = start ? strchr(start + 1, '\'') : NULL;

	return end ? pnstrdup(start + 1, end - start - 1) : NULL;
}

/* [SEED]: errors are distinguished by their messages. */
static void
judge_400(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
		  CsJson *doc, CsJudgement *judgement)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	const char *message = cs_answer_error_message(doc);

	cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
	if (message == NULL)
		return;
	if (cs_answer_mentions(message, "is currently in progress"))
	{
		cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE, "%s", message);
		judgement->throttled = judgement->blocked = true;
		judgement->retry_after = cs_message_retry_after(response);
		if (judgement->retry_after < 0)
			judgement->retry_after = BUSY_SECONDS;
	}
	else if (cs_answer_mentions(message, "find a field"))
		judge_unknown_field(lark, batch, message, judgement);
	else if (cs_answer_mentions(message, "Email address is required"))
	{
		judgement->reason = CS_REASON_MISSING_FIELD;
		judgement->field = "email";
	}
	else if (cs_answer_mentions(message, "status you provided"))
	{
		judgement->reason = CS_REASON_INVALID_FIELD;
		judgement->field = "status";
	}
	else if (cs_answer_mentions(message, "Tag ID"))
	{
		judgement->reason = CS_REASON_INVALID_FIELD;
		judgement->field = "tags";
	}
	else if (cs_answer_mentions(message, "is required"))
	{
		judgement->reason = CS_REASON_MISSING_FIELD;
		judgement->field = quoted_word(message);
	}
	else if (cs_answer_mentions(message, "email"))
	{
		judgement->reason = CS_REASON_INVALID_EMAIL;
		judgement->field = "email";
	}
}

void
cs_campaignlark_judge(const CsEndpoint *endpoint, const CsBatch *batch,
					  const CsResponse *response, CsJudgement *judgement)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	const char *message = cs_answer_error_message(doc);
	bool		lookup = CS_LARK_KIND(batch->step) == CS_LARK_FIRST && cs_campaignlark_looks_up(lark, contact);
	const char *contradiction = response->status < 300 ? find_contradiction(lark, batch, lookup, doc) : NULL;

	judgement->request_id = cs_message_header(response, "x-request-id");
	if (cs_answer_judge_common(endpoint, response, doc, judgement))
	{
		if (response->status == 429 && cs_answer_mentions(message, "usage limit"))
		{
			cs_answer_conclude(judgement, CS_HALT, CS_HALT_QUOTA,
							   "a quota of the account is used up: %s", message);
			judgement->throttled = false;
		}
		else if (response->status == 429 && judgement->retry_after < 0)
			judgement->retry_after = cs_message_reset_after(response, "x-ratelimit-reset");
	}
	else if (contradiction)
		cs_answer_judge_contradictory(endpoint, response, contradiction, judgement);
	else if (lookup && judge_lookup(endpoint, batch, response, doc, judgement))
		return;
	else if (response->status < 300 && read_contact(doc, &judgement->outcomes[0]))
	{
		if (batch->action == CS_UPSERT)
			accept_upsert(lark, batch, judgement);
	}
	else if (response->status == 400 ||
			 (response->status < 300 && cs_answer_says_failed(doc)))
		judge_400(endpoint, batch, response, doc, judgement);
	else if (response->status < 300)
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
	else
	{
		cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
		if (response->status == 403 && cs_answer_mentions(message, "IP address"))
			judgement->reason = CS_HALT_ADDRESS;
	}
}
