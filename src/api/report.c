/*-------------------------------------------------------------------------
 *
 * report.c
 *		contactsync_report(): how the servers do, as a page of HTML.
 *
 * It reads the views as who asks, so it shows a role its own; and it can be
 * passed on: addresses, and messages that may quote what was in a row, are
 * there only if they were asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "api/chart.h"
#include "api/html.h"
#include "base/compat.h"
#include "store/span.h"
#include "store/stats.h"

CS_FUNCTION(contactsync_report);

#define MAX_BUCKETS		48
#define NEWEST_FAILURES	20

typedef struct CsReport
{
	StringInfo	page;
	TimestampTz start;
	TimestampTz end;
	double		step;			/* s, of a span */
	int			nspans;
	bool		personal;
	int			nservers;		/* so far */
} CsReport;

/* States, the worst first. */
static const struct
{
	const char *state;
	const char *look;
}			states[] = {
	{"halted", "bad"}, {"broken", "bad"}, {"guarded", "warn"}, {"paused", "warn"}, {"unavailable", "warn"},
	{"throttled", "warn"}, {"running", "good"}, {"idle", "calm"}
};

/* ---------- reading ---------- */

/* Effect: runs a query as who asks; SPI_tuptable holds the rows.  Returns how many. */
static uint64
query(const char *text, int nargs, Oid *types, Datum *args)
{
	int			result = SPI_execute_with_args(text, nargs, types, args, NULL, true, 0);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\": %s", text, SPI_result_code_string(result));
	return SPI_processed;
}

/* The value of a column of a row, or NULL. */
static char *
text_of(SPITupleTable *rows, uint64 row, const char *column)
{
	int			number = SPI_fnumber(rows->tupdesc, column);

	if (number <= 0)
		elog(ERROR, "there is no column \"%s\"", column);
	return SPI_getvalue(rows->vals[row], rows->tupdesc, number);
}

/* 0 for null */
static int64
count_of(SPITupleTable *rows, uint64 row, const char *column)
{
	char	   *text = text_of(rows, row, column);

	return text ? strtoll(text, NULL, 10) : 0;
}

/* NaN for null */
static double
number_of(SPITupleTable *rows, uint64 row, const char *column)
{
	char	   *text = text_of(rows, row, column);

	return text ? strtod(text, NULL) : get_float8_nan();
}

static bool
same_server(SPITupleTable *rows, uint64 a, uint64 b)
{
	return strcmp(text_of(rows, a, "server"), text_of(rows, b, "server")) == 0 &&
		strcmp(text_of(rows, a, "owner"), text_of(rows, b, "owner")) == 0;
}

/* The arguments of queries about a server: $1, its owner: $2, and the period: $3 and $4. */
static Oid	period_types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, FLOAT8OID};

#define IN_PERIOD \
	" FROM contactsync.history h WHERE h.server = $1::name AND h.owner::text = $2 AND h.at >= $3 AND h.at <= $4"

static uint64
query_period(const CsReport *report, const char *text, const char *server, const char *owner)
{
	Datum		args[] = {CStringGetTextDatum(server), CStringGetTextDatum(owner),
		TimestampTzGetDatum(report->start), TimestampTzGetDatum(report->end),
	Float8GetDatum(report->step)};

	return query(text, lengthof(args), period_types, args);
}

