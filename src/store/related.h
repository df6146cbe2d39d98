/*-------------------------------------------------------------------------
 *
 * related.h
 *		contactsync.related: tables that the mapping of a watch uses.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_RELATED_H
#define CS_STORE_RELATED_H

#include "postgres.h"

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

/*
 * A table by which rows of the source are mapped, and the columns of the source that
 * equal its columns in the rows that use it.  A watch may have several of one table.
 */
typedef struct CsRelated
{
	int			id;				/* 0: not stored yet */
	Oid			relid;
	char	   *name;			/* of the table when it was named */
	int			n;
	char	  **columns;		/* of the source */
	char	  **related_columns;	/* ... and what each equals */
	bool		all_used;		/* any column of it may be used */
	Bitmapset  *used;			/* otherwise those that are, as numbers; both
								 * only while the watch is made */
} CsRelated;

/* Return whether both are the same columns of the same table. */
extern bool cs_related_equal(const CsRelated *a, const CsRelated *b);

/*
 * Return whether there is such a related table of the watch, and it is the relation or
 * an ancestor of it.  No SQL is run, for this is called in the application's session.
 */
extern bool cs_related_covers(int endpoint, int watch, int id, Oid relid);

/* All below within cs_sql_enter(). */

/* Return the related tables of a watch: of CsRelated *, palloc'd. */
extern List *cs_related_load(int watch);

/* Store one and give it its id, or delete one. */
extern void cs_related_add(int endpoint, int watch, CsRelated *related);
extern void cs_related_delete(const CsRelated *related);

/* Put the new names of columns of the source into the related tables of a watch. */
extern void cs_related_rename_source(int watch, int n, char **older, char **newer);

/*
 * Put the new names of their own columns into the related tables of a watch.  Return
 * whether any was renamed.
 */
extern bool cs_related_follow(int watch);

/* Whether one would be: a condition about the watch w. */
#define CS_RELATED_IS_RENAMED \
	"EXISTS (SELECT FROM contactsync.related r WHERE r.watch = w.id AND r.related_columns <> " CS_RELATED_NAMES ")"
#define CS_RELATED_NAMES \
	"(SELECT array_agg(COALESCE(a.attname, o.name) ORDER BY o.n)" \
	" FROM ROWS FROM (unnest(r.related_columns), unnest(r.numbers)) WITH ORDINALITY AS o (name, number, n)" \
	" LEFT JOIN pg_attribute a ON a.attrelid = r.relation AND a.attnum = o.number AND NOT a.attisdropped)"

/* Store the numbers of these columns as they are now, for the watches of an endpoint. */
extern void cs_related_reset(int endpoint);

#endif							/* CS_STORE_RELATED_H */
