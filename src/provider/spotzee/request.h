/*-------------------------------------------------------------------------
 *
 * request.h
 *		What Spotzee is sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_SPOTZEE_REQUEST_H
#define CS_PROVIDER_SPOTZEE_REQUEST_H

#include "postgres.h"

#include "provider/provider.h"

#define CS_SPOTZEE_BATCH	100

/* The word that the endpoint remembers, which people read in the status. */
#define CS_SPOTZEE_USERS	"users: the API has /users, not /contacts"

/* Steps of an upsert. */
enum
{
	CS_SPOTZEE_STEP_FIRST,		/* upsert; or look up a contact that is not to
								 * be created, or record its opt-out */
	CS_SPOTZEE_STEP_SUBSCRIPTION,	/* record what became of consent */
	CS_SPOTZEE_STEP_OTHER_LOOKUP,	/* look it up by the path of the other API */
	CS_SPOTZEE_STEP_UPDATE,		/* upsert what exists */
	CS_SPOTZEE_STEP_DELETE		/* ... or delete it, since it has opted out */
};

/* What a call does. */
typedef enum CsSpotzeeCall
{
	CS_SPOTZEE_CALL_UPSERT,
	CS_SPOTZEE_CALL_SUBSCRIPTION,
	CS_SPOTZEE_CALL_LOOKUP,
	CS_SPOTZEE_CALL_DELETE
} CsSpotzeeCall;

/* The parsed options. */
typedef struct CsSpotzee
{
	bool		users;			/* option api is 'users' */
	bool		auto_api;		/* ... or 'auto' */
	const char *subscription_id;	/* NULL: opt-outs are not recorded */
	bool		delete_opt_outs;	/* on_opt_out is 'delete' */
	const char *version;		/* NULL: no such header */
	bool		email_as_id;
	bool		accept_unreadable;
} CsSpotzee;

extern CsRefusal *cs_spotzee_prepare(const CsEndpoint *endpoint, CsContact *contact);
extern void cs_spotzee_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request);

/* Is the API of the generation that has users? */
extern bool cs_spotzee_has_users(const CsSpotzee *spotzee, const char *limitation);

/* Return the path of contacts in that API. */
extern const char *cs_spotzee_path(const CsSpotzee *spotzee, const char *limitation);

/* Return what is to be remembered if the API turns out to be of the other generation. */
extern const char *cs_spotzee_other(const CsSpotzee *spotzee, const char *limitation);

extern CsSpotzeeCall cs_spotzee_call(const CsBatch *batch);

/*
 * Return the state of the subscription that is to be recorded, or -1.  A new
 * contact is subscribed by itself.
 */
extern int	cs_spotzee_subscription_state(const CsSpotzee *spotzee, const CsContact *contact);

/* Return the URL of a contact. */
extern char *cs_spotzee_contact_url(const CsEndpoint *endpoint, const char *limitation,
									const CsContact *contact);

/* Add the headers that every call has. */
extern void cs_spotzee_add_headers(const CsSpotzee *spotzee, CsRequest *request);

#endif							/* CS_PROVIDER_SPOTZEE_REQUEST_H */
