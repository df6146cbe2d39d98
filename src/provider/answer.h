/*-------------------------------------------------------------------------
 *
 * answer.h
 *		Help for judge(): what the answers of all HTTP services have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_ANSWER_H
#define CS_PROVIDER_ANSWER_H

#include "postgres.h"

#include "provider/provider.h"

/*
 * Judge what all HTTP services have in common: no answer, 408, 425, 429, 5xx,
 * 401, 407, 3xx, a web page.  Return false if the provider has to judge the
 * answer itself (2xx, 400, 402, 403, 404, 409, 422 ...).  "doc" is the parsed
 * body or NULL.
 */
extern bool cs_answer_judge_common(const CsEndpoint *endpoint, const CsResponse *response,
								   CsJson *doc, CsJudgement *judgement);

/*
 * Judge a status of 400 or above that has no special meaning for the provider.
 * 402, 403, 404, 405, 406 and 415 are a fault of the configuration.  Any other
 * is a contact's fault: split the batch, or reject its only contact.
 */
extern void cs_answer_judge_refusal(const CsEndpoint *endpoint, const CsBatch *batch,
									const CsResponse *response, CsJson *doc,
									CsJudgement *judgement);

/*
 * Judge a 2xx that does not say what happened.  That is a success only if
 * "accept", else the call is repeated.
 */
extern void cs_answer_judge_unreadable(const CsEndpoint *endpoint, const CsBatch *batch,
									   const CsResponse *response, bool accept,
									   CsJudgement *judgement);

/*
 * Does an answer name the address of another contact?  It need not name any, and an
 * address that is not ASCII may come back in another notation.
 */
extern bool cs_answer_is_another(const CsContact *contact, CsJson *email);

/*
 * Judge a 2xx that cannot be true of this call, such as more successes than
 * contacts: nothing is known, and the call is repeated.
 */
extern void cs_answer_judge_contradictory(const CsEndpoint *endpoint, const CsResponse *response,
										  const char *what, CsJudgement *judgement);

/* Does a document say that the call failed, whatever the status of the answer is? */
extern bool cs_answer_says_failed(CsJson *doc);

/* Has an answer no content, that is, no body or "{}"? */
extern bool cs_answer_is_empty(const CsResponse *response, CsJson *doc);

/* Is there anything in a list of errors, or in what is in its place? */
extern bool cs_answer_has_errors(CsJson *errors);

/* Return the text of an ID, which is a string or a number, or NULL if there is none. */
extern const char *cs_answer_id(CsJson *value);

/* Set verdict, reason and message. */
extern void cs_answer_conclude(CsJudgement *judgement, CsVerdict verdict, const char *reason,
							   const char *fmt,...) cs_attribute_printf(4, 5);

/* Reject one contact; the strings are not copied, code and message may be NULL. */
extern void cs_answer_reject_contact(CsOutcome *outcome, const char *reason, const char *code,
									 const char *message);

/* Return the message of an error, wherever services usually put it, or NULL. */
extern const char *cs_answer_error_message(CsJson *doc);

/* Does a message contain a phrase?  Ignores case; the message may be NULL. */
extern bool cs_answer_mentions(const char *message, const char *phrase);

/* Compare the provider's number of contacts with the local one. */
extern void cs_answer_compare_counts(CsFinding *finding, const CsLocalCounts *local,
									 int64 provider_count);

#endif							/* CS_PROVIDER_ANSWER_H */
