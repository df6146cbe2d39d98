/*-------------------------------------------------------------------------
 *
 * current.c
 *		What would be sent of source rows now.
 *
 * For those who look and do not send: the export, and the spot checks of
 * contactsync_verify().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "current.h"
#include "ledger.h"
#include "provider.h"
#include "remote.h"

/* Can the data of a single row have caused this? */
static bool
is_row_fault(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_CARDINALITY_VIOLATION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case MAKE_SQLSTATE('P', '0', '0', '0', '0'):
			return true;
		default:
			return false;
	}
}

/*
 * Effect: rows are read in a subtransaction.  Returns NULL, or what is wrong
 * with one of them; all other errors go on.
 */
static char *
try_to_read(CsSource *source, int n, char **keys, CsSourceRow *rows)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile message = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		cs_source_read(source, n, keys, rows);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!is_row_fault(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		message = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return message;
}

/* Effect: reads rows[i] for keys[i], halving where that fails. */
static void
read_halving(CsSource *source, int n, char **keys, CsSourceRow *rows, CsCurrent *current)
{
	char	   *message = try_to_read(source, n, keys, rows);

	if (message == NULL)
		return;
	memset(rows, 0, n * sizeof(CsSourceRow));
	if (n == 1)
	{
		current->refusal = cs_provider_refuse(CS_REASON_MAPPING_ERROR, NULL, "%s", message);
		return;
	}
	CHECK_FOR_INTERRUPTS();
	read_halving(source, n / 2, keys, rows, current);
	read_halving(source, n - n / 2, keys + n / 2, rows + n / 2, current + n / 2);
}

void
cs_current_read(CsSource *source, const CsWatch *watch, const CsEndpoint *endpoint,
				int n, char **keys, CsCurrent *current)
{
	CsSourceRow *rows = palloc0(n * sizeof(CsSourceRow));
	CsKnown    *known = palloc(n * sizeof(CsKnown));

	memset(current, 0, n * sizeof(CsCurrent));
	read_halving(source, n, keys, rows, current);
	cs_ledger_read(watch->endpoint, watch->id, n, keys, known);
	cs_ledger_doubt(n, known, watch->doubted_at);
	cs_remote_apply(endpoint, watch->endpoint, n, rows, known);
	for (int i = 0; i < n; i++)
	{
		CsContact  *contact = rows[i].contact;

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
