/*-------------------------------------------------------------------------
 *
 * lookup.c
 *		Help for providers with reading what they have of us.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/lookup.h"

void
cs_lookup_count(CsFinding *finding, const CsLocalCounts *local, int64 theirs)
{
	finding->ours = psprintf(INT64_FORMAT, local->contacts);
	finding->theirs = psprintf(INT64_FORMAT, theirs);
	finding->result = local->contacts == theirs ? CS_FINDING_OK : CS_FINDING_DIFFERS;
	if (theirs > local->contacts)
		finding->detail = "the account has contacts that did not come from here";
	else if (theirs < local->contacts)
		finding->detail = "contacts that were sent are not there any more, or are counted later";
}

CsContact *
cs_lookup_begin_contact(void)
{
	return palloc0(sizeof(CsContact));
}

void
cs_lookup_take(CsContact *contact, CsField field, CsJson *value)
{
	const char *text = cs_json_text(value);

	if (text)
		cs_contact_set(contact, field, text);
}

typedef struct CsTaking
{
	CsContact  *contact;
	const char *const *names;
} CsTaking;

static bool
take_member(const char *name, CsJson *value, void *arg)
{
	CsTaking   *taking = arg;
	char	   *json = cs_json_dump(value);

	for (int i = 0; i < CS_FIELD_COUNT; i++)
		if (taking->names[i] && strcmp(taking->names[i], name) == 0)
			cs_lookup_take(taking->contact, i, value);
	/* an attribute of that name may have been mapped all the same */
	cs_contact_add_attribute(taking->contact, name, json ? json : "null");
	return true;
}

void
cs_lookup_take_attributes(CsContact *contact, CsJson *object, const char *const *names)
{
	CsTaking	taking = {contact, names};

	cs_json_each(object, take_member, &taking);
}
