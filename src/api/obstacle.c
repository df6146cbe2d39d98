/*-------------------------------------------------------------------------
 *
 * obstacle.c
 *		What keeps delivery from going on, as contactsync.status says it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"

#include "api/obstacle.h"
#include "api/report_data.h"

/* Return what a row of cs_report_data_obstacles() says, as a message. */
static char *
message_of_row(SPITupleTable *rows)
{
	const char *server = cs_report_data_text(rows, 0, "server");
	const char *source = cs_report_data_text(rows, 0, "source");
	const char *state = cs_report_data_text(rows, 0, "state");
	const char *reason = cs_report_data_text(rows, 0, "reason");
	const char *worker = cs_report_data_text(rows, 0, "worker");
	const char *error = cs_report_data_text(rows, 0, "error");

	if (cs_report_data_count(rows, 0, "certain") == 0)
	{
		if (strcmp(worker, "running") != 0)
			return psprintf("the background worker of this database is not running: %s", worker);
		if (reason == NULL)
			return psprintf("the last call to server \"%s\" failed, and is repeated: %s", server, error);
	}
	if (source && (strcmp(state, "broken") == 0 || strcmp(state, "guarded") == 0))
		return psprintf("the watch on %s for server \"%s\" is %s: %s", source, server, state, reason);
	return psprintf("server \"%s\" is %s%s%s", server, state, reason ? ": " : "", reason ? reason : "");
}

/*
 * Read what keeps the caller's changes from being delivered to a server, or with
 * InvalidOid to any.  Needs a transaction with an active snapshot.
 */
void
cs_obstacle_read(Oid serverid, CsObstacle *obstacle)
{
	MemoryContext context = CurrentMemoryContext;
	int			level;
	SPITupleTable *rows;

	memset(obstacle, 0, sizeof(CsObstacle));
	level = cs_report_data_begin();
	rows = cs_report_data_obstacles(serverid);
	if (rows->numvals > 0)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);
		char	   *hint = cs_report_data_text(rows, 0, "hint");

		obstacle->state = pstrdup(cs_report_data_text(rows, 0, "state"));
		obstacle->text = message_of_row(rows);
		obstacle->hint = hint ? pstrdup(hint) : NULL;
		obstacle->certain = cs_report_data_count(rows, 0, "certain") != 0;
		MemoryContextSwitchTo(spi);
	}
	cs_report_data_end(level);
}
