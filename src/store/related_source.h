/*-------------------------------------------------------------------------
 *
 * related_source.h
 *		Which rows of the source of a watch use rows of its related tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_RELATED_SOURCE_H
#define CS_STORE_RELATED_SOURCE_H

#include "postgres.h"

#include "store/watch.h"

/*
 * Raise an error unless each related table is there, with its columns, which can be
 * compared with those of the source, and its owner is trusted.
 */
extern void cs_related_source_check(const CsWatch *watch);
extern void cs_related_source_check_exists(const CsRelated *related);

/*
 * Return a watch whose source is the table that has the columns by which rows are
 * related: the source, or the base of a view.  Its keys are those of the watch.  The
 * result lives as long as the watch; what it has beside is palloc'd.
 */
extern const CsWatch *cs_related_source_watch(const CsWatch *watch, const CsRelated *related);

/*
 * Return a condition about rows of that source, palloc'd: that they refer to a row of the
 * related table that has one of these keys, or with no keys, that they may refer to any.
 * A key is a text, or of several columns a JSON array, as with rows of the source.
 */
extern char *cs_related_source_condition(const CsWatch *watch, const CsRelated *related, int n, char **keys);

#endif							/* CS_STORE_RELATED_SOURCE_H */
