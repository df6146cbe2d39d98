/*-------------------------------------------------------------------------
 *
 * pointer.h
 *		Where something is in an answer, and tests of what is there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_POINTER_H
#define CS_PROVIDER_DEFINED_POINTER_H

#include "postgres.h"

#include "provider/defined/definition.h"
#include "provider/defined/fault.h"

/* For tables of members: read a JSON pointer into a CsPointer *. */
extern void cs_pointer_compile(CsCompiler *compiler, CsJson *json, void *field);

/* Return what is there, or NULL. */
extern CsJson *cs_pointer_get(const CsPointer *pointer, CsJson *doc);

/* Return its text if it is a string or a number, or NULL. */
extern const char *cs_pointer_text(const CsPointer *pointer, CsJson *doc);

/* For tables of members: read a test, or an array of them, into a CsTests. */
extern void cs_pointer_compile_tests(CsCompiler *compiler, CsJson *json, void *field);

/* Do all of them hold?  "response" may be NULL: there are no headers. */
extern bool cs_pointer_tests_hold(const CsTests *tests, CsJson *doc, const CsResponse *response);

/*
 * Answers and definitions are bounded, but the product of both would have the worker
 * search for minutes.  So the tests of one answer, or of one page of a list, have a budget:
 * it begins anew with cs_pointer_begin(), and when it is spent, tests that would search
 * fail, and cs_pointer_is_exhausted() returns true.
 */
extern void cs_pointer_begin(void);
extern bool cs_pointer_is_exhausted(void);

/* Is one of the phrases in a text, in any letter case? */
extern bool cs_pointer_mentions(const char *text, const char **phrases);

#endif							/* CS_PROVIDER_DEFINED_POINTER_H */
