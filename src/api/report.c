/*-------------------------------------------------------------------------
 *
 * report.c
 *		contactsync_report(): report on the servers, as a page of HTML.
 *
 * The page can be passed on: it contains addresses, and messages that may quote
 * the contents of a row, only on request.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "api/chart.h"
#include "api/html.h"
#include "api/report_data.h"
#include "api/report_servers.h"
#include "base/compat.h"
#include "store/stats.h"

CS_FUNCTION(contactsync_report);

#define MAX_BUCKETS		48
#define NEWEST_FAILURES	20

/* Servers that have a section with charts, so that a page of many stays small. */
#define MAX_DETAILED	8

typedef struct CsReport
{
	StringInfo	page;
	CsReportPeriod period;
	bool		personal;
	int			nservers;		/* so far */
} CsReport;

/*
 * Parts of the page
 */

/* Append text; replace addresses in it unless they were requested. */
static void
put_discreet(const CsReport *report, const char *value)
{
	cs_html_discreet(report->page, value, report->personal);
}

/* Append a note on a row of status: the reason, the time, and the hint. */
static void
put_note(const CsReport *report, SPITupleTable *rows, uint64 row)
{
	StringInfo	page = report->page;
	const char *state = cs_report_data_text(rows, row, "state");
	char	   *reason = cs_report_data_text(rows, row, "reason");
	char	   *hint = cs_report_data_text(rows, row, "hint");
	char	   *since = cs_report_data_text(rows, row, "since");
	char	   *until = cs_report_data_text(rows, row, "until");

	if (reason == NULL && hint == NULL)
		return;
	appendStringInfo(page, "<div class=\"note %s\">",
					 cs_report_servers_is_trouble(state) ? cs_report_servers_look(state) : "warn");
	if (reason)
	{
		appendStringInfoString(page, "<p class=\"reason\">");
		put_discreet(report, reason);
		appendStringInfoString(page, "</p>");
	}
	if (cs_report_servers_is_trouble(state) && (since || until))
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
	put_tile(page, "Throttled", sum->throttled, with_count("", sum->retries, " calls repeated"));
	appendStringInfoString(page, "<div><dt>Latency, median</dt><dd>");
	cs_html_latency(page, cs_stats_latency(sum, 0.5));
	appendStringInfoString(page, "<small>95 % within ");
	cs_html_latency(page, cs_stats_latency(sum, 0.95));
	appendStringInfoString(page, "</small></dd></div>");
	put_tile(page, "Backlog now", backlog, age.len > 0 ? age.data : "nothing queued");
	appendStringInfoString(page, "</dl>\n");
}

/* Return the width of a bucket in words. */
static const char *
step_text(const CsReport *report)
{
	if (report->period.width >= 172800)
		return psprintf("%.3g days", report->period.width / 86400);
	if (report->period.width >= 7200)
		return psprintf("%.3g h", report->period.width / 3600);
	return psprintf("%.3g min", report->period.width / 60);
}