/* Effect: fills the spans of a server, and the sum of them. */
static void
read_spans(const CsReport *report, const char *server, const char *owner, CsPeriodStats *spans, CsPeriodStats *sum)
{
	StringInfoData text;
	uint64		n;

	for (int i = 0; i < report->nspans; i++)
		spans[i] = (CsPeriodStats)
	{
		.backlog = get_float8_nan()
	};
	*sum = (CsPeriodStats)
	{
		.backlog = get_float8_nan()
	};
	initStringInfo(&text);
	appendStringInfoString(&text,
						   "SELECT floor(EXTRACT(epoch FROM h.at - $3) / $5)::integer AS span,"
						   " sum(h.calls) AS calls, sum(h.retries) AS retries, sum(h.throttled) AS throttled,"
						   " sum(h.unanswered) AS unanswered, sum(h.synced) AS synced, sum(h.unchanged) AS unchanged,"
						   " sum(h.failed) AS failed, max(h.backlog) AS backlog");
	for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
		appendStringInfo(&text, ", sum(h.latency[%d]) AS latency%d", i + 1, i);
	appendStringInfoString(&text, IN_PERIOD " GROUP BY 1");
	n = query_period(report, text.data, server, owner);
	for (uint64 row = 0; row < n; row++)
	{
		SPITupleTable *rows = SPI_tuptable;
		CsPeriodStats *span = &spans[Min(count_of(rows, row, "span"), report->nspans - 1)];
		CsPeriodStats more = {
			.calls = count_of(rows, row, "calls"),
			.retries = count_of(rows, row, "retries"),
			.throttled = count_of(rows, row, "throttled"),
			.unanswered = count_of(rows, row, "unanswered"),
			.synced = count_of(rows, row, "synced"),
			.unchanged = count_of(rows, row, "unchanged"),
			.failed = count_of(rows, row, "failed"),
		};
		double		backlog = number_of(rows, row, "backlog");

		for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
			more.latency[i] = count_of(rows, row, psprintf("latency%d", i));
		cs_stats_add_period(span, &more);
		cs_stats_add_period(sum, &more);
		if (!isnan(backlog) && !(span->backlog >= backlog))
			span->backlog = backlog;
	}
}

/* ---------- parts of the page ---------- */

static int
rank_of(const char *state)
{
	int			i = 0;

	while (i < lengthof(states) - 1 && strcmp(states[i].state, state) != 0)
		i++;
	return i;
}

static void
put_pill(StringInfo page, const char *state)
{
	appendStringInfo(page, "<span class=\"pill %s\">", states[rank_of(state)].look);
	cs_html_text(page, state);
	appendStringInfoString(page, "</span>");
}

/* Text that may hold an address that was not asked for. */
static void
put_discreet(const CsReport *report, const char *value)
{
	if (value && !report->personal && strchr(value, '@'))
	{
		Datum		hidden = DirectFunctionCall4Coll(textregexreplace, C_COLLATION_OID, CStringGetTextDatum(value),
													 CStringGetTextDatum("[^[:space:]\"'<>(),;]*@[^[:space:]\"'<>(),;]*"),
													 CStringGetTextDatum("(address)"), CStringGetTextDatum("g"));

		value = TextDatumGetCString(hidden);
	}
	cs_html_text(report->page, value);
}

/* Effect: tells of the worst row among those of a server: why, how long, and what to do. */
static void
put_note(const CsReport *report, SPITupleTable *rows, uint64 row)
{
	StringInfo	page = report->page;
	const char *state = text_of(rows, row, "state");
	char	   *reason = text_of(rows, row, "reason");
	char	   *hint = text_of(rows, row, "hint");
	char	   *since = text_of(rows, row, "since");
	char	   *until = text_of(rows, row, "until");

	if (reason == NULL && hint == NULL)
		return;
	appendStringInfo(page, "<div class=\"note %s\">",
					 rank_of(state) < rank_of("running") ? states[rank_of(state)].look : "warn");
	if (reason)
	{
		appendStringInfoString(page, "<p class=\"reason\">");
		put_discreet(report, reason);
		appendStringInfoString(page, "</p>");
	}
	if (rank_of(state) < rank_of("running") && (since || until))
	{
		appendStringInfoString(page, "<p class=\"soft\">");
		if (since)
			appendStringInfo(page, "since %s", since);
		if (until)
			appendStringInfo(page, "%suntil %s", since ? ", " : "", until);
		appendStringInfoString(page, "</p>");
	}
	if (hint)
	{
		appendStringInfoString(page, "<p class=\"hint\">");
		put_discreet(report, hint);
		appendStringInfoString(page, "</p>");
	}
	appendStringInfoString(page, "</div>\n");
}

