/*-------------------------------------------------------------------------
 *
 * definition.h
 *		What a watch is: a source table mirrored to an endpoint.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DEFINITION_H
#define CS_DEFINITION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "contact.h"

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
	bool		away;			/* another database sends; see home.c */
	TimestampTz doubted_at;		/* what was synced before is not trusted */

	struct Bitmapset *used;		/* columns, while it is being made */
} CsWatch;

#endif							/* CS_DEFINITION_H */
