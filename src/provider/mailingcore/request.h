/*-------------------------------------------------------------------------
 *
 * request.h
 *		What MailingCore is sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_MAILINGCORE_REQUEST_H
#define CS_PROVIDER_MAILINGCORE_REQUEST_H

#include "postgres.h"

#include "provider/provider.h"

#define CS_MAILINGCORE_BATCH	1000	/* CONTACTS_BULK_MAX */

/* Steps of an upsert. */
#define CS_MAILINGCORE_BULK		0
#define CS_MAILINGCORE_SINGLE	1	/* PUT, which tells what is wrong with a
									 * contact */

/* What to do with a locale that MailingCore does not list. */
typedef enum CsLocaleRule
{
	CS_LOCALE_BASE,				/* "en" for "en-GB"; else leave it out */
	CS_LOCALE_OMIT,
	CS_LOCALE_SEND,
	CS_LOCALE_REJECT
} CsLocaleRule;

/* The parsed options. */
typedef struct CsMailingCore
{
	const char *tenant_id;
	const char *project_id;
	const char *source;
	const char *consent_version;
	CsLocaleRule locale_rule;
	bool		resend;			/* on_unattributed_failure is 'resend' */
	bool		accept_unreadable;
	const char *attribute[CS_FIELD_COUNT];	/* fields that are sent as
											 * attributes, by their names */
} CsMailingCore;

extern CsRefusal *cs_mailingcore_prepare(const CsEndpoint *endpoint, CsContact *contact);
extern void cs_mailingcore_build(const CsEndpoint *endpoint, const CsBatch *batch,
								 CsRequest *request);

#endif							/* CS_PROVIDER_MAILINGCORE_REQUEST_H */
