/*-------------------------------------------------------------------------
 *
 * request.h
 *		What Caramel is sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_CARAMEL_REQUEST_H
#define CS_PROVIDER_CARAMEL_REQUEST_H

#include "postgres.h"

#include "provider/provider.h"

/* Steps of an upsert. */
#define CS_CARAMEL_FIRST	0	/* by the tool or the form, as the contact
								 * needs */
#define CS_CARAMEL_FORM		1	/* by the form */

/* Caramel's code for a plan that does not allow upserts. */
#define CS_CARAMEL_TIER		"tier_required"

/* What is remembered after that code, and shown to people; begins with it. */
#define CS_CARAMEL_TIER_LIMITATION	CS_CARAMEL_TIER ": contacts go through the form"

/* The parsed options. */
typedef struct CsCaramel
{
	const char *business_id;
	const char *upsert_tool;
	const char *form_tool;
	const char *form_id;		/* NULL: there is no form */
	const char *form_id_argument;
	const char *form_data_argument; /* NULL: fields beside form_id */
	const char *form_field[CS_FIELD_COUNT]; /* the form's names of our fields */
	bool		prefer_form;	/* route is 'form' */
	bool		form_sets_consent;
	double		form_pace;		/* calls per second */
} CsCaramel;

extern CsRefusal *cs_caramel_prepare(const CsEndpoint *endpoint, CsContact *contact);
extern void cs_caramel_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request);

/* May the contact be submitted through the form, or would that claim consent
 * that was not given? */
extern bool cs_caramel_may_submit(const CsCaramel *caramel, const CsContact *contact);

/* Does the server use the form for the contacts that may be submitted? */
extern bool cs_caramel_prefers_form(const CsCaramel *caramel, const char *limitation);

/* Does this step submit the contact through the form? */
extern bool cs_caramel_submits(const CsEndpoint *endpoint, const CsBatch *batch);

#endif							/* CS_PROVIDER_CARAMEL_REQUEST_H */
