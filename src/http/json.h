/*-------------------------------------------------------------------------
 *
 * json.h
 *		Reading of answers, tolerant of shape, strict about size; and writing.
 *
 * json.c is the only file that sees json-c (its json_object clashes with the
 * one of utils/builtins.h); jsonwrite.c needs none.  Every reader takes NULL and answers NULL, so that
 * chains such as cs_json_text(cs_json_get(cs_json_get(doc, "error"), "code"))
 * need no check between.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_JSON_H
#define CS_HTTP_JSON_H

#include "postgres.h"

#include "lib/stringinfo.h"

typedef struct CsJson CsJson;	/* a json-c value, never freed by the caller */

/* Deeper nesting than this is taken as hostile. */
#define CS_JSON_MAX_DEPTH	32

/*
 * More objects and arrays, or values, than this as well: json-c takes some 700
 * bytes for "{}".  The largest honest answer has 1000 rows of a dozen values.
 */
#define CS_JSON_MAX_CONTAINERS	32768
#define CS_JSON_MAX_VALUES		262144

/*
 * The document, which lives as long as the current memory context; NULL if the
 * text is not JSON, is not valid UTF-8, is nested too deeply, has too many
 * values or something behind it, contains \u0000, or is just null.
 */
extern CsJson *cs_json_parse(const char *text, size_t len);

extern CsJson *cs_json_get(CsJson *object, const char *name);
extern CsJson *cs_json_path(CsJson *object, const char *dotted_path);
extern CsJson *cs_json_item(CsJson *array, int index);
extern int	cs_json_length(CsJson *array);	/* -1 if it is not an array */
extern bool cs_json_is_object(CsJson *value);
extern bool cs_json_is_null(CsJson *value); /* absent or null */

/*
 * Readers never fail: what is missing or of another type is NULL or false.
 *
 * Text of a string or number or boolean, else NULL; lives as the document.
 */
extern const char *cs_json_text(CsJson *value);

/* The string alone (numbers are not taken), else NULL. */
extern const char *cs_json_string(CsJson *value);

/* A whole number, also when it is written as 2.0 or "2". */
extern bool cs_json_int(CsJson *value, int64 *result);
extern bool cs_json_number(CsJson *value, double *result);	/* or "1.5" */
extern bool cs_json_bool(CsJson *value, bool *result);

/* The compact text of any value, palloc'd; NULL for NULL. */
extern char *cs_json_dump(CsJson *value);

/* Names of an object in order; callback returns false to stop. */
typedef bool (*CsJsonVisitor) (const char *name, CsJson *value, void *arg);
extern void cs_json_each(CsJson *object, CsJsonVisitor visit, void *arg);

/*
 * Writing: {"a":"b", ...} piece by piece.  cs_json_key() writes the comma if
 * one is due, then the quoted name and the colon.
 */
extern void cs_json_key(StringInfo out, const char *name);
extern void cs_json_quote(StringInfo out, const char *utf8);
extern void cs_json_member(StringInfo out, const char *name, const char *utf8); /* NULL: null */
extern void cs_json_member_raw(StringInfo out, const char *name, const char *json);
extern void cs_json_comma(StringInfo out);	/* unless the last byte opens
											 * something */

#endif							/* CS_HTTP_JSON_H */
