/*-------------------------------------------------------------------------
 *
 * contact_state.c
 *		contactsync.contact: what the provider has of every contact.
 *
 * Nobody but the owner of the queue writes a contact whose call is under way,
 * except that a pull learns of opt-outs and that somebody is forgotten.  Where
 * another session was quicker, storing fails and is tried again later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/text.h"
#include "base/sql.h"
#include "store/contact_state.h"
#include "store/keyed_table.h"
#include "store/refused_address.h"
#include "store/row_state.h"

#define TABLE	"contact"

enum
{
	CONTACT_ENDPOINT,
	CONTACT_UPSERT_KEY,
	CONTACT_EMAIL,
	CONTACT_ACTION,
	CONTACT_DIGEST,
	CONTACT_SYNCED_AT,
	CONTACT_SPOKE_AT,
	CONTACT_CHANGED_AT,
	CONTACT_WATCH,
	CONTACT_KEY,
	CONTACT_OPT_IN,
	CONTACT_LEFT_OPT_IN,
	CONTACT_OPT_IN_AT,
	CONTACT_CLAIMED,
	CONTACT_OPTED_OUT,
	CONTACT_OPTED_OUT_AT,
	CONTACT_HELD,
	CONTACT_INHERITED,
	CONTACT_DIRECT,
	CONTACT_DIRECT_NO,
	CONTACT_YES_LEFT,
	CONTACT_REMOTE_ID,
	CONTACT_REMOTE_STATUS,
	CONTACT_REMOTE_UPDATED_AT,
	CONTACT_TOPICS,
	CONTACT_ERROR,
	CONTACT_REFUSED,
	CONTACT_TWIN,
	CONTACT_FIELDS,
	CONTACT_COLUMNS
};

/* The columns of the primary key, and of the index contact_email. */
#define PRIMARY_KEYS	2
#define EMAIL_KEYS		2

/* "tid": where it was found before, or not valid. */
static bool
find_at(CsKeyedTable *table, ItemPointer tid, int endpoint, const char *upsert_key)
{
	ScanKeyData keys[PRIMARY_KEYS];

	cs_keyed_table_int_key(keys, CONTACT_ENDPOINT, endpoint);
	cs_keyed_table_text_key(keys, CONTACT_UPSERT_KEY, upsert_key);
	return cs_keyed_table_find_at(table, tid, keys);
}

static bool
find(CsKeyedTable *table, int endpoint, const char *upsert_key)
{
	return find_at(table, NULL, endpoint, upsert_key);
}

/*
 * Reading
 */

/* Return a text that is the provider's in UTF-8, as contacts have it, or NULL. */
static char *
utf8_of(CsKeyedTable *table, int column)
{
	char	   *text = cs_keyed_table_text(table, column);

	return text ? cs_text_message_to_utf8(text) : NULL;
}

/* What was said at the address that it has, if it may be leaving it; '\0': opt_in is of that. */
static char
left_opt_in(CsKeyedTable *table)
{
	bool		isnull;
	Datum		opt_in = cs_keyed_table_get(table, CONTACT_LEFT_OPT_IN, &isnull);

	return isnull ? '\0' : DatumGetChar(opt_in);
}

static void
fill_known(CsKeyedTable *table, CsKnown *known)
{
	known->found = true;
	known->tid = table->slot->tts_tid;
	known->has_digest = cs_keyed_table_uuid(table, CONTACT_DIGEST, &known->digest);
	known->action = cs_keyed_table_char(table, CONTACT_ACTION);
	known->synced_at = cs_keyed_table_time(table, CONTACT_SYNCED_AT);
	known->spoke_at = cs_keyed_table_time(table, CONTACT_SPOKE_AT);
	if (known->spoke_at == 0)
		known->spoke_at = known->synced_at;
	known->changed_at = cs_keyed_table_time(table, CONTACT_CHANGED_AT);
	known->upsert_key = cs_keyed_table_text(table, CONTACT_UPSERT_KEY);
	known->email = cs_keyed_table_text(table, CONTACT_EMAIL);
	known->watch = cs_keyed_table_int(table, CONTACT_WATCH);
	known->key = cs_keyed_table_text(table, CONTACT_KEY);
	known->opt_in = cs_keyed_table_char(table, CONTACT_OPT_IN);
	known->left_opt_in = left_opt_in(table);
	known->opt_in_at = cs_keyed_table_time(table, CONTACT_OPT_IN_AT);
	known->claimed = cs_keyed_table_bool(table, CONTACT_CLAIMED);
	known->opted_out = cs_keyed_table_bool(table, CONTACT_OPTED_OUT);
	known->opted_out_at = cs_keyed_table_time(table, CONTACT_OPTED_OUT_AT);
	known->held = cs_keyed_table_bool(table, CONTACT_HELD);
	known->inherited = cs_keyed_table_bool(table, CONTACT_INHERITED);
	known->direct = cs_keyed_table_bool(table, CONTACT_DIRECT);
	known->direct_no = cs_keyed_table_bool(table, CONTACT_DIRECT_NO);
	known->yes_left = cs_keyed_table_xact(table, CONTACT_YES_LEFT);
	known->remote_id = utf8_of(table, CONTACT_REMOTE_ID);
	known->topics = utf8_of(table, CONTACT_TOPICS);
	known->twin = cs_keyed_table_text(table, CONTACT_TWIN);
	known->fields = cs_keyed_table_bytea(table, CONTACT_FIELDS);
}

