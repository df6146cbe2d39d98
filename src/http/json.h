/*-------------------------------------------------------------------------
 *
 * json.h
 *		Read and write JSON; hides json-c.
 *
 * json.c is the only file that includes json-c, because json-c's json_object
 * clashes with that of utils/builtins.h.
 *
 * Every reader accepts NULL and returns NULL for it, so that chains such as
 * cs_json_text(cs_json_get(cs_json_get(doc, "error"), "code")) need no checks
 * in between.  Readers never fail: a value that is missing or of another type
 * reads as NULL or false.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_JSON_H
#define CS_HTTP_JSON_H

#include "postgres.h"

#include "lib/stringinfo.h"

typedef struct CsJson CsJson;	/* a json-c value; never freed by the caller */

/* Documents nested more deeply than this are refused. */
#define CS_JSON_MAX_DEPTH	32

/*
 * Documents with more objects and arrays, or more values, than this are refused
 * as well: json-c takes some 700 bytes for "{}".  The largest honest answer has
 * 1000 rows of a dozen values.
 */
#define CS_JSON_MAX_CONTAINERS	32768
#define CS_JSON_MAX_VALUES		262144

/*
 * Parse a document, which lives as long as the current memory context.  Return
 * NULL if the text is not JSON, is not valid UTF-8, exceeds the limits above,
 * has anything after the document, contains \u0000, or is just null.
 */
extern CsJson *cs_json_parse(const char *text, size_t len);

extern CsJson *cs_json_get(CsJson *object, const char *name);
extern CsJson *cs_json_path(CsJson *object, const char *dotted_path);
extern CsJson *cs_json_item(CsJson *array, int index);
extern int	cs_json_length(CsJson *array);	/* -1 if it is not an array */
extern bool cs_json_is_object(CsJson *value);
extern bool cs_json_is_null(CsJson *value); /* absent or null */
extern bool cs_json_has(CsJson *object, const char *name);	/* even if it is null */

/* Return the text of a string, number or boolean; lives as long as the document. */
extern const char *cs_json_text(CsJson *value);

/* Return the text of a string, but not of a number or boolean. */
extern const char *cs_json_string(CsJson *value);

/* Read a whole number, also one that is written as 2.0 or "2". */
extern bool cs_json_int(CsJson *value, int64 *result);
extern bool cs_json_number(CsJson *value, double *result);	/* or "1.5" */
extern bool cs_json_bool(CsJson *value, bool *result);

/* Return the compact text of any value, palloc'd. */
extern char *cs_json_dump(CsJson *value);

/*
 * Visit the members of an object in order; the callback returns false to stop.
 * Does nothing with a value that is not an object.
 */
typedef bool (*CsJsonVisitor) (const char *name, CsJson *value, void *arg);
extern void cs_json_each(CsJson *object, CsJsonVisitor visit, void *arg);

/*
 * Write {"a":"b", ...} piece by piece.  cs_json_key() writes a comma if one is
 * due, then the quoted name and the colon.
 */
extern void cs_json_key(StringInfo out, const char *name);
extern void cs_json_quote(StringInfo out, const char *utf8);
extern void cs_json_member(StringInfo out, const char *name, const char *utf8); /* NULL: null */
extern void cs_json_member_raw(StringInfo out, const char *name, const char *json);

/* Close the object of the member that begins at "start"; leave the member out if it is empty. */
extern void cs_json_end_member(StringInfo out, int start);

/* Write a comma unless the last byte opens an object or an array. */
extern void cs_json_comma(StringInfo out);

#endif							/* CS_HTTP_JSON_H */
