/*-------------------------------------------------------------------------
 *
 * current.c
 *		What would be sent of source rows now.
 *
 * For those who look and do not send: the export, the spot checks of
 * contactsync_verify(), and whoever compares.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/try.h"
#include "delivery/current.h"
#include "provider/provider.h"
#include "store/remote_contact.h"

/* What read_part() reads. */
typedef struct CsRowContactPart
{
	CsSource   *source;
	int			n;
	char	  **keys;
	CsSourceRow *rows;
} CsRowContactPart;

static void
read_part(void *arg)
{
	CsRowContactPart *part = arg;

	cs_source_read(part->source, part->n, part->keys, part->rows);
}

/*
 * Effect: rows are read in a subtransaction.  What usually means that the watch
 * is broken is a row's fault if no rows can be read, as that of 'x'::regclass.
 */
static CsFault
try_to_read(CsSource *source, int n, char **keys, CsSourceRow *rows, ErrorData **error)
{
	CsRowContactPart part = {source, n, keys, rows};
	CsFault		fault = cs_fault_try(read_part, &part, error);
	ErrorData  *other;

	if (fault != CS_FAULT_BROKEN)
		return fault;
	part.n = 0;
	return cs_fault_try(read_part, &part, &other) == CS_FAULT_NONE ? CS_FAULT_ROW : fault;
}

/* Effect: reads rows[i] for keys[i], halving where that fails. */
static void
read_halving(CsSource *source, int n, char **keys, CsSourceRow *rows, CsRowContact *current)
{
	ErrorData  *error;
	CsFault		fault = try_to_read(source, n, keys, rows, &error);

	if (fault == CS_FAULT_NONE)
		return;
	memset(rows, 0, n * sizeof(CsSourceRow));
	if (n == 1 && (fault == CS_FAULT_ROW || fault == CS_FAULT_TIMEOUT))
	{
		current->refusal = cs_provider_refuse(CS_REASON_MAPPING_ERROR, NULL, "%s", error->message);
		return;
	}
	if (fault != CS_FAULT_ROW)
		ReThrowError(error);
	CHECK_FOR_INTERRUPTS();
	read_halving(source, n / 2, keys, rows, current);
	read_halving(source, n - n / 2, keys + n / 2, rows + n / 2, current + n / 2);
}

void
cs_row_contact_read(CsSource *source, const CsWatch *watch, const CsEndpoint *endpoint,
					int n, char **keys, CsRowContact *current)
{
	CsSourceRow *rows = palloc0(n * sizeof(CsSourceRow));
	CsKnown    *known = palloc(n * sizeof(CsKnown));

	memset(current, 0, n * sizeof(CsRowContact));
	read_halving(source, n, keys, rows, current);
	cs_contact_state_read(watch->endpoint, watch->id, n, keys, known);
	cs_contact_state_expire(n, known, watch->stale_before);
	cs_remote_contact_apply(endpoint, watch->endpoint, n, rows, known);
	for (int i = 0; i < n; i++)
	{
		CsContact  *contact = rows[i].contact;

		current[i].known = known[i];
		if (contact == NULL)
			continue;
		contact->remote_id = known[i].remote_id;
		contact->topics = known[i].topics;
		contact->opted_out = known[i].opted_out;
		contact->consent_sent = known[i].consent_sent && known[i].has_digest;
		current[i].refusal = cs_provider_prepare(endpoint, contact);
		if (current[i].refusal == NULL)
			current[i].contact = contact;
	}
	pfree(rows);
}
