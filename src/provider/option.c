/*-------------------------------------------------------------------------
 *
 * option.c
 *		Options of servers and user mappings, and the checks of their values.
 *
 * Each option belongs in one place.  Secrets belong on user mappings, because
 * pg_user_mapping hides those from other roles, while everybody can read the options
 * of a server in pg_foreign_server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/settings.h"
#include "http/url.h"
#include "provider/option.h"
#include "provider/window.h"

#define MAX_CONCURRENCY		1000
#define MAX_PACE			10000.0 /* calls per second */
#define MAX_RETRIES			100
#define MAX_SECONDS			86400
#define MAX_AGE				(30 * 86400)	/* s */
#define MAX_LINE		500
#define MAX_HEADER			4096	/* bytes; the longest tokens are JWTs */

/* ---------- checks ---------- */

/* Is the value a whole number within the bounds, and nothing else? */
static bool
is_int(const char *value, long min, long max)
{
	char	   *end;
	long		n;

	if (*value < '0' || *value > '9')
		return false;
	errno = 0;
	n = strtol(value, &end, 10);
	return errno == 0 && *end == '\0' && n >= min && n <= max;
}

const char *
cs_option_check_positive_int(const char *value)
{
	return is_int(value, 1, INT_MAX) ? NULL : "must be a whole number greater than 0";
}

static const char *
check_nonnegative_int(const char *value)
{
	return is_int(value, 0, INT_MAX) ? NULL : "must be a whole number, 0 or greater";
}

const char *
cs_option_check_boolean(const char *value)
{
	bool		result;

	return parse_bool(value, &result) ? NULL : "must be \"true\" or \"false\"";
}

const char *
cs_option_check_words(const char *value, const char *const *words)
{
	StringInfoData problem;
	int			i;

	initStringInfo(&problem);
	appendStringInfoString(&problem, "must be ");
	for (i = 0; words[i] != NULL; i++)
	{
		if (strcmp(words[i], value) == 0)
			return NULL;
		appendStringInfo(&problem, "%s\"%s\"",
						 i == 0 ? "" : words[i + 1] != NULL ? ", " : " or ", words[i]);
	}
	return problem.data;
}

const char *const cs_option_opt_out_words[] = {"keep", "delete", NULL};

const char *
cs_option_check_opt_out(const char *value)
{
	return cs_option_check_words(value, cs_option_opt_out_words);
}

/* Check that a value can be an HTTP header, or a part of one. */
const char *
cs_option_check_header(const char *value)
{
	const char *c;

	for (c = value; *c > ' ' && *c <= '~'; c++)
		;
	if (*c != '\0')
		return "must consist of printable ASCII characters, without spaces";
	return c - value <= MAX_HEADER ? NULL : psprintf("must not be longer than %d bytes", MAX_HEADER);
}

/* Check a text that can be a part of a header: one line of ASCII. */
const char *
cs_option_check_line(const char *value)
{
	const char *c;

	for (c = value; *c >= ' ' && *c <= '~'; c++)
		;
	if (*c != '\0')
		return "must consist of printable ASCII characters";
	return c - value <= MAX_LINE ? NULL : psprintf("must not be longer than %d bytes", MAX_LINE);
}

