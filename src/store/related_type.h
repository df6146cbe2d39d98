/*-------------------------------------------------------------------------
 *
 * related_type.h
 *		Which types of columns rows can be related by.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_RELATED_TYPE_H
#define CS_STORE_RELATED_TYPE_H

#include "postgres.h"

/*
 * Return the "=" of two base types, as OPERATOR(...), by which an index on a column of
 * either is searched for a value of the other; NULL if there is none.  palloc'd.
 */
extern char *cs_related_type_equality(Oid type, Oid other);

#endif							/* CS_STORE_RELATED_TYPE_H */
