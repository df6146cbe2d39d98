/*-------------------------------------------------------------------------
 *
 * caramel.h
 *		What the two halves of the Caramel provider share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_CARAMEL_CARAMEL_H
#define CS_PROVIDER_CARAMEL_CARAMEL_H

#include "postgres.h"

#include "provider/provider.h"

/* Steps of an upsert. */
#define CS_CARAMEL_FIRST	0	/* by the tool, or by the form: see below */
#define CS_CARAMEL_FORM		1	/* by the form */

/* The service's word for a plan that is too low for the tool ... */
#define CS_CARAMEL_TIER		"tier_required"

/* ... and what the endpoint remembers of it, which begins with it: for people. */
#define CS_CARAMEL_TIER_MEMO	CS_CARAMEL_TIER ": contacts go through the form"

/* The options, parsed. */
typedef struct CsCaramel
{
	const char *business_id;
	const char *upsert_tool;
	const char *form_tool;
	const char *form_id;		/* NULL: there is no form */
	const char *form_id_argument;
	const char *form_data_argument; /* NULL: fields beside form_id */
	const char *form_field[CS_FIELD_COUNT]; /* names of our fields there */
	bool		prefer_form;	/* route is 'form' */
	bool		form_sets_consent;
	bool		resubmit;		/* option form_resubmit */
	double		form_pace;		/* calls a second */
} CsCaramel;

/* May the contact go through the form, or would that claim what is not so? */
extern bool cs_caramel_may_submit(const CsCaramel *caramel, const CsContact *contact);

/* Does the step of this contact go through the form? */
extern bool cs_caramel_submits(const CsEndpoint *endpoint, const CsBatch *batch);

/* The document of an answer, also of one that is a stream of events; or NULL. */
extern CsJson *cs_caramel_parse(const CsResponse *response);

/* What an answer refuses with, for a person; NULL if it does not. */
extern const char *cs_caramel_problem(CsJson *doc);

extern void cs_caramel_judge(const CsEndpoint *endpoint, const CsBatch *batch,
							 const CsResponse *response, CsJudgement *judgement);

#endif							/* CS_PROVIDER_CARAMEL_CARAMEL_H */
