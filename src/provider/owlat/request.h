/*-------------------------------------------------------------------------
 *
 * request.h
 *		What Owlat is sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_OWLAT_REQUEST_H
#define CS_PROVIDER_OWLAT_REQUEST_H

#include "postgres.h"

#include "provider/provider.h"

/* Steps of an upsert. */
enum
{
	CS_OWLAT_STEP_FIRST,		/* CREATE, or UPDATE if the contact is known
								 * to exist, or LOOKUP if it may */
	CS_OWLAT_STEP_CREATE,		/* followed by UPDATE on a conflict */
	CS_OWLAT_STEP_UPDATE,		/* followed by RECREATE if the contact is gone */
	CS_OWLAT_STEP_RECREATE,		/* a conflict fails the contact */
	CS_OWLAT_STEP_TOPIC,
	CS_OWLAT_STEP_LOOKUP		/* did an earlier call create the contact? */
};

/* What a call does. */
typedef enum CsOwlatCall
{
	CS_OWLAT_CALL_CREATE,
	CS_OWLAT_CALL_UPDATE,
	CS_OWLAT_CALL_MOVE,			/* update the contact of the previous address */
	CS_OWLAT_CALL_JOIN,			/* add the contact to the topic */
	CS_OWLAT_CALL_LEAVE,		/* remove it from the topic */
	CS_OWLAT_CALL_LOOKUP,
	CS_OWLAT_CALL_DELETE
} CsOwlatCall;

/* The parsed options. */
typedef struct CsOwlat
{
	const char *contacts_path;
	const char *topic_path;		/* with {topic} */
	const char *topic_id;
	bool		delete_opt_outs;	/* on_opt_out is 'delete' */
	bool		follow_email;
} CsOwlat;

extern CsRefusal *cs_owlat_prepare(const CsEndpoint *endpoint, CsContact *contact);
extern void cs_owlat_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request);

/* Return what the call of a step does. */
extern CsOwlatCall cs_owlat_call(const CsEndpoint *endpoint, const CsBatch *batch);

/* Is the contact of previous_key to become this one? */
extern bool cs_owlat_moves(const CsEndpoint *endpoint, const CsContact *contact);

/*
 * Return the call that the topic needs, JOIN or LEAVE, or -1.  "is_new": Owlat did
 * not have the contact before.
 */
extern int	cs_owlat_topic_call(const CsOwlat *owlat, const CsContact *contact, bool is_new);

/* Is the topic of the option among those that the contact was added to? */
extern bool cs_owlat_has_joined(const CsOwlat *owlat, const CsContact *contact);

/* May the contact be created, if it turns out to be gone? */
extern bool cs_owlat_may_create(const CsContact *contact);

/* Does the contact have anything to update? */
extern bool cs_owlat_has_data(const CsContact *contact, bool nulls);

/*
 * Return the topics that the contact was added to, separated by spaces, or NULL,
 * after it has joined the topic of the option, or has left it.
 */
extern const char *cs_owlat_topics_with(const CsOwlat *owlat, const CsContact *contact);
extern const char *cs_owlat_topics_without(const CsOwlat *owlat, const CsContact *contact);

/* Return the URL of a contact, by its address or ID. */
extern char *cs_owlat_contact_url(const CsEndpoint *endpoint, const CsOwlat *owlat,
								  const char *reference);

#endif							/* CS_PROVIDER_OWLAT_REQUEST_H */