void
cs_contact_state_read(int endpoint, int n, char **upsert_keys, CsKnown *known)
{
	CsKeyedTable table;

	memset(known, 0, n * sizeof(CsKnown));
	cs_keyed_table_open(&table, TABLE, NULL, PRIMARY_KEYS, AccessShareLock);
	for (int i = 0; i < n; i++)
		if (upsert_keys[i] && find(&table, endpoint, upsert_keys[i]))
			fill_known(&table, &known[i]);
	cs_keyed_table_close(&table);
}

void
cs_contact_state_stays(CsKnown *known)
{
	if (known->left_opt_in != '\0')
		known->opt_in = known->left_opt_in;
}

/* Take what another contact of the same person knows of consent, and all of it if that
 * was sent later. */
static void
add_consent(CsKnown *known, const CsKnown *other)
{
	CsKnown		older = *known;

	if (other->synced_at > known->synced_at)
		*known = *other;
	else
		older = *other;
	known->opt_in = cs_contact_said(older.opt_in, known->opt_in);
	known->claimed |= older.claimed;
	known->opted_out |= older.opted_out;
	known->opted_out_at = Max(known->opted_out_at, older.opted_out_at);
	known->opt_in_at = Max(known->opt_in_at, older.opt_in_at);
}

/* Add what the contact that was found, which is of the same person, knows. */
static void
add_found(CsKeyedTable *table, CsKnown *known)
{
	CsKnown		other = {0};

	fill_known(table, &other);
	cs_contact_state_stays(&other);
	if (known->found)
		add_consent(known, &other);
	else
		*known = other;
}

void
cs_contact_state_read_addresses(int endpoint, int n, char **emails, char **but, CsKnown *known)
{
	CsKeyedTable by_key;
	CsKeyedTable by_email;
	ScanKeyData keys[EMAIL_KEYS];

	memset(known, 0, n * sizeof(CsKnown));
	cs_keyed_table_open(&by_key, TABLE, NULL, PRIMARY_KEYS, AccessShareLock);
	cs_keyed_table_open(&by_email, TABLE, "contact_email", EMAIL_KEYS, AccessShareLock);
	cs_keyed_table_int_key(keys, 1, endpoint);
	for (int i = 0; i < n; i++)
	{
		const char *left_out = but ? but[i] : NULL;

		if (emails[i] == NULL)
			continue;
		if ((left_out == NULL || strcmp(emails[i], left_out) != 0) && find(&by_key, endpoint, emails[i]))
			add_found(&by_key, &known[i]);
		cs_keyed_table_text_key(keys, 0, emails[i]);
		for (bool there = cs_keyed_table_find(&by_email, keys); there; there = cs_keyed_table_next(&by_email))
			if (left_out == NULL || strcmp(cs_keyed_table_text(&by_email, CONTACT_UPSERT_KEY), left_out) != 0)
				add_found(&by_email, &known[i]);
	}
	cs_keyed_table_close(&by_email);
	cs_keyed_table_close(&by_key);
}

/*
 * Writing
 */

/* A table to be written, and the rows that do not speak for their contacts any more. */
typedef struct CsContactWriter
{
	CsKeyedWriter *writer;
	int			endpoint;
	int			nspeakers;
	CsSpeaker  *speakers;		/* as many as there are contacts to write */
} CsContactWriter;