static void
put_tile(StringInfo page, const char *name, int64 count, const char *more)
{
	appendStringInfo(page, "<div><dt>%s</dt><dd>", name);
	cs_html_data(page, count);
	if (more)
		appendStringInfo(page, "<small>%s</small>", more);
	appendStringInfoString(page, "</dd></div>");
}

static char *
with_count(const char *before, int64 count, const char *after)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, before);
	cs_html_count(&text, count);
	appendStringInfoString(&text, after);
	return text.data;
}

static void
put_tiles(StringInfo page, const CsPeriodStats *sum, int64 backlog, double oldest)
{
	double		tried = (double) sum->synced + sum->failed;
	StringInfoData age;

	initStringInfo(&age);
	if (backlog > 0)
	{
		appendStringInfoString(&age, "oldest ");
		cs_html_duration(&age, oldest);
	}
	appendStringInfoString(page, "<dl class=\"tiles\">");
	put_tile(page, "Contacts synced", sum->synced, with_count("", sum->unchanged, " unchanged"));
	put_tile(page, "Contacts failed", sum->failed,
			 tried > 0 ? psprintf("%.2f %% of those tried", 100 * sum->failed / tried) : NULL);
	put_tile(page, "Calls", sum->calls, with_count("", sum->unanswered, " without an answer"));
	put_tile(page, "Told to come later", sum->throttled, with_count("", sum->retries, " calls repeated"));
	appendStringInfoString(page, "<div><dt>Latency, median</dt><dd>");
	cs_html_latency(page, cs_stats_latency(sum, 0.5));
	appendStringInfoString(page, "<small>95 % within ");
	cs_html_latency(page, cs_stats_latency(sum, 0.95));
	appendStringInfoString(page, "</small></dd></div>");
	put_tile(page, "Backlog now", backlog, age.len > 0 ? age.data : "nothing waits");
	appendStringInfoString(page, "</dl>\n");
}

/* The width of a span in words. */
static const char *
step_text(const CsReport *report)
{
	if (report->step >= 172800)
		return psprintf("%.3g days", report->step / 86400);
	if (report->step >= 7200)
		return psprintf("%.3g h", report->step / 3600);
	return psprintf("%.3g min", report->step / 60);
}

static void
put_charts(const CsReport *report, const CsPeriodStats *spans, const CsPeriodStats *sum)
{
	double		synced[MAX_BUCKETS];
	double		failed[MAX_BUCKETS];
	double		fast[MAX_BUCKETS];
	double		slow[MAX_BUCKETS];
	double		waiting[MAX_BUCKETS];
	double		unit = cs_stats_latency(sum, 0.95) < 2 ? 1000 : 1;
	CsChart		chart = {.start = report->start,.step = report->step,.n = report->nspans};

	for (int i = 0; i < report->nspans; i++)
	{
		synced[i] = spans[i].synced;
		failed[i] = spans[i].failed;
		fast[i] = cs_stats_latency(&spans[i], 0.5) * unit;
		slow[i] = cs_stats_latency(&spans[i], 0.95) * unit;
		waiting[i] = spans[i].backlog;
	}
	appendStringInfoString(report->page, "<div class=\"charts\">\n");
	chart.id = psprintf("throughput-%d", report->nservers);
	chart.title = "Contacts";
	chart.unit = psprintf("per %s", step_text(report));
	chart.kind = CS_CHART_BARS;
	chart.nseries = 2;
	chart.series[0] = (CsSeries)
	{
		"synced", "synced", synced
	};
	chart.series[1] = (CsSeries)
	{
		"failed", "failed", failed
	};
	cs_chart_put(report->page, &chart);
	chart.id = psprintf("latency-%d", report->nservers);
	chart.title = "Latency of calls";
	chart.unit = unit == 1 ? "s" : "ms";
	chart.kind = CS_CHART_LINES;
	chart.series[0] = (CsSeries)
	{
		"median", "fast", fast
	};
	chart.series[1] = (CsSeries)
	{
		"95 %", "slow", slow
	};
	cs_chart_put(report->page, &chart);
	chart.id = psprintf("backlog-%d", report->nservers);
	chart.title = "Backlog";
	chart.unit = "contacts, at most";
	chart.kind = CS_CHART_BARS;
	chart.nseries = 1;
	chart.series[0] = (CsSeries)
	{
		"waiting", "waiting", waiting
	};
	cs_chart_put(report->page, &chart);
	appendStringInfoString(report->page, "</div>\n");
}

