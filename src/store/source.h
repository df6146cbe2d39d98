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

/* What cs_source_enter() changed. */
typedef struct CsOwnerScope
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
	bool		read_only;
} CsOwnerScope;

/*
 * Checks one expression of a watch that is being made: its syntax, and its
 * meaning for the current user.  Returns its type; adds the columns of the
 * source that it uses to *columns (attribute numbers off by
 * FirstLowInvalidHeapAttributeNumber).  "what" names it in errors.
 */
extern Oid	cs_source_check_expression(Relation source, const char *expression,
									   const char *what, Bitmapset **columns);

extern Oid	cs_source_expression_type(Oid source, const char *expression);

/*
 * In between we are the owner of the watch, may only read, and are connected to
 * SPI; an abort puts all of it back.
 */
extern void cs_source_enter(const CsWatch *watch, CsOwnerScope *scope);
extern void cs_source_leave(const CsOwnerScope *scope);

/* Runs a query over a source, read-only, within source_timeout; in between these two. */
extern void cs_source_execute(SPIPlanPtr plan, Datum *args);

/* "schema.table AS table", for a query that expressions are part of. */
extern char *cs_source_from(Oid source);

/* Names for such a query, qualified by their schema. */
extern char *cs_source_type_name(Oid type);
extern char *cs_source_equality(Oid type);
extern char *cs_source_greater_than(Oid type);

#endif							/* CS_STORE_SOURCE_H */
