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

/* What a related table is to the source. */
#define CS_RELATED_TO_SOURCE	's' /* rows of the source refer to its rows */
#define CS_RELATED_BASE			'b' /* the source is a view, whose key is of
									 * that table: each row of it stands for
									 * one of the view */
#define CS_RELATED_TO_BASE		'j' /* rows of that base refer to its rows */

/*
 * A table by which rows of the source are mapped, and the columns of the source that
 * equal its columns in the rows that use it.  A watch may have several of one table.
 */
typedef struct CsRelated
{
	int			id;				/* 0: not stored yet */
	Oid			relid;
	char	   *name;			/* of the table when it was named */
	char		kind;			/* CS_RELATED_... */
	bool		derived;		/* from a view, rather than named by the user */
	int			n;
	char	  **columns;		/* of the source, or of the base */
	char	  **related_columns;	/* ... and what each equals */
	bool		all_used;		/* any column of it may be used */
	Bitmapset  *used;			/* otherwise those that are, as numbers; both
								 * only while the watch is made */
} CsRelated;

/* Return whether both are the same columns of the same table. */
extern bool cs_related_equal(const CsRelated *a, const CsRelated *b);

/* Return the one that is equal to another, or NULL. */
extern CsRelated *cs_related_find_equal(const List *list, const CsRelated *related);

/* Return the base of a view among its related tables, or NULL. */
extern const CsRelated *cs_related_base(const List *related);

/* Return the number that the triggers of a related table have: negative, if the key of
 * its row is that of a row of the source. */
static inline int
cs_related_number(const CsRelated *related)
{
	return related->kind == CS_RELATED_BASE ? -related->id : related->id;
}

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

/*
 * Put the new names of columns into the related tables of a watch.  Return whether any
 * was renamed.
 */
extern bool cs_related_follow(int watch);

/* Whether one would be: a condition about the watch w. */
#define CS_RELATED_IS_RENAMED \
	"EXISTS (SELECT FROM contactsync.related r WHERE r.watch = w.id AND (r.related_columns <> " CS_RELATED_NAMES \
	" OR r.columns <> " CS_RELATED_SOURCE_NAMES "))"
#define CS_RELATED_NAMES CS_RELATED_NAMES_IN("r.relation", "r.related_columns", "r.numbers")
#define CS_RELATED_SOURCE_NAMES CS_RELATED_NAMES_IN(CS_RELATED_SOURCE("r"), "r.columns", "r.column_numbers")
#define CS_RELATED_NAMES_IN(table, names, numbers) \
	"(SELECT array_agg(COALESCE(a.attname, o.name) ORDER BY o.n)" \
	" FROM ROWS FROM (unnest(" names "), unnest(" numbers ")) WITH ORDINALITY AS o (name, number, n)" \
	" LEFT JOIN pg_attribute a ON a.attrelid = " table " AND a.attnum = o.number AND NOT a.attisdropped)"

/* The table that has "columns": the source, or the base. */
#define CS_RELATED_SOURCE(r) \
	"(SELECT COALESCE((SELECT b.relation::oid FROM contactsync.related b WHERE b.watch = x.id AND b.kind = 'b' AND " r ".kind = 'j')," \
	" x.source::oid) FROM contactsync.watch x WHERE x.id = " r ".watch)"

/* Store the numbers of these columns as they are now, for the watches of an endpoint. */
extern void cs_related_reset(int endpoint);

#endif							/* CS_STORE_RELATED_H */
