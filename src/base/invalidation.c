/*-------------------------------------------------------------------------
 *
 * invalidation.c
 *		Noticing that definitions have changed.
 *
 * Whoever delivers, the worker or not, keeps definitions in memory.  That one of
 * them has changed is sent as an invalidation message, as the server does for its
 * own catalogs: with the commit that changes it, also with that of a prepared
 * transaction, and with a rollback not at all.  Looking for messages costs
 * nothing.
 *
 * A message is about a relation, which does not change: it only stands for what
 * is defined.  The sequence stands for what is in several tables, and unlike a
 * table it is never vacuumed or analyzed, which sends messages too.
 *
 * The message wakes nobody.  The sender wakes the worker after it, see shmem.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/contactsync.h"
#include "base/invalidation.h"
#include "base/wakeup.h"

/* By CsDefinition: the relation that stands for it; NULL: the server's caches do. */
static const char *const relations[] = {
	[CS_DEFINITIONS] = "watch_id_seq",
	[CS_DEFINITION_SERVERS] = NULL,
	[CS_DEFINITION_PAUSES] = "pause",
	[CS_DEFINITION_TRACED] = "traced",
};

static Oid	relids[lengthof(relations)];
static bool changed[lengthof(relations)];
static bool held = false;

static void
note_relation(Datum arg, Oid relid)
{
	for (int i = 0; i < lengthof(relations); i++)
		if (relations[i] && (relid == relids[i] || !OidIsValid(relid)))
			changed[i] = true;
}

static void
note_server(Datum arg, int cacheid, uint32 hashvalue)
{
	changed[CS_DEFINITION_SERVERS] = true;
}

/* Roles share what is remembered of consent if one is a member of the other. */
static void
note_membership(Datum arg, int cacheid, uint32 hashvalue)
{
	changed[CS_DEFINITIONS] = true;
}

/* InvalidOid if the extension is not there. */
static Oid
relid_of(CsDefinition definition)
{
	Oid			schema = get_namespace_oid(CS_SCHEMA, true);

	return OidIsValid(schema) ? get_relname_relid(relations[definition], schema) : InvalidOid;
}

/*
 * Note changes from here on.  Call it before anything is read, in a transaction;
 * changes so far are forgotten.
 */
void
cs_invalidation_begin(void)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(note_relation, (Datum) 0);
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_server, (Datum) 0);
		CacheRegisterSyscacheCallback(USERMAPPINGOID, note_server, (Datum) 0);
		/* what a server may do depends on whether its owner is a superuser */
		CacheRegisterSyscacheCallback(AUTHOID, note_server, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, note_membership, (Datum) 0);
		registered = true;
	}
	for (int i = 0; i < lengthof(relations); i++)
	{
		if (relations[i])
			relids[i] = relid_of(i);
		changed[i] = false;
	}
}

/* Return whether cs_invalidation_take() would return true. */
bool
cs_invalidation_pending(CsDefinition definition)
{
	AcceptInvalidationMessages();
	return changed[definition];
}

/*
 * Return whether the definition has changed since the last call.  Needs no
 * transaction; in one that began earlier it also sees what was committed since.
 */
bool
cs_invalidation_take(CsDefinition definition)
{
	bool		result;

	AcceptInvalidationMessages();
	result = changed[definition];
	changed[definition] = false;
	return result;
}

/*
 * Have whoever delivers learn, when this transaction commits, that we changed the
 * definition, and wake the worker for it.
 */
void
cs_invalidation_send(CsDefinition definition)
{
	Oid			relid;

	if (held)
		return;
	relid = relid_of(definition);
	/* the drop of the relation, as with the extension, is such a message too */
	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
	cs_wakeup_interrupt_at_commit();
}

/* Send nothing for now: this process makes the change, and need not learn of it. */
void
cs_invalidation_hold(bool hold)
{
	held = hold;
}