/* Check a label of a host name. */
const char *
cs_option_check_label(const char *value)
{
	size_t		len = strlen(value);

	if (len > 63 || value[0] == '-' || value[len - 1] == '-' ||
		strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
		return "must consist of lower-case letters, digits and -";
	return NULL;
}

const char *
cs_option_check_integer(const char *value)
{
	return is_int(value, 0, LONG_MAX) ? NULL : "must be a whole number, 0 or greater";
}

/* User names and passwords have no colon in between, and no control characters. */
static const char *
check_password(const char *value)
{
	for (const char *c = value; *c; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			return "must not have control characters";
	return strlen(value) <= MAX_LINE ? NULL : psprintf("must not be longer than %d bytes", MAX_LINE);
}

static const char *
check_username(const char *value)
{
	return strchr(value, ':') ? "must not have a colon" : check_password(value);
}

/*
 * Check a time such as '30s'.  A number without a unit is in milliseconds, as
 * version 0.1 took it; the validator refuses it.
 */
const char *
cs_option_check_milliseconds(const char *value)
{
	int			result;

	if (!parse_int(value, &result, GUC_UNIT_MS, NULL) || result < 1 || result > MAX_SECONDS * 1000)
		return "must be a time such as \"30s\" or \"500ms\", up to a day";
	return NULL;
}

/* The same, but a number without a unit is in seconds. */
static const char *
check_seconds(const char *value)
{
	int			result;

	if (!parse_int(value, &result, GUC_UNIT_S, NULL) || result < 1 || result > MAX_SECONDS)
		return "must be a time such as \"50min\" or \"90s\", up to a day";
	return NULL;
}

/* The same up to a month, or 0 for never. */
static const char *
check_age(const char *value)
{
	int			result;

	if (!parse_int(value, &result, GUC_UNIT_S, NULL) || result < 0 || result > MAX_AGE)
		return "must be a time such as \"1h\", up to 30 days, or 0 for never";
	return NULL;
}

static const char *
check_window(const char *value)
{
	CsWindow	window;

	return cs_window_read(value, &window);
}

static const char *
check_timestamp(const char *value)
{
	return is_int(value, 0, LONG_MAX) ? NULL : "must be a time in seconds since 1970";
}

const char *
cs_option_check_url(const char *value)
{
	return cs_url_problem(value, cs_allow_http);
}

const char *
cs_option_check_base_url(const char *value)
{
	return cs_url_base_problem(value, cs_allow_http);
}

static const char *
check_proxy(const char *value)
{
	return strcmp(value, "none") == 0 ? NULL : cs_url_proxy_problem(value);
}

const char *
cs_option_check_pace(const char *value)
{
	double		number;

	if (!parse_real(value, &number, 0, NULL) || number <= 0 || number > MAX_PACE)
		return psprintf("must be a number greater than 0, up to %.0f", MAX_PACE);
	return NULL;
}

static const char *
check_concurrency(const char *value)
{
	if (is_int(value, 1, MAX_CONCURRENCY))
		return NULL;
	return psprintf("must be a whole number from 1 to %d", MAX_CONCURRENCY);
}

static const char *
check_retries(const char *value)
{
	if (is_int(value, 0, MAX_RETRIES))
		return NULL;
	return psprintf("must be a whole number from 0 to %d", MAX_RETRIES);
}

const char *const cs_option_alert_formats[] = {"text", "teams", "pagerduty", NULL};

static const char *
check_alert_format(const char *value)
{
	return cs_option_check_words(value, cs_option_alert_formats);
}

static const char *
check_nulls(const char *value)
{
	static const char *const words[] = {"omit", "clear", NULL};

	return cs_option_check_words(value, words);
}

/* ---------- tables ---------- */

const CsOption cs_option_common[] = {
	{.name = "provider",.place = CS_ON_SERVER,.required = true,
	.help = "the service that the server is an account of"},
	{.name = "base_url",.place = CS_ON_SERVER,.check = cs_option_check_base_url,
	.help = "the URL to which the provider's paths are appended"},
	{.name = "batch_size",.place = CS_ON_SERVER,.check = cs_option_check_positive_int,
	.help = "the maximum number of contacts per call"},
	{.name = "pace",.place = CS_ON_SERVER,.check = cs_option_check_pace,
	.help = "the maximum number of calls per second"},
	{.name = "burst",.place = CS_ON_SERVER,.check = cs_option_check_pace,
	.help = "the number of calls that may start at once after a pause"},
	{.name = "concurrency",.place = CS_ON_SERVER,.check = check_concurrency,
	.help = "the maximum number of concurrent calls"},
	{.name = "connect_timeout",.place = CS_ON_SERVER,.check = cs_option_check_milliseconds,.preset = "10s",
	.help = "the maximum time to wait for a connection"},
	{.name = "timeout",.place = CS_ON_SERVER,.check = cs_option_check_milliseconds,.preset = "30s",
	.help = "the maximum duration of a call"},
	{.name = "max_retries",.place = CS_ON_SERVER,.check = check_retries,
	.help = "how often a call is repeated when the provider fails"},
	{.name = "max_retry_after",.place = CS_ON_SERVER,.check = check_seconds,.preset = "1h",
	.help = "the longest wait that the provider may ask for"},
	{.name = "nulls",.place = CS_ON_SERVER,.check = check_nulls,.preset = "omit",.payload = true,
	.help = "how null values are sent: \"omit\" or \"clear\""},
	{.name = "bulk_guard",.place = CS_ON_SERVER,.check = check_nonnegative_int,.preset = "1000",
	.help = "the number of contacts that may be sent in bulk where that could send mail to people, or 0 for no limit"},
	{.name = "refusal_guard",.place = CS_ON_SERVER,.check = check_nonnegative_int,.preset = "20",
	.help = "after how many contacts in a row that are refused alike the server is halted, or 0 for never"},
	{.name = "account",.place = CS_ON_SERVER,
	.help = "the name of the account, which tells accounts at one URL apart; the server's name when it was made"},
	{.name = "log_contacts",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "false",
	.help = "whether contactsync.outcomes gets a row for each contact and outcome, with the names of the fields that changed"},
	{.name = "pull_every",.place = CS_ON_SERVER,.check = check_seconds,
	.help = "how often the worker learns by itself who opted out at the provider; never if it is not set"},
	{.name = "proxy",.place = CS_ON_SERVER,.check = check_proxy,.preset = "none",
	.help = "the URL of the proxy, or \"none\"; proxies in the environment are ignored"},
	{.name = "ca_file",.place = CS_ON_SERVER,.names_file = true,
	.help = "the file with the certificates to trust instead of the system's"},
	{.name = "send_window",.place = CS_ON_SERVER,.check = check_window,
	.help = "the part of the day in which imports and reconciliations go on"},
	{.name = "retry_failures_every",.place = CS_ON_SERVER,.check = check_seconds,
	.help = "after which time contacts that failed for a reason that passes are sent again; never if it is not set"},
	{.name = "alert_url",.place = CS_ON_SERVER,.check = cs_option_check_url,.aside = true,
	.help = "the URL that is told of trouble, and of its end; none if it is not set"},
	{.name = "alert_url",.place = CS_ON_MAPPING,.check = cs_option_check_url,.aside = true,.secret = true,
	.help = "the URL that is told of trouble of the role, and of its end, instead of that of the server"},
	{.name = "alert_key",.place = CS_ON_MAPPING,.check = cs_option_check_header,.aside = true,.secret = true,
	.help = "the secret that is sent to alert_url"},
	{.name = "alert_format",.place = CS_ON_SERVER,.check = check_alert_format,.preset = "text",.aside = true,
	.help = "what alert_url takes: \"text\", \"teams\" or \"pagerduty\""},
	{.name = "alert_failures",.place = CS_ON_SERVER,.check = check_nonnegative_int,.preset = "100",.aside = true,
	.help = "how many contacts that fail within an hour are told, or 0 for never"},
	{.name = "alert_backlog_age",.place = CS_ON_SERVER,.check = check_age,.preset = "1h",.aside = true,
	.help = "for how long a change must wait to be told, or 0 for never"},
	{.name = "alert_ca_file",.place = CS_ON_SERVER,.names_file = true,.aside = true,
	.help = "the file with the certificates to trust for alert_url instead of the system's"},
	{.name = NULL}
};

const CsOption cs_option_bearer[] = {
	{.name = "api_key",.place = CS_ON_MAPPING,.check = cs_option_check_header,.required = true,
	.secret = true,.help = "the key that the provider issued"},
	{.name = NULL}
};

const CsOption cs_option_oauth[] = {
	{.name = "access_token",.place = CS_ON_MAPPING,.check = cs_option_check_header,
	.secret = true,.help = "the OAuth access token, which contactsync renews"},
	{.name = "refresh_token",.place = CS_ON_MAPPING,.check = cs_option_check_header,
	.secret = true,.help = "the OAuth refresh token, which contactsync rotates"},
	{.name = "token_refreshed_at",.place = CS_ON_MAPPING,.check = check_timestamp,
	.help = "when the access token was issued, in Unix seconds; contactsync maintains it"},
	{.name = "token_expires_at",.place = CS_ON_MAPPING,.check = check_timestamp,
	.help = "when the access token expires, in Unix seconds; contactsync maintains it"},
	{.name = "client_id",.place = CS_ON_SERVER,.check = cs_option_check_header,
	.help = "the OAuth client that the tokens were issued to"},
	{.name = "token_url",.place = CS_ON_SERVER,.check = cs_option_check_url,
	.help = "the URL at which the access token is renewed"},
	{.name = "refresh_interval",.place = CS_ON_SERVER,.check = check_seconds,.preset = "50min",
	.help = "the age at which the access token is renewed"},
	{.name = NULL}
};

const CsOption cs_option_basic[] = {
	{.name = "username",.place = CS_ON_MAPPING,.check = check_username,.required = true,
	.secret = true,.help = "the user name, or whatever the provider has in its place"},
	{.name = "password",.place = CS_ON_MAPPING,.check = check_password,.required = true,
	.secret = true,.help = "the password, or the key that the provider issued"},
	{.name = NULL}
};

const CsOption cs_option_signing[] = {
	{.name = "signing_secret",.place = CS_ON_MAPPING,.check = check_password,.required = true,
	.secret = true,.help = "the key with which requests are signed"},
	{.name = NULL}
};

/* ---------- use ---------- */

const char *
cs_option_check(const CsOption *option, const char *value)
{
	if (*value == '\0')
		return "must not be empty";
	if (option->words != NULL)
		return cs_option_check_words(value, option->words);
	return option->check != NULL ? option->check(value) : NULL;
}

bool
cs_option_is_url(const CsOption *option)
{
	return option->check == cs_option_check_base_url || option->check == cs_option_check_url;
}

int
cs_option_unit(const CsOption *option)
{
	if (option->check == cs_option_check_milliseconds)
		return GUC_UNIT_MS;
	return option->check == check_seconds || option->check == check_age ? GUC_UNIT_S : 0;
}
