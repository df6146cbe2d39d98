/*-------------------------------------------------------------------------
 *
 * campaignlark.h
 *		What the two halves of the CampaignLark provider share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_CAMPAIGNLARK_CAMPAIGNLARK_H
#define CS_PROVIDER_CAMPAIGNLARK_CAMPAIGNLARK_H

#include "postgres.h"

#include "provider/provider.h"

/*
 * Steps of an upsert: what is asked, and above that a bit for each field that
 * is left out because CampaignLark does not know it.
 */
#define CS_LARK_FIRST		0	/* look the contact up if need be, else write
								 * it */
#define CS_LARK_KEEP		1	/* write it, leave the status alone: it exists */
#define CS_LARK_SET			2	/* write it, with a status whatever happens */
#define CS_LARK_OLD			3	/* unsubscribe the address that it had before */

#define CS_LARK_KIND(step)		((step) & 3)
#define CS_LARK_DROPPED(step)	((uint32) (step) >> 2)
#define CS_LARK_STEP(kind, dropped)	((int) ((dropped) << 2 | (kind)))

/* A field is one of ours, by its CsField, or the nth attribute. */
#define CS_LARK_ATTRIBUTE(n)	(CS_FIELD_COUNT + (n))
#define CS_LARK_MAX_DROPPED		29

/* The options, parsed. */
typedef struct CsCampaignLark
{
	bool		partial_update;
	const char *new_status;		/* of new contacts without a status of their
								 * own; NULL: option new_contacts is not given */
	bool		keep_opt_outs;
	bool		drop_unknown_fields;
	bool		unsubscribe_old;	/* on_email_change is 'unsubscribe' */
	const char *tag[CS_FIELD_COUNT];	/* merge tags of our own fields */
} CsCampaignLark;

/* Has the contact to be looked up before it can be written? */
extern bool cs_campaignlark_looks_up(const CsCampaignLark *lark, const CsContact *contact);

/* The status that the step sends, or NULL. */
extern const char *cs_campaignlark_status(const CsCampaignLark *lark, const CsContact *contact,
										  int step);

extern void cs_campaignlark_judge(const CsEndpoint *endpoint, const CsBatch *batch,
								  const CsResponse *response, CsJudgement *judgement);

/* campaignlark_look.c */
extern bool cs_campaignlark_build_check(const CsEndpoint *endpoint, int n, CsRequest *request);
extern void cs_campaignlark_judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
										const CsResponse *response, CsJson *doc,
										CsFinding *finding);
extern bool cs_campaignlark_build_lookup(const CsEndpoint *endpoint, const CsContact *contact,
										 CsRequest *request);
extern bool cs_campaignlark_read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemote *remote);

#endif							/* CS_PROVIDER_CAMPAIGNLARK_CAMPAIGNLARK_H */