/* The values of the charts; spans in which nothing happened are left out. */
static void
put_values_table(const CsReport *report, const CsPeriodStats *spans)
{
	StringInfo	page = report->page;

	appendStringInfo(page, "<details><summary>The data of the charts, per %s</summary><div class=\"wide\"><table class=\"data\"><thead><tr>"
					 "<th scope=\"col\">from</th><th scope=\"col\" class=\"n\">calls</th><th scope=\"col\" class=\"n\">synced</th>"
					 "<th scope=\"col\" class=\"n\">failed</th><th scope=\"col\" class=\"n\">median</th><th scope=\"col\" class=\"n\">95 %%</th>"
					 "<th scope=\"col\" class=\"n\">backlog</th></tr></thead><tbody>\n", step_text(report));
	for (int i = 0; i < report->nspans; i++)
	{
		const CsPeriodStats *span = &spans[i];

		if (span->calls == 0 && span->synced == 0 && span->failed == 0 && isnan(span->backlog))
			continue;
		appendStringInfoString(page, "<tr><th scope=\"row\" class=\"time\">");
		cs_html_time(page, "%Y-%m-%d %H:%M", report->start + (TimestampTz) (i * report->step * USECS_PER_SEC));
		appendStringInfoString(page, "</th><td class=\"n\">");
		cs_html_count(page, span->calls);
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_count(page, span->synced);
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_count(page, span->failed);
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_latency(page, cs_stats_latency(span, 0.5));
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_latency(page, cs_stats_latency(span, 0.95));
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_count(page, isnan(span->backlog) ? 0 : (int64) span->backlog);
		appendStringInfoString(page, "</td></tr>\n");
	}
	appendStringInfoString(page, "</tbody></table></div></details>\n");
}

static void
put_reasons(const CsReport *report, const char *server, const char *owner)
{
	StringInfo	page = report->page;
	uint64		n = query_period(report, "SELECT r.key AS reason, sum(r.value::bigint) AS failed"
								 " FROM (SELECT h.reasons" IN_PERIOD " AND $5 > 0) h, jsonb_each_text(h.reasons) r"
								 " GROUP BY 1 ORDER BY 2 DESC, 1", server, owner);

	if (n == 0)
		return;
	appendStringInfoString(page, "<table class=\"bars\"><caption>Failures by reason</caption><thead><tr><th scope=\"col\">reason</th>"
						   "<th scope=\"col\" class=\"n\">contacts</th><th></th></tr></thead><tbody>\n");
	for (uint64 row = 0; row < n; row++)
	{
		int64		failed = count_of(SPI_tuptable, row, "failed");

		appendStringInfoString(page, "<tr><th scope=\"row\">");
		put_discreet(report, text_of(SPI_tuptable, row, "reason"));
		appendStringInfoString(page, "</th><td class=\"n\">");
		cs_html_data(page, failed);
		appendStringInfo(page, "</td><td><span class=\"bar\" style=\"width:%.1f%%\"></span></td></tr>\n",
						 100.0 * failed / Max(count_of(SPI_tuptable, 0, "failed"), 1));
	}
	appendStringInfoString(page, "</tbody></table>\n");
}

