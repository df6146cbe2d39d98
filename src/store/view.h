/*-------------------------------------------------------------------------
 *
 * view.h
 *		Taking a view apart: by which of its tables are its changes noticed?
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_VIEW_H
#define CS_STORE_VIEW_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "store/related.h"

/*
 * Return the tables of a view whose key columns are given, as related tables: first its
 * base, of which one row stands for one key, then those that are joined to it.  Tables
 * whose OIDs are in "named" may be used in ways that are not understood.  If the view
 * is not plain, return NIL, and set *reason to a sentence.  palloc'd; view and tables
 * are locked until the end of the transaction.
 */
extern List *cs_view_take_apart(Oid view, int nkeys, char **keys, List *named, const char **reason);

/*
 * If a column of the view is one of its base, return the name of that, palloc'd, or
 * else NULL.
 */
extern char *cs_view_column_of_base(Oid view, int nkeys, char **keys, const char *column);

#endif							/* CS_STORE_VIEW_H */