/*
 * The row that spoke for the contact that was found has to keep what it said: another
 * row speaks now, or what the provider has is not known any more.  "without_digest": what
 * it said is not known already, but when it did is.
 */
static void
keep_speaker(CsContactWriter *to, bool without_digest)
{
	CsKeyedTable *table = &to->writer->table;
	CsSpeaker  *speaker = &to->speakers[to->nspeakers];

	speaker->has_digest = cs_keyed_table_uuid(table, CONTACT_DIGEST, &speaker->digest);
	if (!speaker->has_digest && !without_digest)
		return;
	speaker->watch = cs_keyed_table_int(table, CONTACT_WATCH);
	speaker->key = cs_keyed_table_text(table, CONTACT_KEY);
	if (speaker->watch == 0 || speaker->key == NULL)
		return;
	speaker->upsert_key = cs_keyed_table_text(table, CONTACT_UPSERT_KEY);
	speaker->sent_at = cs_keyed_table_time(table, CONTACT_SYNCED_AT);
	speaker->spoke_at = cs_keyed_table_time(table, CONTACT_SPOKE_AT);
	if (speaker->spoke_at == 0)
		speaker->spoke_at = speaker->sent_at;
	to->nspeakers++;
}

/* Does the row speak for the contact that was found? */
static bool
is_speaker(CsKeyedTable *table, int watch, const char *key)
{
	char	   *speaker;

	if (cs_keyed_table_int(table, CONTACT_WATCH) != watch || key == NULL)
		return false;
	speaker = cs_keyed_table_text(table, CONTACT_KEY);
	return speaker && strcmp(speaker, key) == 0;
}

/* Store a text of the provider; what it did not say this time stays as it was. */
static void
set_remote(CsKeyedWriter *writer, int column, const char *utf8, bool found)
{
	if (utf8)
		cs_keyed_table_set_text(writer, column, cs_text_from_utf8(utf8));
	else if (found)
		cs_keyed_table_keep(writer, column);
	else
		cs_keyed_table_set_null(writer, column);
}

/* The address, unless it is the upsert key; in the database's encoding. */
static const char *
email_if_not_key(const CsContact *contact, const char *upsert_key)
{
	const char *email = contact->value[CS_EMAIL] ? cs_text_from_utf8(contact->value[CS_EMAIL]) : NULL;

	return email && strcmp(email, upsert_key) != 0 ? email : NULL;
}

/*
 * Did the person opt out at the provider?  What a pull has learnt while the call
 * was under way is newer than what the call began with.
 */
static bool
opted_out(const CsContactStored *stored, bool before)
{
	return stored->opted_out ||
		(before && !stored->contact->opted_out && !stored->contact->leaves_opt_out);
}

/* When an answer told of the opt-out: it is no news with the status that the contact had. */
static void
set_opted_out_at(CsKeyedWriter *writer, const CsContactStored *stored, bool found, TimestampTz now)
{
	TimestampTz before = found && stored->opted_out ? cs_keyed_table_time(&writer->table, CONTACT_OPTED_OUT_AT) : 0;
	const char *status = found ? utf8_of(&writer->table, CONTACT_REMOTE_STATUS) : NULL;
	bool		same = status && stored->remote_status && strcmp(status, stored->remote_status) == 0;

	cs_keyed_table_set_time(writer, CONTACT_OPTED_OUT_AT, stored->left && !same ? now : before);
}

static void
set_opt_in_at(CsKeyedWriter *writer, TimestampTz opt_in_at, bool found)
{
	TimestampTz older = found ? cs_keyed_table_time(&writer->table, CONTACT_OPT_IN_AT) : 0;

	cs_keyed_table_set_time(writer, CONTACT_OPT_IN_AT, Max(older, opt_in_at));
}

