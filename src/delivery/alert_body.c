/*-------------------------------------------------------------------------
 *
 * alert_body.c
 *		What is sent to alert_url; pure.
 *
 * A message says in a sentence what has happened, for people, and in fields the same
 * for programs.  Names are those that somebody has given to servers and tables: in the
 * sentence they cannot become a link, a mention of everybody, or markup.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/text.h"
#include "delivery/alert_body.h"
#include "http/json.h"

/* A name, or a hint, is cut off after so many bytes. */
#define MAX_TEXT	500

/* Characters that chat programs take for markup. */
#define MARKUP		"<>&[]()*~`@|\\#!"

/* Return a copy of a text, visible and not too long. */
static char *
clip(const char *text)
{
	char	   *copy = cs_text_make_visible(text);
	int			len = (int) strlen(copy);

	if (len > MAX_TEXT)
		copy[pg_encoding_mbcliplen(PG_UTF8, copy, len, MAX_TEXT)] = '\0';
	return copy;
}

/* Return a copy of a name without markup. */
static char *
plain(const char *name)
{
	char	   *copy = clip(name);

	for (char *c = copy; *c; c++)
		if (strchr(MARKUP, *c))
			*c = '?';
	return copy;
}

static bool
is(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

/* Return what the trouble is about, to begin a sentence. */
static char *
subject(const CsAlert *alert)
{
	if (alert->source == NULL)
		return psprintf("Server \"%s\"", plain(alert->server));
	return psprintf("The watch on %s for server \"%s\"", plain(alert->source), plain(alert->server));
}

/* Say what has happened, to end that sentence. */
static char *
trouble(const CsAlert *alert)
{
	const char *reason = alert->reason ? plain(alert->reason) : "unknown";

	if (is(alert->event, "breaker"))
		return pstrdup("is halted: its provider refuses one contact like another");
	if (is(alert->event, "halted"))
		return psprintf("is halted: %s", reason);
	if (is(alert->event, "broken"))
		return pstrdup("is broken: its rows cannot be read");
	if (is(alert->event, "guarded"))
		return psprintf("is held: " INT64_FORMAT " contacts or more %s", alert->contacts,
						is(alert->reason, "removals") ? "would be removed" : "could get mail");
	if (is(alert->event, "failures"))
		return psprintf("failed for " INT64_FORMAT " contacts within an hour", alert->contacts);
	return psprintf("is late: " INT64_FORMAT " contacts wait, some of them for long", alert->contacts);
}

static char *
sentence(const CsAlert *alert)
{
	char	   *database = alert->database ? plain(alert->database) : "";

	if (!alert->ended)
		return psprintf("contactsync in database \"%s\": %s %s, since %s.", database, subject(alert), trouble(alert), alert->since);
	return psprintf("contactsync in database \"%s\": Over, from %s to %s: %s %s.", database, alert->since, alert->until,
					subject(alert), trouble(alert));
}

static void
add_text(StringInfo out, const char *name, const char *text)
{
	if (text)
		cs_json_member(out, name, clip(text));
}

static void
add_number(StringInfo out, const char *name, int64 number)
{
	if (number >= 0)
		cs_json_member_raw(out, name, psprintf(INT64_FORMAT, number));
}

/* The state that the view status shows. */
static const char *
state(const CsAlert *alert)
{
	if (alert->ended)
		return "recovered";
	return is(alert->event, "breaker") ? "halted" : alert->event;
}

static const char *
severity(const CsAlert *alert)
{
	if (alert->ended)
		return "info";
	if (is(alert->event, "halted") || is(alert->event, "breaker"))
		return "critical";
	return is(alert->event, "failures") ? "warning" : "error";
}

/* Write the members that all formats have, without braces. */
static void
add_fields(StringInfo out, const CsAlert *alert)
{
	cs_json_member(out, "event", alert->ended ? "recovered" : alert->event);
	if (alert->ended)
		cs_json_member(out, "recovered_from", alert->event);
	cs_json_member(out, "dedup_key", alert->key);
	cs_json_member(out, "severity", severity(alert));
	add_text(out, "server", alert->server);
	add_text(out, "source", alert->source);
	add_text(out, "owner", alert->owner);
	add_text(out, "database", alert->database);
	cs_json_member(out, "state", state(alert));
	add_text(out, "reason", alert->reason);
	add_text(out, "hint", alert->hint);
	add_text(out, "since", alert->since);
	add_text(out, "until", alert->until);
	add_number(out, "contacts", alert->contacts);
	add_number(out, "backlog", alert->backlog);
	add_number(out, "failed_last_hour", alert->failed);
}

static void
write_text(StringInfo out, const CsAlert *alert)
{
	appendStringInfoChar(out, '{');
	cs_json_member(out, "text", sentence(alert));
	add_fields(out, alert);
	appendStringInfoChar(out, '}');
}

static void
add_block(StringInfo out, const char *text)
{
	cs_json_comma(out);
	appendStringInfoChar(out, '{');
	cs_json_member(out, "type", "TextBlock");
	cs_json_member_raw(out, "wrap", "true");
	cs_json_member(out, "text", text);
	appendStringInfoChar(out, '}');
}

static void
write_teams(StringInfo out, const CsAlert *alert)
{
	appendStringInfoString(out, "{\"type\":\"message\",\"attachments\":[{"
						   "\"contentType\":\"application/vnd.microsoft.card.adaptive\",\"content\":{"
						   "\"$schema\":\"http://adaptivecards.io/schemas/adaptive-card.json\","
						   "\"type\":\"AdaptiveCard\",\"version\":\"1.2\",\"body\":[");
	add_block(out, sentence(alert));
	if (alert->hint)
		add_block(out, plain(alert->hint));
	appendStringInfoString(out, "]}}]}");
}

static void
write_pagerduty(StringInfo out, const CsAlert *alert, const char *key)
{
	appendStringInfoChar(out, '{');
	if (key)
		cs_json_member(out, "routing_key", key);
	cs_json_member(out, "event_action", alert->ended ? "resolve" : "trigger");
	cs_json_member(out, "dedup_key", alert->key);
	cs_json_key(out, "payload");
	appendStringInfoChar(out, '{');
	cs_json_member(out, "summary", sentence(alert));
	cs_json_member(out, "source", clip(alert->database));
	cs_json_member(out, "severity", severity(alert));
	cs_json_member(out, "timestamp", alert->since);
	cs_json_member(out, "component", clip(alert->server));
	cs_json_member(out, "class", alert->event);
	cs_json_key(out, "custom_details");
	appendStringInfoChar(out, '{');
	add_fields(out, alert);
	appendStringInfoString(out, "}}}");
}

void
cs_alert_body_write(StringInfo out, const CsAlert *alert, CsAlertFormat format, const char *key)
{
	switch (format)
	{
		case CS_ALERT_TEXT:
			write_text(out, alert);
			break;
		case CS_ALERT_TEAMS:
			write_teams(out, alert);
			break;
		case CS_ALERT_PAGERDUTY:
			write_pagerduty(out, alert, key);
			break;
	}
}
