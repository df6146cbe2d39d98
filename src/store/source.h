/*-------------------------------------------------------------------------
 *
 * source.h
 *		Running a watch's SQL over its source, as the owner of the watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_SOURCE_H
#define CS_STORE_SOURCE_H

#include "postgres.h"

#include "executor/spi.h"
#include "nodes/bitmapset.h"
#include "utils/rel.h"

#include "store/watch.h"

/* What cs_source_leave() restores. */
typedef struct CsOwnerScope
{
	Oid			reader;			/* who reads the rows */
	Oid			userid;
	int			sec_context;
	int			guc_level;
	bool		read_only;
	bool		timed;			/* its time limit began with it */
} CsOwnerScope;

/*
 * Check an expression of a watch that is being made, as the current user.  Return
 * its type, and add the columns of the source that it uses to *columns (attribute
 * numbers minus FirstLowInvalidHeapAttributeNumber).  "what" names it in errors, and
 * "meant", or NULL, the column that may be meant by one that does not exist.
 */
extern Oid	cs_source_check_expression(const CsWatch *watch, const char *expression,
									   const char *what, const char *meant, Bitmapset **columns);

extern Oid	cs_source_expression_type(const CsWatch *watch, const char *expression);

extern void cs_source_enter(const CsWatch *watch, CsOwnerScope *scope);
extern void cs_source_leave(const CsOwnerScope *scope);

/* Between cs_source_enter() and cs_source_leave(). */
extern SPIPlanPtr cs_source_prepare(const char *query, int nargs, Oid *types, Oid reader);
extern void cs_source_execute(SPIPlanPtr plan, Datum *args);

/* Has the source no rows, as far as the owner sees?  false if that cannot be read. */
extern bool cs_source_is_empty(const CsWatch *watch);

extern char *cs_source_alias(const CsWatch *watch);
extern char *cs_source_from(const CsWatch *watch);

/*
 * Return the arguments that name a watch, "'table', 'server'", as one types them in
 * the session's search_path; palloc'd.
 */
extern char *cs_source_typed(Oid source, const char *server);

extern char *cs_source_type_name(Oid type);
extern char *cs_source_equality(Oid type);
extern char *cs_source_greater_than(Oid type);

#endif							/* CS_STORE_SOURCE_H */