/* The watches of a server: rows of status from first to before end. */
static void
put_watches(StringInfo page, SPITupleTable *rows, uint64 first, uint64 end)
{
	appendStringInfoString(page, "<div class=\"wide\"><table class=\"watches\"><caption>Watches; synced and failed since they were made</caption><thead><tr>"
						   "<th scope=\"col\">source</th><th scope=\"col\">state</th><th scope=\"col\" class=\"n\">backlog</th>"
						   "<th scope=\"col\" class=\"n\">synced</th><th scope=\"col\" class=\"n\">failed</th>"
						   "<th scope=\"col\" class=\"n\">failures open</th><th scope=\"col\">last success</th><th scope=\"col\">done about</th></tr></thead><tbody>\n");
	for (uint64 row = first; row < end; row++)
	{
		static const char *const counts[] = {"backlog", "synced", "failed", "failures"};
		char	   *source = text_of(rows, row, "source");
		char	   *success = text_of(rows, row, "last_success");
		char	   *eta = text_of(rows, row, "eta");

		appendStringInfoString(page, "<tr><th scope=\"row\" class=\"key\">");
		cs_html_text(page, source ? source : "contactsync_upsert()");
		appendStringInfoString(page, "</th><td>");
		put_pill(page, text_of(rows, row, "state"));
		appendStringInfoString(page, "</td>");
		for (int i = 0; i < lengthof(counts); i++)
		{
			appendStringInfoString(page, "<td class=\"n\">");
			cs_html_count(page, count_of(rows, row, counts[i]));
			appendStringInfoString(page, "</td>");
		}
		appendStringInfo(page, "<td class=\"time\">%s</td><td class=\"time\">%s</td></tr>\n",
						 success ? success : "&#8211;", eta ? eta : "&#8211;");
	}
	appendStringInfoString(page, "</tbody></table></div>\n");
}

/* Effect: imports and reconciliations of a server that are under way, if any. */
static void
put_scans(const CsReport *report, const char *server, const char *owner)
{
	StringInfo	page = report->page;
	Datum		args[] = {CStringGetTextDatum(server), CStringGetTextDatum(owner)};
	uint64		n = query("SELECT source::text, kind, phase, done, total, percent, round(rate::numeric) AS rate,"
						  " to_char(eta, 'YYYY-MM-DD HH24:MI') AS eta FROM contactsync.progress"
						  " WHERE server = $1::name AND owner::text = $2 AND state = 'running' AND kind <> 'backlog'"
						  " ORDER BY started_at", lengthof(args), period_types, args);

	if (n == 0)
		return;
	appendStringInfoString(page, "<div class=\"wide\"><table class=\"scans\"><caption>Under way</caption><thead><tr><th scope=\"col\">source</th>"
						   "<th scope=\"col\">what</th><th scope=\"col\">phase</th><th scope=\"col\" class=\"n\">rows</th><th scope=\"col\" class=\"n\">of about</th>"
						   "<th scope=\"col\">percent</th><th scope=\"col\" class=\"n\">rows a second</th><th scope=\"col\">done about</th></tr></thead><tbody>\n");
	for (uint64 row = 0; row < n; row++)
	{
		SPITupleTable *rows = SPI_tuptable;
		char	   *percent = text_of(rows, row, "percent");
		char	   *eta = text_of(rows, row, "eta");

		appendStringInfoString(page, "<tr><th scope=\"row\" class=\"key\">");
		cs_html_text(page, text_of(rows, row, "source"));
		appendStringInfo(page, "</th><td>%s</td><td>%s</td><td class=\"n\">", text_of(rows, row, "kind"),
						 text_of(rows, row, "phase"));
		cs_html_data(page, count_of(rows, row, "done"));
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_count(page, count_of(rows, row, "total"));
		appendStringInfoString(page, "</td><td class=\"time\">");
		if (percent)
			appendStringInfo(page, "<progress max=\"100\" value=\"%s\">%s %%</progress> %s&#160;%%", percent, percent, percent);
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_count(page, count_of(rows, row, "rate"));
		appendStringInfo(page, "</td><td class=\"time\">%s</td></tr>\n", eta ? eta : "&#8211;");
	}
	appendStringInfoString(page, "</tbody></table></div>\n");
}

