/*-------------------------------------------------------------------------
 *
 * settings.c
 *		Settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/network.h"
#include "base/settings.h"

double		cs_clock_speed = 1.0;
bool		cs_allow_http = false;
int			cs_launcher_naptime = 10;
int			cs_probe_interval = 60;
int			cs_source_timeout = 30000;
int			cs_max_databases = 256;
int			cs_max_pending = 20000;
int			cs_trace_rows = 1000;
int			cs_call_log_rows = 100000;
int			cs_call_log_age = 7 * 24 * 60;
int			cs_contact_log_rows = 1000000;
int			cs_contact_log_age = 30 * 24 * 60;
int			cs_failure_rows = 100000;
int			cs_failure_age = 90 * 24 * 60;
int			cs_history_age = 7 * 24 * 60;
int			cs_notify_failures = 100;
int			cs_run_log_rows = 1000;
int			cs_run_log_age = 365 * 24 * 60;

static char *allowed_networks;	/* cs_allowed_networks is what it says */

/* Parse contactsync.allowed_networks; the result goes to the assign hook. */
static bool
check_networks(char **value, void **extra, GucSource source)
{
	CsNetworks *networks = cs_guc_malloc(offsetof(CsNetworks, network) +
										 cs_network_count(*value) * sizeof(CsNetwork));
	const char *problem;
	const char *item;
	int			len;

	if (networks == NULL)
		return false;
	networks->version = hash_bytes((const unsigned char *) *value, (int) strlen(*value));
	problem = cs_network_parse_list(*value, networks, &item, &len);
	if (problem)
	{
		GUC_check_errdetail("\"%.*s\" %s.", len, item, problem);
		cs_guc_free(networks);
		return false;
	}
	*extra = networks;
	return true;
}

static void
assign_networks(const char *value, void *extra)
{
	cs_allowed_networks = extra;
}

/* Define the settings that restrict where servers connect to. */
static void
define_where_to_connect(void)
{
	/*
	 * contactsync.allow_http: plain http is for tests, and for a proxy on the
	 * same machine.  To any other host it would show keys and addresses to
	 * the network, so only a superuser can allow it.
	 */
	DefineCustomBoolVariable("contactsync.allow_http",
							 "Allows servers with an http URL that is not on the loopback interface.",
							 NULL, &cs_allow_http, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);

	/*
	 * contactsync.allowed_networks: what servers of non-superusers may
	 * connect to beside public addresses.  The worker connects from this
	 * machine, which may reach what those roles cannot.  Servers that a
	 * superuser owns may connect to any address.
	 */
	DefineCustomStringVariable("contactsync.allowed_networks",
							   "Sets the networks that servers of non-superusers may connect to beside public addresses.",
							   "A list such as \"10.1.0.0/16, fd12::/16\".",
							   &allowed_networks, "",
							   PGC_SUSET, 0, check_networks, assign_networks, NULL);
}

