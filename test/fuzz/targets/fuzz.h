/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *		What the targets of test/fuzz/coverage.sh have in common.
 *
 * A target reads one input, calls the functions that it is named after, and checks
 * what must be true of any input.  It runs in a transaction that is rolled back and
 * a memory context that is deleted.  An error that it reports is a correct outcome; a
 * crash, a call of fuzz_fail(), and memory that is still allocated afterwards are not.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "postgres.h"

#include "provider/provider.h"

typedef struct FuzzTarget
{
	const char *name;
	void		(*run) (char *data, size_t len);	/* zero-terminated as well */
	void		(*init) (const char *argument); /* or NULL */
	const char *argument;
} FuzzTarget;

/* The targets of each file; a NULL name ends a table. */
extern const FuzzTarget fuzz_judge_targets[];
extern const FuzzTarget fuzz_message_targets[];
extern const FuzzTarget fuzz_contact_targets[];
extern const FuzzTarget fuzz_store_targets[];
extern const FuzzTarget fuzz_definition_targets[];

/* Say what is wrong and crash, which keeps the input. */
extern void fuzz_fail(const char *fmt,...) cs_attribute_printf(1, 2) pg_attribute_noreturn();

/* Return the endpoint of a server, which coverage.sql creates; it lives forever. */
extern CsEndpoint *fuzz_endpoint(const char *server);

/* Cut off the text before the next newline, or before the end; move *data behind it. */
extern char *fuzz_line(char **data);

/* Is it valid JSON, as the server's own parser says?  See message.c. */
extern bool fuzz_is_json(const char *text, size_t len);

/*
 * Return why an answer is no success for a contact of the batch, by what the provider's
 * page documents, or NULL if it is one.  See oracle.c.
 */
extern const char *fuzz_why_no_success(const CsEndpoint *endpoint, const CsBatch *batch, int index,
									   const CsRequest *request, const CsResponse *response,
									   const CsJudgement *judgement);

#endif							/* FUZZ_H */