#define SELECT_STATUS \
	"SELECT server::text, owner::text, source::text, state, reason, to_char(since, 'YYYY-MM-DD HH24:MI') AS since," \
	" to_char(until, 'YYYY-MM-DD HH24:MI') AS until, backlog, EXTRACT(epoch FROM oldest)::float8 AS oldest," \
	" round(rate::numeric, 1) AS rate, round(pace::numeric, 1) AS pace, to_char(eta, 'YYYY-MM-DD HH24:MI') AS eta," \
	" synced, failed, failures, to_char(last_success, 'YYYY-MM-DD HH24:MI') AS last_success, worker, hint" \
	" FROM contactsync.status ORDER BY server, owner, source::text NULLS FIRST"

/* Effect: a server's section: rows of status from first to before end. */
static void
put_server(CsReport *report, SPITupleTable *rows, uint64 first, uint64 end)
{
	StringInfo	page = report->page;
	char	   *server = text_of(rows, first, "server");
	char	   *owner = text_of(rows, first, "owner");
	char	   *pace = text_of(rows, first, "pace");
	CsPeriodStats spans[MAX_BUCKETS];
	CsPeriodStats sum;
	uint64		worst = first;
	int64		backlog = 0;
	double		oldest = get_float8_nan();

	for (uint64 row = first; row < end; row++)
	{
		double		age = number_of(rows, row, "oldest");

		if (rank_of(text_of(rows, row, "state")) < rank_of(text_of(rows, worst, "state")))
			worst = row;
		backlog += count_of(rows, row, "backlog");
		if (!(oldest >= age))
			oldest = isnan(age) ? oldest : age;
	}
	read_spans(report, server, owner, spans, &sum);
	report->nservers++;
	appendStringInfo(page, "<section class=\"server\" aria-labelledby=\"server-%d\"><div class=\"name\"><h2 id=\"server-%d\"><bdi>",
					 report->nservers, report->nservers);
	cs_html_text(page, server);
	appendStringInfoString(page, "</bdi></h2>");
	put_pill(page, text_of(rows, worst, "state"));
	appendStringInfoString(page, "<span class=\"soft\">of <bdi>");
	cs_html_text(page, owner);
	appendStringInfo(page, "</bdi>; %s calls a second now%s%s</span></div>\n", text_of(rows, first, "rate"),
					 pace ? ", allowed " : "", pace ? pace : "");
	put_note(report, rows, worst);
	put_tiles(page, &sum, backlog, oldest);
	if (sum.calls + sum.synced + sum.failed > 0)
	{
		put_charts(report, spans, &sum);
		put_values_table(report, spans);
	}
	else
		appendStringInfoString(page, "<p class=\"empty\" style=\"margin-top:16px\">There were no calls in this period.</p>");
	appendStringInfoString(page, "<div class=\"tables\">");
	put_scans(report, server, owner);
	put_reasons(report, server, owner);
	put_watches(page, rows, first, end);
	appendStringInfoString(page, "</div></section>\n");
}

/* ---------- the page ---------- */

static void
put_failures(const CsReport *report)
{
	static const char *const names[] = {"server", "source", "key", "reason", "code", "field", "attempts", "upsert_key", "message"};
	int			columns = report->personal ? lengthof(names) : lengthof(names) - 2;
	StringInfo	page = report->page;
	Oid			types[] = {INT4OID};
	Datum		args[] = {Int32GetDatum(NEWEST_FAILURES)};
	uint64		n = query("SELECT to_char(last_at, 'YYYY-MM-DD HH24:MI') AS at, server::text,"
						  " COALESCE(source::text, 'contactsync_upsert()') AS source,"
						  " key, reason, code, field, attempts, upsert_key, message"
						  " FROM contactsync.failures ORDER BY last_at DESC, id DESC LIMIT $1", 1, types, args);

	appendStringInfoString(page, "<section id=\"failures\"><h2>Newest failures</h2>");
	if (n == 0)
	{
		appendStringInfoString(page, "<p class=\"empty\" style=\"margin-top:12px\">No contact was given up on.</p></section>\n");
		return;
	}
	appendStringInfo(page, "<p class=\"soft\">Contacts that were given up on and not sent since, %d of them at most.%s</p>"
					 "<div class=\"wide\"><table><thead><tr><th scope=\"col\">last</th>", NEWEST_FAILURES,
					 report->personal ? "" : " Addresses and messages are left out: contactsync_report(personal =&gt; true) has them.");
	for (int i = 0; i < columns; i++)
		appendStringInfo(page, "<th scope=\"col\">%s</th>", strcmp(names[i], "upsert_key") == 0 ? "known as" : names[i]);
	appendStringInfoString(page, "</tr></thead><tbody>\n");
	for (uint64 row = 0; row < n; row++)
	{
		appendStringInfo(page, "<tr><td class=\"time\">%s</td>", text_of(SPI_tuptable, row, "at"));
		for (int i = 0; i < columns; i++)
		{
			appendStringInfoString(page, "<td class=\"key\">");
			put_discreet(report, text_of(SPI_tuptable, row, names[i]));
			appendStringInfoString(page, "</td>");
		}
		appendStringInfoString(page, "</tr>\n");
	}
	appendStringInfoString(page, "</tbody></table></div></section>\n");
}

