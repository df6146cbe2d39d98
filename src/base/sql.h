/*-------------------------------------------------------------------------
 *
 * sql.h
 *		Running our own statements on our own tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_SQL_H
#define CS_BASE_SQL_H

#include "postgres.h"

#include "executor/spi.h"

#include "base/contactsync.h"

#define CS_SQL_MAX_ARGS	20

/* A statement that is planned once per session; declare it static. */
typedef struct CsStatement
{
	const char *text;
	int			nargs;
	Oid			types[CS_SQL_MAX_ARGS];
	SPIPlanPtr	plan;			/* NULL until it is first used */
} CsStatement;

/* What cs_sql_leave() restores; an aborting transaction does so by itself. */
typedef struct CsSqlScope
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} CsSqlScope;

/* What to do when the library and the tables are not of one version. */
#define CS_UPDATE_HINT \
	"Use ALTER EXTENSION contactsync UPDATE; if that has been done, restart the server."

extern bool cs_sql_is_ready(void);
extern Oid	cs_sql_enter(CsSqlScope *scope);
extern Oid	cs_sql_enter_any_version(CsSqlScope *scope);
extern void cs_sql_leave(CsSqlScope *scope);
extern void cs_sql_plan_by_index(void);
extern bool cs_sql_table_is_locked(void);
extern uint64 cs_sql_execute(CsStatement *statement, Datum *args, const char *nulls);
extern uint64 cs_sql_execute_command(const char *fmt,...);

extern Datum cs_sql_value(int row, int column, bool *isnull);
extern char *cs_sql_text(int row, int column);	/* NULL for null */
extern int	cs_sql_int(int row, int column);	/* 0 for null */
extern TimestampTz cs_sql_time(int row, int column);	/* 0 for null */
extern char **cs_sql_text_array(Datum array, int *n);

extern Datum cs_sql_make_text_array(int n, char *const *texts);
extern Datum cs_sql_text_or_null(const char *text, char *isnull);
extern Datum cs_sql_utf8_or_null(const char *utf8, char *isnull);
extern Datum cs_sql_message_or_null(const char *utf8, char *isnull);

#endif							/* CS_BASE_SQL_H */