/* Define the settings that say how much is kept of what was done. */
static void
define_retention(void)
{
	/*
	 * contactsync.call_log_age, contactsync.call_log_rows: what the table
	 * contactsync.call keeps; whichever is reached first.
	 */
	DefineCustomIntVariable("contactsync.call_log_age",
							"Sets how long contactsync.call keeps a request.",
							NULL, &cs_call_log_age, 7 * 24 * 60, 1, INT_MAX / 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("contactsync.call_log_rows",
							"Sets how many requests contactsync.call keeps.",
							NULL, &cs_call_log_rows, 100000, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	/*
	 * contactsync.contact_log_age, contactsync.contact_log_rows: what the
	 * table contactsync.outcome keeps of servers with the option
	 * log_contacts; whichever is reached first.
	 */
	DefineCustomIntVariable("contactsync.contact_log_age",
							"Sets how long contactsync.outcome keeps what became of a contact.",
							NULL, &cs_contact_log_age, 30 * 24 * 60, 1, INT_MAX / 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("contactsync.contact_log_rows",
							"Sets how many outcomes of contacts contactsync.outcome keeps.",
							NULL, &cs_contact_log_rows, 1000000, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	/*
	 * contactsync.failure_age, contactsync.failure_rows: what the table
	 * contactsync.failure keeps for each server and role; whichever is
	 * reached first.
	 */
	DefineCustomIntVariable("contactsync.failure_age",
							"Sets how long contactsync.failure keeps a contact that was given up on.",
							NULL, &cs_failure_age, 90 * 24 * 60, 1, INT_MAX / 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("contactsync.failure_rows",
							"Sets how many contacts of a server that were given up on contactsync.failure keeps.",
							NULL, &cs_failure_rows, 100000, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	/*
	 * contactsync.history_age: what contactsync.history keeps, one row for
	 * each minute in which something was done or queued.
	 */
	DefineCustomIntVariable("contactsync.history_age",
							"Sets how long contactsync.history keeps a minute.",
							NULL, &cs_history_age, 7 * 24 * 60, 60, INT_MAX / 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);

	/*
	 * contactsync.run_log_age, contactsync.run_log_rows: what the table
	 * contactsync.run keeps; the number is that of each kind of run of each
	 * watch, or of each server.
	 */
	DefineCustomIntVariable("contactsync.run_log_age",
							"Sets how long contactsync.run keeps an import, and the like.",
							NULL, &cs_run_log_age, 365 * 24 * 60, 1, INT_MAX / 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("contactsync.run_log_rows",
							"Sets how many imports, and the like, of a watch contactsync.run keeps of each kind.",
							NULL, &cs_run_log_rows, 1000, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	/*
	 * contactsync.trace_rows: how much contactsync_trace() keeps, requests
	 * and answers in full.
	 */
	DefineCustomIntVariable("contactsync.trace_rows",
							"Sets how many traced requests of a server contactsync.trace keeps.",
							NULL, &cs_trace_rows, 1000, 0, 1000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* Define the settings.  Called once, when the library is loaded. */
void
cs_settings_define(void)
{
	define_where_to_connect();
	define_retention();

	/*
	 * contactsync.clock_speed: makes pacing, backoff and timeouts run faster
	 * than real time, so that tests need not wait for them.
	 */
	DefineCustomRealVariable("contactsync.clock_speed",
							 "Sets how much faster than real time pacing and backoff run; for tests.",
							 NULL, &cs_clock_speed, 1.0, 0.001, 100000.0,
							 PGC_SUSET, GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);

	/*
	 * contactsync.launcher_naptime: how soon a database that was copied or
	 * restored with the extension in it gets its worker.  CREATE EXTENSION
	 * does not wait for it.
	 */
	DefineCustomIntVariable("contactsync.launcher_naptime",
							"Sets how often the launcher looks for new databases.",
							NULL, &cs_launcher_naptime, 10, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	/*
	 * contactsync.max_databases: sizes the shared memory in which a database
	 * that accepts connections has a place, whether or not the extension is
	 * in it.  Without shared_preload_libraries it has no effect.
	 */
	DefineCustomIntVariable("contactsync.max_databases",
							"Sets how many databases of the cluster can have a background worker.",
							NULL, &cs_max_databases, 256, 1, 100000,
							process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);

	/*
	 * contactsync.max_pending: bounds the memory of a worker, however large
	 * the backlog is.  A larger value does not make it faster.  Watches that
	 * have a backlog at once hold fewer each; see room.c.
	 */
	DefineCustomIntVariable("contactsync.max_pending",
							"Sets how many queued changes a worker holds in memory, beside a few of each watch.",
							NULL, &cs_max_pending, 20000, 1000, 1000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	/*
	 * contactsync.notify_failures: when this many contacts of a server fail
	 * within a minute, that is announced once, by NOTIFY on the channel
	 * contactsync.
	 */
	DefineCustomIntVariable("contactsync.notify_failures",
							"Sets how many failures of a server in a minute are announced by NOTIFY; 0 turns that off.",
							NULL, &cs_notify_failures, 100, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	/*
	 * contactsync.probe_interval: how often a halted server is tried, with
	 * one call.  A change of its options takes effect at once.
	 */
	DefineCustomIntVariable("contactsync.probe_interval",
							"Sets how often a halted server is tried.",
							NULL, &cs_probe_interval, 60, 1, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	/*
	 * contactsync.source_timeout: mapping and filter expressions are code of
	 * the watch's owner.  This is how long they may take for one batch of
	 * rows.
	 */
	DefineCustomIntVariable("contactsync.source_timeout",
							"Sets how long reading a batch of source rows may take.",
							NULL, &cs_source_timeout, 30000, 100, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	MarkGUCPrefixReserved(CS_EXTENSION);
}