static void
put_header(const CsReport *report)
{
	StringInfo	page = report->page;

	appendStringInfoString(page, "<header><h1>contactsync</h1><p class=\"soft\">Database <bdi>");
	cs_html_text(page, get_database_name(MyDatabaseId));
	appendStringInfoString(page, "</bdi>, ");
	cs_html_time(page, "%Y-%m-%d %H:%M", report->start);
	appendStringInfoString(page, " to ");
	cs_html_time(page, "%Y-%m-%d %H:%M", report->end);
	appendStringInfoString(page, ", times in ");
	cs_html_text(page, pg_get_timezone_name(session_timezone));
	cs_html_time(page, " (%Z)", report->end);
	appendStringInfoString(page, "</p></header>\n<main>\n");
}

static void
put_page(CsReport *report)
{
	uint64		n;
	SPITupleTable *rows;

	cs_html_begin(report->page, psprintf("contactsync: %s", get_database_name(MyDatabaseId)));
	put_header(report);
	n = query(SELECT_STATUS, 0, NULL, NULL);
	rows = SPI_tuptable;
	for (uint64 first = 0, end; first < n; first = end)
	{
		for (end = first + 1; end < n && same_server(rows, first, end); end++)
			;
		put_server(report, rows, first, end);
	}
	if (n == 0)
		appendStringInfo(report->page, "<p class=\"empty\">No server of yours sends anything yet: contactsync_watch() makes a table do so.</p>\n");
	else
		put_failures(report);
	appendStringInfoString(report->page, "</main>\n<footer>Made by contactsync " CS_VERSION " for ");
	cs_html_text(report->page, GetUserNameFromId(GetUserId(), false));
	appendStringInfoString(report->page, ", which sees the servers of the roles that it is. Latencies are estimated from a histogram. "
						   "The data is in the views contactsync.status, history and failures.</footer>\n");
	cs_html_end(report->page);
}

/* Effect: the parts that the period is shown in; errors if it is none. */
static void
set_period(CsReport *report, Interval *period)
{
	double		seconds;

	report->end = GetCurrentTransactionStartTimestamp();
	report->start = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(report->end),
															IntervalPGetDatum(period)));
	seconds = (report->end - report->start) / (double) USECS_PER_SEC;
	if (seconds < 600 || seconds > 366.0 * 86400)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the period must be between 10 minutes and one year"),
				 errhint("For example: SELECT contactsync_report('7 days').")));
	report->nspans = Min(MAX_BUCKETS, (int) (seconds / 60));
	report->step = seconds / report->nspans;
}

/* contactsync_report(period, personal) */
Datum
contactsync_report(PG_FUNCTION_ARGS)
{
	CsReport	report = {.personal = PG_GETARG_BOOL(1)};
	int			level = NewGUCNestLevel();

	set_period(&report, PG_GETARG_INTERVAL_P(0));
	report.page = makeStringInfo();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	put_page(&report);
	SPI_finish();
	AtEOXact_GUC(true, level);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(report.page->data, report.page->len));
}
