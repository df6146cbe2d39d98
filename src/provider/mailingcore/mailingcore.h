/*-------------------------------------------------------------------------
 *
 * mailingcore.h
 *		What the two halves of the MailingCore provider share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_MAILINGCORE_MAILINGCORE_H
#define CS_PROVIDER_MAILINGCORE_MAILINGCORE_H

#include "postgres.h"

#include "provider/provider.h"

#define CS_MAILINGCORE_BATCH	1000	/* CONTACTS_BULK_MAX */

/* Steps of an upsert. */
#define CS_MAILINGCORE_BULK		0
#define CS_MAILINGCORE_SINGLE	1	/* PUT, to hear what is wrong with a
									 * contact */

/* What to do with a locale that MailingCore does not list. */
typedef enum CsLocaleRule
{
	CS_LOCALE_BASE,				/* "en" for "en-GB"; else leave it out */
	CS_LOCALE_OMIT,
	CS_LOCALE_SEND,
	CS_LOCALE_REJECT
} CsLocaleRule;

/* The options, parsed. */
typedef struct CsMailingCore
{
	const char *tenant_id;
	const char *project_id;
	const char *source;
	const char *consent_version;
	CsLocaleRule locale_rule;
	bool		repeat_opt_in;
	bool		resend;			/* on_unattributed_failure is 'resend' */
	bool		accept_unreadable;
	const char *attribute[CS_FIELD_COUNT];	/* fields that travel among the
											 * attributes, by their name there */
} CsMailingCore;

extern void cs_mailingcore_judge(const CsEndpoint *endpoint, const CsBatch *batch,
								 const CsResponse *response, CsJudgement *judgement);

/* mailingcore_look.c */
extern bool cs_mailingcore_build_check(const CsEndpoint *endpoint, int n, CsRequest *request);
extern void cs_mailingcore_judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
									   const CsResponse *response, CsJson *doc, CsFinding *finding);
extern bool cs_mailingcore_build_lookup(const CsEndpoint *endpoint, const CsContact *contact,
										CsRequest *request);
extern bool cs_mailingcore_read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemote *remote);

extern void cs_mailingcore_build_pull(const CsEndpoint *endpoint, const CsPull *pull,
									  CsRequest *request);
extern void cs_mailingcore_judge_pull(const CsEndpoint *endpoint, const CsPull *pull, CsJson *doc,
									  CsPulled *pulled);
extern const char *const cs_mailingcore_pull_modes[];

#endif							/* CS_PROVIDER_MAILINGCORE_MAILINGCORE_H */