/* Fill a row; "found": one is there that it replaces. */
static void
fill_stored(CsKeyedWriter *writer, int endpoint, const CsContactStored *stored, bool found,
			TimestampTz now)
{
	const CsContact *contact = stored->contact;
	bool		direct = stored->watch == 0 ? contact->action == CS_UPSERT :
	found && cs_keyed_table_bool(&writer->table, CONTACT_DIRECT);
	bool		direct_no = stored->watch == 0 ? contact->direct_no :
	found && cs_keyed_table_bool(&writer->table, CONTACT_DIRECT_NO);

	cs_keyed_table_set(writer, CONTACT_ENDPOINT, Int32GetDatum(endpoint));
	cs_keyed_table_set_text(writer, CONTACT_UPSERT_KEY, stored->upsert_key);
	cs_keyed_table_set_text(writer, CONTACT_EMAIL, email_if_not_key(contact, stored->upsert_key));
	cs_keyed_table_set(writer, CONTACT_ACTION, CharGetDatum(contact->action == CS_UPSERT || stored->only_consent ? 'u' : 'n'));
	if (stored->only_consent && !stored->has_others_digest)
		cs_keyed_table_set_null(writer, CONTACT_DIGEST);
	else
		cs_keyed_table_set(writer, CONTACT_DIGEST, UUIDPGetDatum(&stored->digest));
	cs_keyed_table_set_time(writer, CONTACT_SYNCED_AT, now);
	cs_keyed_table_set_time(writer, CONTACT_SPOKE_AT, stored->spoke_at);
	cs_keyed_table_set_time(writer, CONTACT_CHANGED_AT, stored->changed_at);
	cs_keyed_table_set(writer, CONTACT_WATCH, Int32GetDatum(stored->watch));
	cs_keyed_table_set_text(writer, CONTACT_KEY, stored->key);
	/* what was said last is not forgotten when the contact is unsubscribed */
	if (found && contact->action != CS_UPSERT && !stored->only_consent)
		cs_keyed_table_keep(writer, CONTACT_OPT_IN);
	else
		cs_keyed_table_set(writer, CONTACT_OPT_IN, CharGetDatum(stored->opt_in));
	set_opt_in_at(writer, contact->opt_in_at, found);
	cs_keyed_table_set(writer, CONTACT_CLAIMED, BoolGetDatum(stored->claimed));
	cs_keyed_table_set(writer, CONTACT_OPTED_OUT,
					   BoolGetDatum(opted_out(stored, found && cs_keyed_table_bool(&writer->table, CONTACT_OPTED_OUT))));
	set_opted_out_at(writer, stored, found, now);
	cs_keyed_table_set(writer, CONTACT_HELD, BoolGetDatum(stored->held));
	cs_keyed_table_set(writer, CONTACT_INHERITED, BoolGetDatum(stored->inherited));
	cs_keyed_table_set(writer, CONTACT_DIRECT, BoolGetDatum(direct));
	cs_keyed_table_set(writer, CONTACT_DIRECT_NO, BoolGetDatum(direct_no));
	/* a word that is claimed is that of all rows */
	cs_keyed_table_set_xact(writer, CONTACT_YES_LEFT,
							found && !stored->claimed ? cs_keyed_table_xact(&writer->table, CONTACT_YES_LEFT) : 0);
	set_remote(writer, CONTACT_REMOTE_ID, stored->remote_id, found);
	set_remote(writer, CONTACT_REMOTE_STATUS, stored->remote_status, found);
	set_remote(writer, CONTACT_REMOTE_UPDATED_AT, stored->remote_updated_at, found);
	cs_keyed_table_set_text(writer, CONTACT_TOPICS,
							stored->topics ? cs_text_from_utf8(stored->topics) : NULL);
	cs_keyed_table_set_text(writer, CONTACT_ERROR,
							stored->note ? cs_text_from_utf8(stored->note) : NULL);
	if (contact->keeps_address)
		cs_keyed_table_set(writer, CONTACT_REFUSED,
						   Int64GetDatum(cs_refused_address_hash(cs_text_from_utf8(contact->refused_address))));
	else
		cs_keyed_table_set_null(writer, CONTACT_REFUSED);
	cs_keyed_table_set_bytea(writer, CONTACT_FIELDS, stored->fields);
	/* to unsubscribe a contact does not tell which address it has */
	if (found && contact->action != CS_UPSERT)
	{
		cs_keyed_table_keep(writer, CONTACT_LEFT_OPT_IN);
		cs_keyed_table_keep(writer, CONTACT_TWIN);
	}
	else
	{
		cs_keyed_table_set_null(writer, CONTACT_LEFT_OPT_IN);
		cs_keyed_table_set_null(writer, CONTACT_TWIN);
	}
}

