/*-------------------------------------------------------------------------
 *
 * report_servers.c
 *		The servers of a report: which there are, in which order, and the table of all.
 *
 * A page that is read on paper or by mail is to be small, and says first where somebody
 * has to look.  So all servers are in one table, and only some of them have charts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "utils/builtins.h"
#include "utils/float.h"

#include "api/html.h"
#include "api/report_servers.h"

/* The size of the bars of one server, and of all parts of the period together. */
#define HEIGHT	18
#define STEP	5

/* The states, the worst first. */
static const struct
{
	const char *state;
	const char *look;
	bool		trouble;
}			states[] = {
	{"halted", "bad", true}, {"broken", "bad", true}, {"guarded", "warn", true}, {"unavailable", "warn", true},
	{"paused", "warn", true}, {"throttled", "warn", true}, {"running", "good", false}, {"idle", "calm", false}
};

static int
rank_of(const char *state)
{
	int			i = 0;

	while (i < lengthof(states) - 1 && strcmp(states[i].state, state) != 0)
		i++;
	return i;
}

const char *
cs_report_servers_look(const char *state)
{
	return states[rank_of(state)].look;
}

bool
cs_report_servers_is_trouble(const char *state)
{
	return states[rank_of(state)].trouble;
}

/*
 * Order
 */

/* Compare the numbers at the beginning of both texts, and skip them. */
static int
compare_numbers(const char **a, const char **b)
{
	size_t		na;
	size_t		nb;
	int			result;

	*a += strspn(*a, "0");
	*b += strspn(*b, "0");
	na = strspn(*a, "0123456789");
	nb = strspn(*b, "0123456789");
	result = na == nb ? memcmp(*a, *b, na) : na < nb ? -1 : 1;
	*a += na;
	*b += nb;
	return result;
}

/* Compare names as people do: 2 before 10, whatever the case. */
static int
compare_names(const char *a, const char *b)
{
	const char *p = a;
	const char *q = b;

	while (*p && *q)
	{
		int			result;

		if (isdigit((unsigned char) *p) && isdigit((unsigned char) *q))
			result = compare_numbers(&p, &q);
		else
			result = pg_ascii_tolower((unsigned char) *p++) - pg_ascii_tolower((unsigned char) *q++);
		if (result != 0)
			return result;
	}
	if (*p || *q)
		return *p ? 1 : -1;
	return strcmp(a, b);
}

static int
compare_servers(const void *a, const void *b)
{
	const CsReportServer *one = a;
	const CsReportServer *other = b;
	int			rank = states[rank_of(one->state)].trouble ? rank_of(one->state) : lengthof(states);
	int			other_rank = states[rank_of(other->state)].trouble ? rank_of(other->state) : lengthof(states);
	int			result = rank - other_rank;

	if (result == 0)
		result = compare_names(one->name, other->name);
	return result != 0 ? result : strcmp(one->owner, other->owner);
}

/* The most calls first. */
static int
compare_calls(const void *a, const void *b)
{
	const CsReportServer *one = *(CsReportServer *const *) a;
	const CsReportServer *other = *(CsReportServer *const *) b;

	if (states[rank_of(one->state)].trouble != states[rank_of(other->state)].trouble)
		return states[rank_of(one->state)].trouble ? -1 : 1;
	return one->calls == other->calls ? 0 : one->calls > other->calls ? -1 : 1;
}

/*
 * Reading
 */

static CsReportServer *
find_server(CsReportServer *servers, int n, const char *name, const char *owner)
{
	for (int i = 0; i < n; i++)
		if (strcmp(servers[i].name, name) == 0 && strcmp(servers[i].owner, owner) == 0)
			return &servers[i];
	return NULL;
}

static void
add_row(CsReportServer *server, SPITupleTable *rows, uint64 row)
{
	const char *state = cs_report_data_text(rows, row, "state");
	double		age = cs_report_data_number(rows, row, "oldest");

	if (server->state == NULL || rank_of(state) < rank_of(server->state))
	{
		server->state = state;
		server->worst = row;
	}
	server->backlog += cs_report_data_count(rows, row, "backlog");
	server->failures += cs_report_data_count(rows, row, "failures");
	if (!(server->oldest >= age))
		server->oldest = isnan(age) ? server->oldest : age;
	server->end = row + 1;
}

static void
add_activity(CsReportServer *servers, int n, const CsReportPeriod *period)
{
	SPITupleTable *rows = cs_report_data_activity(period, CS_REPORT_PARTS);

	for (uint64 row = 0; row < rows->numvals; row++)
	{
		CsReportServer *server = find_server(servers, n, cs_report_data_text(rows, row, "server"),
											 cs_report_data_text(rows, row, "owner"));
		int64		part = cs_report_data_count(rows, row, "part");
		int64		synced = cs_report_data_count(rows, row, "synced");
		int64		failed = cs_report_data_count(rows, row, "failed");

		if (server == NULL)
			continue;
		server->calls += cs_report_data_count(rows, row, "calls");
		server->synced += synced;
		server->failed += failed;
		server->contacts[Max(Min(part, CS_REPORT_PARTS - 1), 0)] += synced + failed;
	}
}