static void
put_charts(const CsReport *report, const CsPeriodStats *buckets, const CsPeriodStats *sum)
{
	double		synced[MAX_BUCKETS];
	double		failed[MAX_BUCKETS];
	double		fast[MAX_BUCKETS];
	double		slow[MAX_BUCKETS];
	double		waiting[MAX_BUCKETS];
	double		unit = cs_stats_latency(sum, 0.95) < 2 ? 1000 : 1;
	CsChart		chart = {.start = report->period.start,.step = report->period.width,.n = report->period.nbuckets};

	for (int i = 0; i < report->period.nbuckets; i++)
	{
		synced[i] = buckets[i].synced;
		failed[i] = buckets[i].failed;
		fast[i] = cs_stats_latency(&buckets[i], 0.5) * unit;
		slow[i] = cs_stats_latency(&buckets[i], 0.95) * unit;
		waiting[i] = buckets[i].backlog;
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
	chart.kind = CS_CHART_LAYERS;
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

/*
 * Append the values of the charts as a table, without buckets in which nothing happened.
 * The end tags of rows and cells can be left out.
 */
static void
put_values_table(const CsReport *report, const CsPeriodStats *buckets)
{
	StringInfo	page = report->page;

	appendStringInfo(page, "<details><summary>Data of the charts, per %s</summary><div class=\"wide\"><table class=\"data\"><thead><tr>"
					 "<th scope=\"col\">from<th scope=\"col\" class=\"n\">calls<th scope=\"col\" class=\"n\">synced"
					 "<th scope=\"col\" class=\"n\">failed<th scope=\"col\" class=\"n\">median<th scope=\"col\" class=\"n\">95 %%"
					 "<th scope=\"col\" class=\"n\">backlog<tbody>\n", step_text(report));
	for (int i = 0; i < report->period.nbuckets; i++)
	{
		const CsPeriodStats *bucket = &buckets[i];

		if (bucket->calls == 0 && bucket->synced == 0 && bucket->failed == 0 && isnan(bucket->backlog))
			continue;
		appendStringInfoString(page, "<tr><th scope=\"row\">");
		cs_html_time(page, "%Y-%m-%d %H:%M", report->period.start + (TimestampTz) (i * report->period.width * USECS_PER_SEC));
		appendStringInfoString(page, "<td>");
		cs_html_count(page, bucket->calls);
		appendStringInfoString(page, "<td>");
		cs_html_count(page, bucket->synced);
		appendStringInfoString(page, "<td>");
		cs_html_count(page, bucket->failed);
		appendStringInfoString(page, "<td>");
		cs_html_latency(page, cs_stats_latency(bucket, 0.5));
		appendStringInfoString(page, "<td>");
		cs_html_latency(page, cs_stats_latency(bucket, 0.95));
		appendStringInfoString(page, "<td>");
		cs_html_count(page, isnan(bucket->backlog) ? 0 : (int64) bucket->backlog);
		appendStringInfoString(page, "\n");
	}
	appendStringInfoString(page, "</table></div></details>\n");
}

static void
put_reasons(const CsReport *report, const char *server, const char *owner)
{
	StringInfo	page = report->page;
	SPITupleTable *rows = cs_report_data_reasons(&report->period, server, owner);

	if (rows->numvals == 0)
		return;
	appendStringInfoString(page, "<table class=\"bars\"><caption>Failures by reason</caption><thead><tr><th scope=\"col\">reason</th>"
						   "<th scope=\"col\" class=\"n\">contacts</th><th></th></tr></thead><tbody>\n");
	for (uint64 row = 0; row < rows->numvals; row++)
	{
		int64		failed = cs_report_data_count(rows, row, "failed");

		appendStringInfoString(page, "<tr><th scope=\"row\">");
		put_discreet(report, cs_report_data_text(rows, row, "reason"));
		appendStringInfoString(page, "</th><td class=\"n\">");
		cs_html_data(page, failed);
		appendStringInfo(page, "</td><td><span class=\"bar\" style=\"width:%.1f%%\"></span></td></tr>\n",
						 100.0 * failed / Max(cs_report_data_count(rows, 0, "failed"), 1));
	}
	appendStringInfoString(page, "</tbody></table>\n");
}

/* Append the watches of a server, the rows of status from "first" to before "end". */
static void
put_watches(StringInfo page, SPITupleTable *rows, uint64 first, uint64 end)
{
	appendStringInfoString(page, "<div class=\"wide\"><table class=\"watches\"><caption>Watches; contacts synced and failed since the watch was created</caption><thead><tr>"
						   "<th scope=\"col\">source</th><th scope=\"col\">state</th><th scope=\"col\" class=\"n\">backlog</th>"
						   "<th scope=\"col\" class=\"n\">synced</th><th scope=\"col\" class=\"n\">failed</th>"
						   "<th scope=\"col\" class=\"n\">failures open</th><th scope=\"col\" class=\"n\">consent held</th>"
						   "<th scope=\"col\" class=\"n\">withheld</th><th scope=\"col\">last success</th><th scope=\"col\">ETA</th></tr></thead><tbody>\n");
	for (uint64 row = first; row < end; row++)
	{
		static const char *const counts[] = {"backlog", "synced", "failed", "failures", "held", "withheld"};
		char	   *source = cs_report_data_text(rows, row, "source");
		char	   *success = cs_report_data_text(rows, row, "last_success");
		char	   *eta = cs_report_data_text(rows, row, "eta");

		appendStringInfoString(page, "<tr><th scope=\"row\" class=\"key\">");
		cs_html_text(page, source ? source : "contactsync_upsert()");
		appendStringInfoString(page, "</th><td>");
		cs_html_pill(page, cs_report_data_text(rows, row, "state"), cs_report_servers_look(cs_report_data_text(rows, row, "state")));
		appendStringInfoString(page, "</td>");
		for (int i = 0; i < lengthof(counts); i++)
		{
			appendStringInfoString(page, "<td class=\"n\">");
			cs_html_count(page, cs_report_data_count(rows, row, counts[i]));
			appendStringInfoString(page, "</td>");
		}
		appendStringInfo(page, "<td class=\"time\">%s</td><td class=\"time\">%s</td></tr>\n",
						 success ? success : "&#8211;", eta ? eta : "&#8211;");
	}
	appendStringInfoString(page, "</tbody></table></div>\n");
}

/* Append the running imports and reconciliations of a server, if any. */
static void
put_scans(const CsReport *report, const char *server, const char *owner)
{
	StringInfo	page = report->page;
	SPITupleTable *rows = cs_report_data_scans(server, owner);

	if (rows->numvals == 0)
		return;
	appendStringInfoString(page, "<div class=\"wide\"><table class=\"scans\"><caption>Running imports and reconciliations</caption><thead><tr><th scope=\"col\">source</th>"
						   "<th scope=\"col\">what</th><th scope=\"col\">phase</th><th scope=\"col\" class=\"n\">rows</th><th scope=\"col\" class=\"n\">of about</th>"
						   "<th scope=\"col\">percent</th><th scope=\"col\" class=\"n\">rows/s</th><th scope=\"col\">ETA</th></tr></thead><tbody>\n");
	for (uint64 row = 0; row < rows->numvals; row++)
	{
		char	   *percent = cs_report_data_text(rows, row, "percent");
		char	   *eta = cs_report_data_text(rows, row, "eta");

		appendStringInfoString(page, "<tr><th scope=\"row\" class=\"key\">");
		cs_html_text(page, cs_report_data_text(rows, row, "source"));
		appendStringInfo(page, "</th><td>%s</td><td>%s</td><td class=\"n\">", cs_report_data_text(rows, row, "kind"),
						 cs_report_data_text(rows, row, "phase"));
		cs_html_data(page, cs_report_data_count(rows, row, "done"));
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_count(page, cs_report_data_count(rows, row, "total"));
		appendStringInfoString(page, "</td><td class=\"time\">");
		if (percent)
			appendStringInfo(page, "<progress max=\"100\" value=\"%s\">%s %%</progress> %s&#160;%%", percent, percent, percent);
		appendStringInfoString(page, "</td><td class=\"n\">");
		cs_html_count(page, cs_report_data_count(rows, row, "rate"));
		appendStringInfo(page, "</td><td class=\"time\">%s</td></tr>\n", eta ? eta : "&#8211;");
	}
	appendStringInfoString(page, "</tbody></table></div>\n");
}

/* Append the section of a server. */
static void
put_server(CsReport *report, SPITupleTable *rows, const CsReportServer *server)
{
	StringInfo	page = report->page;
	char	   *pace = cs_report_data_text(rows, server->first, "pace");
	CsPeriodStats buckets[MAX_BUCKETS];
	CsPeriodStats sum;

	cs_report_data_buckets(&report->period, server->name, server->owner, buckets, &sum);
	report->nservers++;
	appendStringInfo(page, "<section class=\"server\" aria-labelledby=\"server-%d\"><div class=\"name\"><h2 id=\"server-%d\"><bdi>",
					 report->nservers, report->nservers);
	cs_html_text(page, server->name);
	appendStringInfoString(page, "</bdi></h2>");
	cs_html_pill(page, server->state, cs_report_servers_look(server->state));
	appendStringInfoString(page, "<span class=\"soft\">of <bdi>");
	cs_html_text(page, server->owner);
	appendStringInfo(page, "</bdi>; %s calls a second now%s%s</span></div>\n", cs_report_data_text(rows, server->first, "rate"),
					 pace ? ", allowed " : "", pace ? pace : "");
	put_note(report, rows, server->worst);
	put_tiles(page, &sum, server->backlog, server->oldest);
	if (sum.calls + sum.synced + sum.failed > 0)
	{
		put_charts(report, buckets, &sum);
		put_values_table(report, buckets);
	}
	else
		appendStringInfoString(page, "<p class=\"empty\" style=\"margin-top:16px\">There were no calls in this period.</p>");
	appendStringInfoString(page, "<div class=\"tables\">");
	put_scans(report, server->name, server->owner);
	put_reasons(report, server->name, server->owner);
	put_watches(page, rows, server->first, server->end);
	appendStringInfoString(page, "</div></section>\n");
}

/*
 * The page
 */

static void
put_failures(const CsReport *report)
{
	static const char *const names[] = {"server", "source", "key", "reason", "code", "field", "attempts", "upsert_key", "message"};
	int			columns = report->personal ? lengthof(names) : lengthof(names) - 2;
	StringInfo	page = report->page;
	SPITupleTable *rows = cs_report_data_failures(NEWEST_FAILURES);

	appendStringInfoString(page, "<section id=\"failures\"><h2>Newest failures</h2>");
	if (rows->numvals == 0)
	{
		appendStringInfoString(page, "<p class=\"empty\" style=\"margin-top:12px\">No contacts have failed.</p></section>\n");
		return;
	}
	appendStringInfo(page, "<p class=\"soft\">Contacts that were given up on and have not been sent since, at most %d of them.%s</p>"
					 "<div class=\"wide\"><table><thead><tr><th scope=\"col\">last</th>", NEWEST_FAILURES,
					 report->personal ? "" : " Addresses and messages are omitted; contactsync_report(personal =&gt; true) includes them.");
	for (int i = 0; i < columns; i++)
		appendStringInfo(page, "<th scope=\"col\">%s</th>", strcmp(names[i], "upsert_key") == 0 ? "upsert key" : names[i]);
	appendStringInfoString(page, "</tr></thead><tbody>\n");
	for (uint64 row = 0; row < rows->numvals; row++)
	{
		appendStringInfo(page, "<tr><td class=\"time\">%s</td>", cs_report_data_text(rows, row, "at"));
		for (int i = 0; i < columns; i++)
		{
			appendStringInfoString(page, "<td class=\"key\">");
			put_discreet(report, cs_report_data_text(rows, row, names[i]));
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
	cs_html_time(page, "%Y-%m-%d %H:%M", report->period.start);
	appendStringInfoString(page, " to ");
	cs_html_time(page, "%Y-%m-%d %H:%M", report->period.end);
	appendStringInfoString(page, ", times in ");
	cs_html_text(page, pg_get_timezone_name(session_timezone));
	cs_html_time(page, " (%Z)", report->period.end);
	appendStringInfoString(page, "</p></header>\n<main>\n");
}

/* Append the sections of some servers, and say which. */
static void
put_servers(CsReport *report, SPITupleTable *rows, const CsReportServer *servers, int n)
{
	for (int i = 0; i < n; i++)
		if (servers[i].detailed)
			put_server(report, rows, &servers[i]);
	if (n > MAX_DETAILED)
		appendStringInfo(report->page, "<p class=\"soft\" style=\"margin:0 0 20px\">Of the %d servers, %d are shown in detail: those that are not well, and those with the most calls.</p>\n",
						 n, MAX_DETAILED);
}

static void
put_page(CsReport *report)
{
	SPITupleTable *rows = cs_report_data_status();
	CsReportServer *servers;
	int			n;

	cs_html_begin(report->page, psprintf("contactsync: %s", get_database_name(MyDatabaseId)));
	put_header(report);
	servers = cs_report_servers_read(rows, &report->period, MAX_DETAILED, &n);
	if (n > 0)
		cs_report_servers_put(report->page, rows, servers, n, report->personal);
	put_servers(report, rows, servers, n);
	if (n == 0)
		appendStringInfo(report->page, "<p class=\"empty\">Nothing is sent to any of your servers yet; use contactsync_watch() to mirror a table.</p>\n");
	else
		put_failures(report);
	appendStringInfoString(report->page, "</main>\n<footer>Made by contactsync " CS_VERSION " for ");
	cs_html_text(report->page, GetUserNameFromId(GetUserId(), false));
	appendStringInfoString(report->page, ", with the servers that this role can see. Latencies are estimated from a histogram. "
						   "The data comes from the views contactsync.status, contactsync.history, contactsync.progress and contactsync.failures.</footer>\n");
	cs_html_end(report->page);
}

/* Divide the period up to now into buckets. */
static void
set_period(CsReport *report, Interval *period)
{
	double		seconds;

	report->period.end = GetCurrentTransactionStartTimestamp();
	report->period.start = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(report->period.end),
																   IntervalPGetDatum(period)));
	seconds = (report->period.end - report->period.start) / (double) USECS_PER_SEC;
	if (seconds < 600 || seconds > 366.0 * 86400)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("period must be between 10 minutes and 1 year"),
				 errhint("For example: SELECT contactsync_report('7 days').")));
	report->period.nbuckets = Min(MAX_BUCKETS, (int) (seconds / 60));
	report->period.width = seconds / report->period.nbuckets;
}

/* contactsync_report(period, personal) */
Datum
contactsync_report(PG_FUNCTION_ARGS)
{
	CsReport	report = {.personal = PG_GETARG_BOOL(1)};
	int			level;

	set_period(&report, PG_GETARG_INTERVAL_P(0));
	report.page = makeStringInfo();
	level = cs_report_data_begin();
	put_page(&report);
	cs_report_data_end(level);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(report.page->data, report.page->len));
}
