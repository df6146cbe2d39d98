/*-------------------------------------------------------------------------
 *
 * related_type.c
 *		Which types of columns rows can be related by.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "store/related_type.h"
#include "store/source.h"

static bool
is_integer(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID;
}

static bool
is_text(Oid type)
{
	return type == TEXTOID || type == VARCHAROID;
}

char *
cs_related_type_equality(Oid type, Oid other)
{
	if (type == other)
		return cs_source_equality(type);
	if ((is_integer(type) && is_integer(other)) || (is_text(type) && is_text(other)))
		return "OPERATOR(pg_catalog.=)";
	return NULL;
}