CsReportServer *
cs_report_servers_read(SPITupleTable *rows, const CsReportPeriod *period, int details, int *n)
{
	CsReportServer *servers = palloc0(Max(rows->numvals, 1) * sizeof(CsReportServer));
	CsReportServer **busiest;

	*n = 0;
	for (uint64 row = 0; row < rows->numvals; row++)
	{
		char	   *name = cs_report_data_text(rows, row, "server");
		char	   *owner = cs_report_data_text(rows, row, "owner");
		CsReportServer *server = find_server(servers, *n, name, owner);

		if (server == NULL)
		{
			server = &servers[(*n)++];
			server->name = name;
			server->owner = owner;
			server->first = row;
			server->oldest = get_float8_nan();
		}
		add_row(server, rows, row);
	}
	add_activity(servers, *n, period);
	qsort(servers, *n, sizeof(CsReportServer), compare_servers);
	busiest = palloc(Max(*n, 1) * sizeof(CsReportServer *));
	for (int i = 0; i < *n; i++)
		busiest[i] = &servers[i];
	qsort(busiest, *n, sizeof(CsReportServer *), compare_calls);
	for (int i = 0; i < Min(*n, details); i++)
		busiest[i]->detailed = true;
	return servers;
}

/*
 * The table
 */

/* Append the contacts of each part of the period as bars. */
static void
put_activity(StringInfo page, const CsReportServer *server)
{
	double		high = 0;

	for (int i = 0; i < CS_REPORT_PARTS; i++)
		high = Max(high, server->contacts[i]);
	if (high == 0)
		return;
	appendStringInfo(page, "<svg class=\"spark\" viewBox=\"0 0 %d %d\" aria-hidden=\"true\"><path class=\"bar-synced\" stroke-width=\"%d\" d=\"",
					 CS_REPORT_PARTS * STEP, HEIGHT, STEP - 1);
	for (int i = 0; i < CS_REPORT_PARTS; i++)
	{
		int			height = (int) ceil(HEIGHT * server->contacts[i] / high);

		if (height > 0)
			appendStringInfo(page, "M%d %dV%d", i * STEP + STEP / 2, HEIGHT, HEIGHT - height);
	}
	appendStringInfoString(page, "\"/></svg>");
}

static void
put_count(StringInfo page, int64 count)
{
	appendStringInfoString(page, "<td class=\"n\">");
	cs_html_count(page, count);
}

/* The end tags of rows and cells can be left out. */
static void
put_row(StringInfo page, SPITupleTable *rows, const CsReportServer *server, bool owners, bool personal)
{
	const char *success = cs_report_data_text(rows, server->worst, "last_success");

	appendStringInfoString(page, "<tr><td>");
	cs_html_pill(page, server->state, cs_report_servers_look(server->state));
	appendStringInfoString(page, "<th scope=\"row\" class=\"key\"><bdi>");
	cs_html_text(page, server->name);
	appendStringInfoString(page, "</bdi>");
	if (owners)
	{
		appendStringInfoString(page, " <small>of <bdi>");
		cs_html_text(page, server->owner);
		appendStringInfoString(page, "</bdi></small>");
	}
	put_count(page, server->backlog);
	appendStringInfoString(page, "<td class=\"time\">");
	if (server->backlog > 0)
		cs_html_duration(page, server->oldest);
	put_count(page, server->failures);
	put_count(page, server->synced);
	put_count(page, server->failed);
	appendStringInfoString(page, "<td>");
	put_activity(page, server);
	appendStringInfo(page, "<td class=\"time\">%s<td class=\"key\">", success ? success : "");
	if (cs_report_servers_is_trouble(server->state))
		cs_html_discreet(page, cs_report_data_text(rows, server->worst, "reason"), personal);
	appendStringInfoString(page, "\n");
}

void
cs_report_servers_put(StringInfo page, SPITupleTable *rows, const CsReportServer *servers, int n, bool personal)
{
	bool		owners = false;
	int			trouble = 0;

	for (int i = 0; i < n; i++)
	{
		owners |= strcmp(servers[i].owner, servers[0].owner) != 0;
		trouble += cs_report_servers_is_trouble(servers[i].state);
	}
	appendStringInfo(page, "<section id=\"servers\"><h2>%d server%s, ", n, n == 1 ? "" : "s");
	if (trouble > 0)
		appendStringInfo(page, "%d not well", trouble);
	else
		appendStringInfoString(page, n == 1 ? "which is well" : "all well");
	appendStringInfoString(page, "</h2><div class=\"wide\"><table><thead><tr><th scope=\"col\">state<th scope=\"col\">server"
						   "<th scope=\"col\" class=\"n\">backlog<th scope=\"col\">oldest<th scope=\"col\" class=\"n\">failures open"
						   "<th scope=\"col\" class=\"n\">synced<th scope=\"col\" class=\"n\">failed<th scope=\"col\">contacts over time"
						   "<th scope=\"col\">last success<th scope=\"col\">reason<tbody>\n");
	for (int i = 0; i < n; i++)
		put_row(page, rows, &servers[i], owners, personal);
	appendStringInfoString(page, "</table></div></section>\n");
}
