/*-------------------------------------------------------------------------
 *
 * watch.h
 *		A source table mirrored to an endpoint: its definition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_WATCH_H
#define CS_WATCH_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "contact.h"
#include "endpoint.h"

/* A canonical field or an attribute, and the expression it comes from. */
typedef struct CsMapped
{
	CsField		field;
	char	   *attribute;		/* name of the attribute, or NULL */
	char	   *expression;		/* SQL over the row */
} CsMapped;

typedef enum CsOnDelete
{
	CS_ON_DELETE_IGNORE,
	CS_ON_DELETE_UNSUBSCRIBE,
	CS_ON_DELETE_DELETE
} CsOnDelete;

typedef struct CsWatch
{
	int			id;
	int			endpoint;
	Oid			source;
	Oid			owner;
	int			nkeys;
	char	  **keys;			/* column names */
	int			nmapped;
	CsMapped   *mapped;
	char	   *filter;			/* or NULL */
	char	   *search_path;
	CsOnDelete	on_delete;
	bool		broken;

	struct Bitmapset *used;		/* columns, while it is being made */
} CsWatch;

extern CsWatch *cs_watch_define(Oid source, const CsEndpoint *endpoint, Jsonb *mapping,
								const char *filter, List *key, const char *on_delete);
extern void cs_watch_create(CsWatch *watch, bool always);
extern void cs_watch_drop(int endpoint, int id, Oid source);
extern List *cs_watch_load_all(void);

#endif							/* CS_WATCH_H */
