/*-------------------------------------------------------------------------
 *
 * suggestion.h
 *		Suggesting a mapping, by the names and types of columns.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_SUGGESTION_H
#define CS_API_SUGGESTION_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/rel.h"

#include "provider/endpoint.h"
#include "store/watch.h"

/* A row of the result; field and expression can be NULL. */
typedef struct CsAdvice
{
	const char *field;
	const char *expression;
	const char *reason;
} CsAdvice;

typedef struct CsSuggestion
{
	Relation	source;
	const CsEndpoint *endpoint;
	const char *opt_in;			/* the expression that the user gave for it,
								 * or NULL */
	bool	   *taken;			/* by column: it is mapped */
	CsWatch		watch;			/* with what is mapped */
	List	   *mapped;			/* CsAdvice, one for each that is mapped */
	List	   *missing;		/* what keeps it from being complete */
	List	   *left_out;		/* columns */
	const char *consent;		/* a column that may say who wants mail, or
								 * NULL */
} CsSuggestion;

extern CsSuggestion *cs_suggestion_make(Oid source, const char *server, const char *opt_in);

#endif							/* CS_API_SUGGESTION_H */