static void
store(CsContactWriter *to, int n, const void *arg)
{
	CsKeyedWriter *writer = to->writer;
	const CsContactStored *stored = arg;
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < n; i++)
	{
		ItemPointerData tid = stored[i].tid;
		bool		found = find_at(&writer->table, &tid, to->endpoint, stored[i].upsert_key);

		if (found && !is_speaker(&writer->table, stored[i].watch, stored[i].key))
			keep_speaker(to, true);
		fill_stored(writer, to->endpoint, &stored[i], found, now);
		if (found)
			cs_keyed_table_update(writer);
		else
			cs_keyed_table_insert(writer);
	}
}

/* Fill the row of a contact that nothing is known of. */
static void
fill_unknown(CsKeyedWriter *writer, int endpoint, const CsContactIntent *intent)
{
	for (int i = 0; i < CONTACT_COLUMNS; i++)
		cs_keyed_table_set_null(writer, i);
	cs_keyed_table_set(writer, CONTACT_ENDPOINT, Int32GetDatum(endpoint));
	cs_keyed_table_set_text(writer, CONTACT_UPSERT_KEY, intent->upsert_key);
	cs_keyed_table_set_text(writer, CONTACT_EMAIL, intent->email);
	cs_keyed_table_set(writer, CONTACT_ACTION, CharGetDatum('u'));
	cs_keyed_table_set(writer, CONTACT_WATCH, Int32GetDatum(intent->watch));
	cs_keyed_table_set_text(writer, CONTACT_KEY, intent->key);
	cs_keyed_table_set(writer, CONTACT_OPT_IN, CharGetDatum(intent->opt_in));
	cs_keyed_table_set(writer, CONTACT_CLAIMED, BoolGetDatum(false));
	cs_keyed_table_set(writer, CONTACT_OPTED_OUT, BoolGetDatum(false));
	cs_keyed_table_set(writer, CONTACT_HELD, BoolGetDatum(false));
	cs_keyed_table_set(writer, CONTACT_INHERITED, BoolGetDatum(false));
	cs_keyed_table_set(writer, CONTACT_DIRECT, BoolGetDatum(intent->watch == 0));
	cs_keyed_table_set(writer, CONTACT_DIRECT_NO, BoolGetDatum(intent->direct_no));
	cs_keyed_table_set_text(writer, CONTACT_TWIN, intent->moved_from);
}

/* The contact that is moved may be this one from now on. */
static void
set_twin(CsContactWriter *to, const CsContactIntent *intent)
{
	if (intent->moved_from == NULL || !find(&to->writer->table, to->endpoint, intent->moved_from))
		return;
	cs_keyed_table_keep_all(to->writer);
	cs_keyed_table_set_text(to->writer, CONTACT_TWIN, intent->upsert_key);
	cs_keyed_table_update(to->writer);
}

static void
intend(CsContactWriter *to, int n, const void *arg)
{
	CsKeyedWriter *writer = to->writer;
	const CsContactIntent *intents = arg;

	for (int i = 0; i < n; i++)
	{
		set_twin(to, &intents[i]);
		if (!find(&writer->table, to->endpoint, intents[i].upsert_key))
		{
			fill_unknown(writer, to->endpoint, &intents[i]);
			cs_keyed_table_insert(writer);
			continue;
		}
		keep_speaker(to, false);
		cs_keyed_table_keep_all(writer);
		cs_keyed_table_set_null(writer, CONTACT_DIGEST);

		/*
		 * until an answer shows it, a contact that may be deleted is not
		 * there
		 */
		if (intents[i].deletes)
			cs_keyed_table_set(writer, CONTACT_ACTION, CharGetDatum('d'));
		else if (intents[i].upserts && cs_keyed_table_char(&writer->table, CONTACT_ACTION) != 'd')
			cs_keyed_table_set(writer, CONTACT_ACTION, CharGetDatum('u'));
		if (intents[i].upserts && intents[i].watch == 0)
		{
			cs_keyed_table_set(writer, CONTACT_DIRECT, BoolGetDatum(true));
			cs_keyed_table_set(writer, CONTACT_DIRECT_NO, BoolGetDatum(intents[i].direct_no));
		}
		if (intents[i].leaves_address && (intents[i].withdraws || intents[i].claims) && left_opt_in(&writer->table) == '\0')
			cs_keyed_table_set(writer, CONTACT_LEFT_OPT_IN, CharGetDatum(cs_keyed_table_char(&writer->table, CONTACT_OPT_IN)));
		if (intents[i].withdraws)
			cs_keyed_table_set(writer, CONTACT_OPT_IN, CharGetDatum(CS_CONSENT_NO));
		if (intents[i].ends_claim)
			cs_keyed_table_set(writer, CONTACT_CLAIMED, BoolGetDatum(false));
		if (intents[i].claims)
			cs_keyed_table_set(writer, CONTACT_OPT_IN, CharGetDatum(CS_CONSENT_YES));
		if (intents[i].moved_from)
			cs_keyed_table_set_text(writer, CONTACT_TWIN, intents[i].moved_from);
		set_opt_in_at(writer, intents[i].withdrawn_at, true);
		cs_keyed_table_update(writer);
	}
}

