/*-------------------------------------------------------------------------
 *
 * lookup.h
 *		What a provider can be asked, and what it said.
 *
 * contactsync_verify() and contactsync_pull() ask; like build() and judge(),
 * the functions of a provider that make requests for them and read the answers
 * are pure.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_LOOKUP_H
#define CS_PROVIDER_LOOKUP_H

#include "postgres.h"

#include "http/json.h"
#include "provider/contact.h"

/* What we take the provider to have, of one account. */
typedef struct CsLocalCounts
{
	int64		contacts;
	uint32		fields;			/* CS_FIELD_BIT()s that are mapped */
	int			nattributes;
	const char **attributes;	/* names of those that are mapped */
} CsLocalCounts;

typedef enum CsFindingResult
{
	CS_FINDING_UNAVAILABLE,		/* it cannot be told */
	CS_FINDING_OK,
	CS_FINDING_DIFFERS
} CsFindingResult;

/* What became of one check; texts NULL where there is nothing to say. */
typedef struct CsFinding
{
	const char *name;
	CsFindingResult result;
	const char *ours;
	const char *theirs;
	const char *detail;
} CsFinding;

/* A contact as the provider has it. */
typedef struct CsRemote
{
	CsContact  *contact;		/* "present" are the fields that it shows */
	const char *id;
	const char *updated_at;		/* as the provider writes times */
} CsRemote;

/* Where a pull is: contacts that changed since then, a page at a time. */
typedef struct CsPull
{
	const char *since;			/* ISO 8601 in UTC; NULL: all */
	int			page;			/* from 1 */
	const char *cursor;			/* as the page before said, or NULL */
} CsPull;

/* A page of it. */
typedef struct CsPulled
{
	CsJson	   *items;			/* an array, for read_contact(); NULL: the
								 * answer is of another form */
	int64		total;			/* contacts on all pages; -1: it does not say */
	const char *next_cursor;	/* or NULL: go by the number of the page */
	bool		last;
} CsPulled;

/* Effect: the finding compares a number of contacts with ours. */
extern void cs_lookup_count(CsFinding *finding, const CsLocalCounts *local, int64 theirs);

/* A contact of which nothing is known yet. */
extern CsContact *cs_lookup_begin_contact(void);

/* Effect: the field is what the member holds; nothing if there is none. */
extern void cs_lookup_take(CsContact *contact, CsField field, CsJson *value);

/*
 * Effect: every member of the object is an attribute, but for those that are
 * fields: names[field] is what they are called there, or NULL.
 */
extern void cs_lookup_take_attributes(CsContact *contact, CsJson *object, const char *const *names);

#endif							/* CS_PROVIDER_LOOKUP_H */
