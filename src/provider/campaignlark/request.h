/*-------------------------------------------------------------------------
 *
 * request.h
 *		What CampaignLark is sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_CAMPAIGNLARK_REQUEST_H
#define CS_PROVIDER_CAMPAIGNLARK_REQUEST_H

#include "postgres.h"

#include "provider/provider.h"

/*
 * A step of an upsert is a kind of request, and above that a bit for each field
 * that is left out because CampaignLark does not know it.
 */
#define CS_LARK_FIRST		0	/* look the contact up if necessary, else
								 * write it */
#define CS_LARK_KEEP		1	/* write the contact, which exists; leave its
								 * status alone */
#define CS_LARK_SET			2	/* write the contact, always with a status */

#define CS_LARK_KIND(step)		((step) & 3)
#define CS_LARK_DROPPED(step)	((uint32) (step) >> 2)
#define CS_LARK_STEP(kind, dropped)	((int) ((dropped) << 2 | (kind)))

/* Fields are numbered by CsField; the attributes follow. */
#define CS_LARK_ATTRIBUTE(n)	(CS_FIELD_COUNT + (n))
#define CS_LARK_MAX_DROPPED		29

/* The parsed options. */
typedef struct CsCampaignLark
{
	bool		partial_update;
	const char *new_status;		/* of new contacts that come without a status;
								 * NULL: option new_contacts is not set */
	bool		drop_unknown_fields;
	bool		unsubscribe_old;	/* on_email_change is 'unsubscribe' */
	const char *tag[CS_FIELD_COUNT];	/* merge tags of our fields */
} CsCampaignLark;

extern CsRefusal *cs_campaignlark_prepare(const CsEndpoint *endpoint, CsContact *contact);
extern void cs_campaignlark_build(const CsEndpoint *endpoint, const CsBatch *batch,
								  CsRequest *request);

/* Does the status allow mail, now or after a confirmation? */
extern bool cs_campaignlark_allows_mail(const char *status);

/* Must the contact be looked up before it can be written? */
extern bool cs_campaignlark_looks_up(const CsCampaignLark *lark, const CsContact *contact);

/* Return the status that a step sends, or NULL. */
extern const char *cs_campaignlark_status(const CsCampaignLark *lark, const CsContact *contact,
										  int step);

#endif							/* CS_PROVIDER_CAMPAIGNLARK_REQUEST_H */