static void
invalidate(CsContactWriter *to, int n, const void *arg)
{
	CsKeyedWriter *writer = to->writer;
	char	   *const *upsert_keys = arg;

	for (int i = 0; i < n; i++)
	{
		bool		unknown;

		if (!find(&writer->table, to->endpoint, upsert_keys[i]))
			continue;
		(void) cs_keyed_table_get(&writer->table, CONTACT_DIGEST, &unknown);
		if (unknown)
			continue;
		keep_speaker(to, false);
		cs_keyed_table_keep_all(writer);
		cs_keyed_table_set_null(writer, CONTACT_DIGEST);
		cs_keyed_table_update(writer);
	}
}

static void
note_yes_left(CsContactWriter *to, int n, const void *arg)
{
	char	   *const *upsert_keys = arg;

	for (int i = 0; i < n; i++)
	{
		if (!find(&to->writer->table, to->endpoint, upsert_keys[i]) ||
			cs_keyed_table_xact(&to->writer->table, CONTACT_YES_LEFT) != 0)
			continue;
		cs_keyed_table_keep_all(to->writer);
		cs_keyed_table_set_xact(to->writer, CONTACT_YES_LEFT, U64FromFullTransactionId(GetTopFullTransactionId()));
		cs_keyed_table_update(to->writer);
	}
}

static void
remove_contacts(CsContactWriter *to, int n, const void *arg)
{
	char	   *const *upsert_keys = arg;

	for (int i = 0; i < n; i++)
		if (find(&to->writer->table, to->endpoint, upsert_keys[i]))
			cs_keyed_table_delete(to->writer);
}

/* Write in one of the ways above. */
static void
write_rows(void (*write) (CsContactWriter *, int, const void *), int endpoint, int n,
		   const void *arg)
{
	CsKeyedWriter writer;
	CsContactWriter to = {.writer = &writer,.endpoint = endpoint};

	if (n == 0)
		return;
	to.speakers = palloc(n * sizeof(CsSpeaker));
	cs_keyed_table_begin_write(&writer, TABLE, PRIMARY_KEYS);
	write(&to, n, arg);
	cs_keyed_table_end_write(&writer);
	cs_row_state_keep_digests(to.nspeakers, to.speakers);
}

void
cs_contact_state_store(int endpoint, int n, const CsContactStored *stored)
{
	write_rows(store, endpoint, n, stored);
}

void
cs_contact_state_intend(int endpoint, int n, const CsContactIntent *intents)
{
	write_rows(intend, endpoint, n, intents);
}

void
cs_contact_state_invalidate(int endpoint, int n, char **upsert_keys)
{
	write_rows(invalidate, endpoint, n, upsert_keys);
}

void
cs_contact_state_note_yes_left(int endpoint, int n, char **upsert_keys)
{
	write_rows(note_yes_left, endpoint, n, upsert_keys);
}

void
cs_contact_state_set_speaker(int endpoint, const char *upsert_key, int watch, const char *key)
{
	CsKeyedWriter writer;

	cs_keyed_table_begin_write(&writer, TABLE, PRIMARY_KEYS);
	if (find(&writer.table, endpoint, upsert_key))
	{
		cs_keyed_table_keep_all(&writer);
		cs_keyed_table_set(&writer, CONTACT_WATCH, Int32GetDatum(watch));
		cs_keyed_table_set_text(&writer, CONTACT_KEY, key);
		cs_keyed_table_update(&writer);
	}
	cs_keyed_table_end_write(&writer);
}

void
cs_contact_state_remove(int endpoint, int n, char **upsert_keys)
{
	write_rows(remove_contacts, endpoint, n, upsert_keys);
}
