/*-------------------------------------------------------------------------
 *
 * forget.c
 *		Showing and erasing everything that is stored of a person.
 *
 * A person is identified by the address that was sent, and by the source rows that
 * stand for such a contact.  What such a row contains now is not considered: it
 * belongs to the application.
 *
 * What is remembered of the person's consent stays, as a keyed hash that says that it
 * is closed, so that nobody who left is subscribed again by a row that is still there.
 *
 * A row that is still there stands for its contact, although nothing is known of it until
 * it is read again.  So it is noted in contactsync.remaining_row, with a hash of that.
 *
 * When a person is forgotten, a call in flight may have its outcome afterwards.  So
 * what was forgotten is noted, and definitions are reloaded: whoever delivers stores
 * nothing of it any more, and what was stored until then is forgotten again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/invalidation.h"
#include "base/sql.h"
#include "store/consent.h"
#include "store/forget.h"
#include "store/progress.h"
#include "store/remaining_row.h"

const char *const cs_forget_kinds[CS_FORGET_KINDS] = {
	[CS_FORGET_CONTACT] = "contact",
	[CS_FORGET_FAILURE] = "failure",
	[CS_FORGET_CHANGE] = "change",
	[CS_FORGET_REMOTE_CONTACT] = "remote_contact",
	[CS_FORGET_TRACE] = "trace",
	[CS_FORGET_OUTCOME] = "outcome",
	[CS_FORGET_CALL] = "call"
};

/* The hash of an address in a table.  Where that is empty there may be no key yet, and who
 * looks need not make one. */
#define HASH_IN(table, address) \
	"CASE WHEN EXISTS (SELECT FROM contactsync." table ") THEN contactsync.consent_hash(" address ") END"
#define LOGGED_HASH(address)	HASH_IN("outcome", address)

/* The contacts of a role's endpoints that are, or have the address, $1, or may be the
 * same as one that is. */
#define CONTACTS_OF_PERSON \
	"SELECT c.endpoint, c.upsert_key FROM contactsync.endpoint e CROSS JOIN LATERAL (SELECT c.endpoint, c.upsert_key" \
	" FROM contactsync.contact c WHERE c.endpoint = e.id AND c.upsert_key = $1 OFFSET 0) c WHERE pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT c.endpoint, c.upsert_key FROM contactsync.endpoint e JOIN contactsync.contact c" \
	" ON c.endpoint = e.id AND c.email = $1 WHERE pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT c.endpoint, c.upsert_key FROM contactsync.contact c JOIN contactsync.contact t" \
	" ON t.endpoint = c.endpoint AND t.upsert_key = $1 AND t.twin = c.upsert_key" \
	" JOIN contactsync.endpoint e ON e.id = c.endpoint WHERE c.twin = $1 AND pg_has_role($2, e.role, 'USAGE')"

/* The rows that stand for them, failed as one of them or as $1, also because another
 * contact has that address, are traced, or were forgotten before. */
#define ROWS_OF_PERSON \
	"SELECT s.endpoint, s.watch, s.key FROM (" CONTACTS_OF_PERSON ") c JOIN contactsync.source_row s USING (endpoint, upsert_key)" \
	" UNION SELECT f.endpoint, f.watch, f.key FROM (" CONTACTS_OF_PERSON ") c JOIN contactsync.failure f USING (endpoint, upsert_key)" \
	" UNION SELECT s.endpoint, s.watch, s.key FROM contactsync.source_row s JOIN contactsync.endpoint e ON e.id = s.endpoint" \
	" WHERE s.upsert_key = $1 AND pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT f.endpoint, f.watch, f.key FROM contactsync.failure f JOIN contactsync.endpoint e ON e.id = f.endpoint" \
	" WHERE f.upsert_key = $1 AND pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT f.endpoint, f.watch, f.key FROM contactsync.failure f JOIN contactsync.endpoint e ON e.id = f.endpoint" \
	" WHERE lower(btrim(f.contact ->> 'email')) = $1 AND pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT f.endpoint, f.watch, f.key FROM contactsync.failure f JOIN contactsync.endpoint e ON e.id = f.endpoint" \
	" WHERE f.conflict = hashtextextended($1, 0) AND pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT t.endpoint, t.watch, t.key FROM contactsync.trace t JOIN contactsync.endpoint e ON e.id = t.endpoint" \
	" WHERE (t.upsert_key = $1 OR t.email = $1) AND pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT r.endpoint, r.watch, r.key FROM contactsync.remaining_row r JOIN (" CONTACTS_OF_PERSON ") c" \
	" ON c.endpoint = r.endpoint AND r.contact = " HASH_IN("remaining_row", "c.upsert_key") \
	" UNION SELECT r.endpoint, r.watch, r.key FROM (SELECT " HASH_IN("remaining_row", "$1") " AS hash OFFSET 0) h" \
	" JOIN contactsync.remaining_row r ON h.hash IN (r.contact, r.address)" \
	" JOIN contactsync.endpoint e ON e.id = r.endpoint WHERE pg_has_role($2, e.role, 'USAGE')"

/* What was logged of the address, or of the contacts. */
#define LOGGED_OF_PERSON \
	"SELECT o.id, o.endpoint, o.watch, o.key FROM contactsync.outcome o JOIN (" \
	"SELECT e AS endpoint, " LOGGED_HASH("$5") " AS person FROM unnest($4) AS e WHERE $5 <> ''" \
	" UNION SELECT k.endpoint, " LOGGED_HASH("k.upsert_key") " FROM " CONTACTS \
	" UNION SELECT c.endpoint, " LOGGED_HASH("c.email") " FROM " CONTACTS " JOIN contactsync.contact c ON " OF_CONTACT("c") \
	" WHERE c.email IS NOT NULL) h ON o.person = h.person AND o.endpoint = h.endpoint"

static uint64
run(CsStatement *statement, const Datum *args)
{
	return cs_sql_execute(statement, unconstify(Datum *, args), NULL);
}

/* Arguments of the statements of forget(). */
enum
{
	ARG_ROW_ENDPOINTS,			/* int4[], int4[] and text[]: the rows */
	ARG_WATCHES,
	ARG_KEYS,
	ARG_ENDPOINTS,				/* int4[]: where to forget the address */
	ARG_ADDRESS,				/* text: the address, or '' */
	ARG_CONTACT_ENDPOINTS,		/* int4[] and text[]: the contacts */
	ARG_UPSERT_KEYS,
	ARG_FATES,					/* text[]: what has become of the rows */
	ARG_SNAPSHOT,				/* text: of before that was found out */
	ARG_SUPPRESSION,			/* bool: hashes may be kept */
	NARGS
};

#define TYPES NARGS, {INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTOID, INT4ARRAYOID, TEXTARRAYOID, \
	TEXTARRAYOID, TEXTOID, BOOLOID}
#define ROWS "unnest($1, $2, $3, $8) AS p (endpoint, watch, key, fate)"
#define OF_ROW(t) t ".endpoint = p.endpoint AND " t ".watch = p.watch AND " t ".key = p.key"
#define CONTACTS "unnest($6, $7) AS k (endpoint, upsert_key)"
#define OF_CONTACT(t) t ".endpoint = k.endpoint AND " t ".upsert_key = k.upsert_key"
#define IS_ERASED(t) \
	"EXISTS (SELECT FROM contactsync.departure x WHERE x.endpoint = " t ".endpoint AND x.upsert_key = " t ".upsert_key AND x.erase)"

/*
 * Forget contacts.  One that a row has left, and nobody stands for, is still removed
 * at the provider, as soon as possible, whatever becomes of the watch; it is erased
 * here when that is done.  That a row has gone may not have been noticed yet.
 */
static int64
forget_contacts(const Datum *args)
{
	static CsStatement depart = {
		"WITH gone AS (DELETE FROM contactsync.source_row s USING " ROWS " WHERE " OF_ROW("s") " AND p.fate = 'gone'"
		" RETURNING s.endpoint, s.upsert_key, s.watch, s.key)"
		" INSERT INTO contactsync.departure (endpoint, upsert_key, watch, key, departed_at)"
		" SELECT DISTINCT ON (k.endpoint, k.upsert_key) k.endpoint, k.upsert_key, g.watch, g.key, clock_timestamp()"
		" FROM gone g JOIN contactsync.contact k USING (endpoint, upsert_key)"
		" JOIN contactsync.watch w ON w.id = g.watch AND w.on_delete <> 'ignore' ON CONFLICT DO NOTHING",
		TYPES
	};
	static CsStatement erase = {
		"UPDATE contactsync.departure d SET erase = true, failed = false, action = COALESCE(d.action, (SELECT"
		" CASE w.on_delete WHEN 'delete' THEN 'd' ELSE 'n' END::\"char\" FROM contactsync.watch w WHERE w.id = d.watch))"
		" FROM " CONTACTS " WHERE " OF_CONTACT("d") " AND (NOT d.erase OR d.failed)"
		" AND (d.action IS NOT NULL OR EXISTS (SELECT FROM contactsync.watch w WHERE w.id = d.watch AND w.on_delete <> 'ignore'))"
		" AND NOT EXISTS (SELECT FROM contactsync.source_row s WHERE s.endpoint = d.endpoint AND s.upsert_key = d.upsert_key)"
		" AND NOT " CS_SQL_REMAINS("d", "true"),
		TYPES
	};
	static CsStatement departure = {
		"DELETE FROM contactsync.departure d USING (SELECT e, $5 FROM unnest($4) AS e UNION SELECT k.* FROM " CONTACTS ")"
		" AS k (endpoint, upsert_key) WHERE " OF_CONTACT("d") " AND NOT d.erase",
		TYPES
	};

	/* consent of what is left is remembered, or is not to be */
	static CsStatement leave = {
		"UPDATE contactsync.contact c SET claimed = false, opted_out = false, opted_out_at = NULL, held = false, inherited = false, direct = false, direct_no = false, yes_left = NULL, left_opt_in = NULL, changed_at = NULL, opt_in_at = NULL, refused = NULL, twin = NULL, fields = NULL"
		" FROM " CONTACTS " WHERE " OF_CONTACT("c") " AND " IS_ERASED("c"),
		TYPES
	};
	static CsStatement contact = {
		"DELETE FROM contactsync.contact c USING " CONTACTS " WHERE " OF_CONTACT("c") " AND NOT " IS_ERASED("c"), TYPES
	};
	static CsStatement row = {
		"DELETE FROM contactsync.source_row s USING " CONTACTS " WHERE " OF_CONTACT("s"), TYPES
	};
	static CsStatement refused = {
		"UPDATE contactsync.contact c SET refused = NULL WHERE c.endpoint = ANY ($4) AND c.refused = hashtextextended($5, 0)", TYPES
	};
	static CsStatement twin = {
		"UPDATE contactsync.contact c SET twin = NULL WHERE c.endpoint = ANY ($4) AND c.twin = $5", TYPES
	};
	static CsStatement withheld = {
		"DELETE FROM contactsync.source_row s WHERE s.upsert_key = $5 AND s.endpoint = ANY ($4)", TYPES
	};

	int64		n;

	(void) run(&depart, args);
	(void) run(&erase, args);
	(void) run(&departure, args);
	n = run(&leave, args);
	(void) run(&row, args);
	(void) run(&withheld, args);
	(void) run(&refused, args);
	(void) run(&twin, args);
	return n + run(&contact, args);
}

/*
 * Note the rows that are still there, unless no hash is to be kept.  What was noted before
 * of a row that has gone is of no use.
 */
static void
note_remaining(const Datum *args)
{
	static CsStatement remove = {
		"DELETE FROM contactsync.remaining_row r USING " ROWS " WHERE " OF_ROW("r") " AND (p.fate = 'gone' OR NOT $10)", TYPES
	};
	static CsStatement store = {
		"INSERT INTO contactsync.remaining_row (endpoint, watch, key, contact, address)"
		" SELECT p.endpoint, p.watch, p.key, contactsync.consent_hash(m.upsert_key), contactsync.consent_hash(c.email)"
		" FROM " ROWS " CROSS JOIN LATERAL (SELECT s.upsert_key FROM contactsync.source_row s WHERE " OF_ROW("s")
		" UNION SELECT f.upsert_key FROM contactsync.failure f WHERE " OF_ROW("f") ") m"
		" LEFT JOIN contactsync.contact c ON c.endpoint = p.endpoint AND c.upsert_key = m.upsert_key"
		" WHERE $10 AND p.watch <> 0 AND p.fate = '' AND m.upsert_key IS NOT NULL ON CONFLICT DO NOTHING",
		TYPES
	};

	(void) run(&remove, args);
	(void) run(&store, args);
}

/*
 * Forget contacts, rows, and an address at some endpoints, but remember, unless
 * "suppression" is false, that consent is closed.
 */
static void
forget(Datum *args, Oid roleid, bool suppression, int64 *rows)
{
	static CsStatement failure = {"DELETE FROM contactsync.failure f USING " ROWS " WHERE " OF_ROW("f"), TYPES};
	static CsStatement trace = {
		"DELETE FROM contactsync.trace t WHERE EXISTS (SELECT FROM " ROWS " WHERE " OF_ROW("t") ")"
		" OR t.endpoint = ANY ($4) AND $5 <> '' AND (t.upsert_key = $5 OR t.email = $5)",
		TYPES
	};
	static CsStatement traced = {
		"DELETE FROM contactsync.traced t WHERE EXISTS (SELECT FROM " ROWS
		" WHERE t.endpoint = p.endpoint AND t.watch = p.watch AND t.contact = p.key)"
		" OR t.endpoint = ANY ($4) AND t.watch = 0 AND t.contact = $5",
		TYPES
	};
	static CsStatement direct = {
		"DELETE FROM contactsync.queue q WHERE q.endpoint = ANY ($4) AND q.watch = 0 AND $5 <> ''"
		" AND lower(btrim(q.contact ->> 'email')) = $5",
		TYPES
	};
	static CsStatement keys = {
		"WITH gone AS (SELECT q.ctid AS place, array_agg(p.key) AS keys FROM contactsync.queue q JOIN " ROWS
		" ON q.endpoint = p.endpoint AND q.watch = p.watch AND p.watch <> 0 AND p.fate <> 'other' AND q.related IS NULL AND q.keys @> ARRAY[p.key]"
		" WHERE pg_visible_in_snapshot(q.xact, $9::pg_snapshot) OR q.xact = pg_current_xact_id_if_assigned() GROUP BY q.ctid),"
		" deleted AS (DELETE FROM contactsync.queue q USING gone WHERE q.ctid = gone.place AND gone.keys @> q.keys"
		" RETURNING q.n), updated AS (UPDATE contactsync.queue q SET keys = left_over.keys, n = cardinality(left_over.keys)"
		" FROM gone, LATERAL (SELECT array_agg(k ORDER BY i) AS keys FROM contactsync.queue o,"
		" unnest(o.keys) WITH ORDINALITY AS u (k, i) WHERE o.ctid = gone.place AND k <> ALL (gone.keys)) left_over"
		" WHERE q.ctid = gone.place AND NOT gone.keys @> q.keys RETURNING cardinality(gone.keys) AS n)"
		" SELECT n FROM deleted UNION ALL SELECT n FROM updated",
		TYPES
	};
	static CsStatement remote = {
		"DELETE FROM contactsync.remote_contact r WHERE r.endpoint = ANY ($4) AND r.email = $5", TYPES
	};

	/* the address, as it is or as part of a URL */
	static CsStatement call = {
		"UPDATE contactsync.call c SET path = replace(replace(path, $5, '***'), replace($5, '@', '%40'), '***'),"
		" error = replace(error, $5, '***') WHERE c.endpoint = ANY ($4) AND $5 <> ''"
		" AND (strpos(path, $5) > 0 OR strpos(path, replace($5, '@', '%40')) > 0 OR strpos(error, $5) > 0)",
		TYPES
	};
	static CsStatement counter = {
		"UPDATE contactsync.counter c SET last_error = replace(last_error, $5, '***')"
		" WHERE c.endpoint = ANY ($4) AND $5 <> '' AND strpos(last_error, $5) > 0",
		TYPES
	};
	static CsStatement reason = {
		"UPDATE contactsync.endpoint e SET reason = replace(reason, $5, '***')"
		" WHERE e.id = ANY ($4) AND $5 <> '' AND strpos(reason, $5) > 0",
		TYPES
	};

	/* the first contacts that would be removed, or the row that is at fault */
	static CsStatement watch_reason = {
		"UPDATE contactsync.watch w SET reason = replace(reason, $5, '***')"
		" WHERE w.endpoint = ANY ($4) AND $5 <> '' AND strpos(reason, $5) > 0",
		TYPES
	};
	static CsStatement scan_reason = {
		"UPDATE contactsync.scan s SET reason = replace(reason, $5, '***')"
		" WHERE s.endpoint = ANY ($4) AND $5 <> '' AND strpos(reason, $5) > 0",
		TYPES
	};
	static CsStatement run_reason = {
		"UPDATE contactsync.run r SET reason = replace(reason, $5, '***')"
		" WHERE r.endpoint = ANY ($4) AND $5 <> '' AND strpos(reason, $5) > 0",
		TYPES
	};

	static CsStatement outcome = {
		"DELETE FROM contactsync.outcome o USING " ROWS " WHERE " OF_ROW("o") " AND p.watch <> 0 AND p.fate <> 'other'", TYPES
	};

	/* while the contacts are there; of a row that was the person, all of it */
	static CsStatement outcome_of_person = {
		"DELETE FROM contactsync.outcome o USING (" LOGGED_OF_PERSON ") l WHERE o.watch = l.watch AND o.key = l.key AND o.endpoint = l.endpoint",
		TYPES
	};
	static CsStatement direct_outcome = {"DELETE FROM contactsync.outcome o USING (" LOGGED_OF_PERSON ") l WHERE o.id = l.id", TYPES};
	static CsStatement note = {
		"INSERT INTO contactsync.forgotten AS o (endpoint, watch, key, notes)"
		" SELECT n.endpoint, n.watch, n.key, $10 AND bool_and(n.here) FROM ("
		"SELECT p.endpoint, p.watch, p.key, p.fate <> 'gone' AS here FROM " ROWS
		" UNION SELECT e, 0, $5, true FROM unnest($4) AS e WHERE $5 <> ''"
		" UNION SELECT k.endpoint, 0, k.upsert_key, true FROM " CONTACTS ") n GROUP BY n.endpoint, n.watch, n.key"
		" ON CONFLICT (endpoint, watch, key) DO UPDATE SET notes = o.notes AND excluded.notes",
		TYPES
	};
	uint64		n;

	args[ARG_SUPPRESSION] = BoolGetDatum(suppression);
	rows[CS_FORGET_OUTCOME] += run(&outcome, args);
	rows[CS_FORGET_OUTCOME] += run(&outcome_of_person, args);
	rows[CS_FORGET_OUTCOME] += run(&direct_outcome, args);
	cs_consent_forget(args[ARG_CONTACT_ENDPOINTS], args[ARG_UPSERT_KEYS], args[ARG_ENDPOINTS], args[ARG_ADDRESS],
					  roleid, suppression);
	note_remaining(args);
	rows[CS_FORGET_CONTACT] += forget_contacts(args);
	rows[CS_FORGET_FAILURE] += run(&failure, args);
	rows[CS_FORGET_TRACE] += run(&trace, args);
	(void) run(&traced, args);
	rows[CS_FORGET_CHANGE] += run(&direct, args);
	n = run(&keys, args);
	for (uint64 i = 0; i < n; i++)
		rows[CS_FORGET_CHANGE] += cs_sql_int(i, 1);
	rows[CS_FORGET_REMOTE_CONTACT] += run(&remote, args);
	rows[CS_FORGET_CALL] += run(&call, args);
	(void) run(&counter, args);
	(void) run(&reason, args);
	(void) run(&watch_reason, args);
	(void) run(&scan_reason, args);
	(void) run(&run_reason, args);
	if (run(&note, args) > 0)
		cs_invalidation_send(CS_DEFINITIONS);
}

static Datum
int_array(int n, Datum *elements)
{
	return PointerGetDatum(construct_array(elements, n, INT4OID, 4, true, TYPALIGN_INT));
}

static Datum
text_array(int n, Datum *elements)
{
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Return a column of the last statement, of int4 or text, as an array. */
static Datum
array_of_result(uint64 n, int column, bool is_text)
{
	Datum	   *elements = palloc((n + 1) * sizeof(Datum));
	bool		isnull;

	for (uint64 i = 0; i < n; i++)
		elements[i] = cs_sql_value(i, column, &isnull);
	return is_text ? text_array(n, elements) : int_array(n, elements);
}

void
cs_forget_find_rows(const char *email, Oid roleid, CsForgetRows *rows)
{
	static CsStatement statement = {ROWS_OF_PERSON, 2, {TEXTOID, OIDOID}};
	Datum		person[2] = {CStringGetTextDatum(email), ObjectIdGetDatum(roleid)};
	MemoryContext context = CurrentMemoryContext;

	/* the caller uses these after the scope has ended */
	memset(rows, 0, sizeof(CsForgetRows));
	rows->snapshot = MemoryContextStrdup(context, cs_progress_snapshot());
	rows->n = (int) run(&statement, person);
	MemoryContextSwitchTo(context);
	rows->rows = palloc0(Max(rows->n, 1) * sizeof(CsForgetRow));
	for (int i = 0; i < rows->n; i++)
	{
		rows->rows[i].endpoint = cs_sql_int(i, 1);
		rows->rows[i].watch = cs_sql_int(i, 2);
		rows->rows[i].key = cs_sql_text(i, 3);
	}
}

/* Fill the arguments that are about rows. */
static void
set_rows(Datum *args, const CsForgetRows *rows)
{
	Datum	   *endpoints = palloc(Max(rows->n, 1) * sizeof(Datum));
	Datum	   *watches = palloc(Max(rows->n, 1) * sizeof(Datum));
	Datum	   *keys = palloc(Max(rows->n, 1) * sizeof(Datum));
	Datum	   *fates = palloc(Max(rows->n, 1) * sizeof(Datum));

	for (int i = 0; i < rows->n; i++)
	{
		const CsForgetRow *row = &rows->rows[i];

		endpoints[i] = Int32GetDatum(row->endpoint);
		watches[i] = Int32GetDatum(row->watch);
		keys[i] = CStringGetTextDatum(row->key);
		fates[i] = CStringGetTextDatum(row->fate == CS_FATE_GONE ? "gone" :
									   row->fate == CS_FATE_OTHER ? "other" : "");
	}
	args[ARG_ROW_ENDPOINTS] = int_array(rows->n, endpoints);
	args[ARG_WATCHES] = int_array(rows->n, watches);
	args[ARG_KEYS] = text_array(rows->n, keys);
	args[ARG_FATES] = text_array(rows->n, fates);
	args[ARG_SNAPSHOT] = CStringGetTextDatum(rows->snapshot);
}

void
cs_forget_email(const char *email, Oid roleid, bool suppression, const CsForgetRows *rows,
				int64 *forgotten)
{
	static CsStatement contacts = {CONTACTS_OF_PERSON, 2, {TEXTOID, OIDOID}};
	static CsStatement endpoints = {
		"SELECT id FROM contactsync.endpoint WHERE pg_has_role($1, role, 'USAGE')", 1, {OIDOID}
	};
	Datum		args[NARGS];
	Datum		person[2] = {CStringGetTextDatum(email), ObjectIdGetDatum(roleid)};
	uint64		n = run(&contacts, person);

	args[ARG_CONTACT_ENDPOINTS] = array_of_result(n, 1, false);
	args[ARG_UPSERT_KEYS] = array_of_result(n, 2, true);
	set_rows(args, rows);
	n = run(&endpoints, &person[1]);
	args[ARG_ENDPOINTS] = array_of_result(n, 1, false);
	args[ARG_ADDRESS] = person[0];
	forget(args, roleid, suppression, forgotten);
}

void
cs_forget_row(const CsForgetRow *row, bool suppression, int64 *forgotten)
{
	/*
	 * what the row stands for, or was sent as last, unless another row stands
	 * for it
	 */
	static CsStatement contact = {
		"SELECT c.upsert_key, COALESCE(c.email, c.upsert_key) FROM contactsync.contact c"
		" WHERE c.endpoint = $1 AND (c.watch = $2 AND c.key = $3 OR c.upsert_key ="
		" (SELECT s.upsert_key FROM contactsync.source_row s WHERE s.watch = $2 AND s.key = $3))"
		" AND NOT EXISTS (SELECT FROM contactsync.source_row o WHERE o.endpoint = c.endpoint"
		" AND o.upsert_key = c.upsert_key AND (o.watch, o.key) <> ($2, $3))"
		" AND NOT " CS_SQL_REMAINS("c", "(r.watch, r.key) <> ($2, $3)"),
		3, {INT4OID, INT4OID, TEXTOID}
	};
	static CsStatement remove = {
		"DELETE FROM contactsync.source_row WHERE endpoint = $1 AND watch = $2 AND key = $3",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	CsForgetRows rows = {.n = 1,.rows = unconstify(CsForgetRow *, row),.snapshot = cs_progress_snapshot()};
	Datum		key[3] = {Int32GetDatum(row->endpoint), Int32GetDatum(row->watch), CStringGetTextDatum(row->key)};
	Datum		args[NARGS];
	uint64		n = run(&contact, key);
	char	   *address = n > 0 ? cs_sql_text(0, 2) : "";
	Datum	   *endpoints = palloc((n + 1) * sizeof(Datum));

	for (uint64 i = 0; i < n; i++)
		endpoints[i] = key[0];
	args[ARG_ENDPOINTS] = int_array(1, &key[0]);
	args[ARG_CONTACT_ENDPOINTS] = int_array(n, endpoints);
	args[ARG_UPSERT_KEYS] = array_of_result(n, 1, true);
	args[ARG_ADDRESS] = CStringGetTextDatum(strchr(address, '@') ? address : "");
	set_rows(args, &rows);
	forget(args, InvalidOid, suppression, forgotten);
	(void) run(&remove, key);
}

List *
cs_forget_notes(void)
{
	/* a row that was queued since, or is somebody else now, is sent */
	static CsStatement statement = {
		"SELECT f.endpoint, f.watch, f.key, f.notes FROM contactsync.forgotten f WHERE f.watch = 0 OR NOT EXISTS (SELECT FROM"
		" contactsync.queue q WHERE q.endpoint = f.endpoint AND q.watch = f.watch AND q.related IS NULL AND q.keys @> ARRAY[f.key])"
	};
	MemoryContext context = CurrentMemoryContext;
	List	   *notes = NIL;
	uint64		n = cs_sql_execute(&statement, NULL, NULL);
	bool		isnull;

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
	{
		CsForgetNote *note = palloc(sizeof(CsForgetNote));

		note->endpoint = cs_sql_int(i, 1);
		note->watch = cs_sql_int(i, 2);
		note->key = cs_sql_text(i, 3);
		note->notes = DatumGetBool(cs_sql_value(i, 4, &isnull));
		notes = lappend(notes, note);
	}
	return notes;
}

bool
cs_forget_sweep(int only, List *except)
{
	/* what was stored of a row tells that it is still there */
	static CsStatement statement = {
		"WITH p AS (DELETE FROM contactsync.forgotten WHERE ($1 = 0 OR endpoint = $1) AND endpoint <> ALL ($2) RETURNING endpoint, watch, key, notes),"
		" c AS (DELETE FROM contactsync.contact c USING p WHERE p.watch = 0 AND c.endpoint = p.endpoint"
		" AND (c.upsert_key = p.key OR c.email = p.key) AND NOT " IS_ERASED("c") "),"
		" s AS (DELETE FROM contactsync.source_row s USING p WHERE p.watch = 0 AND s.endpoint = p.endpoint"
		" AND s.upsert_key = p.key RETURNING s.endpoint, s.watch, s.key, s.upsert_key, p.notes),"
		" f AS (DELETE FROM contactsync.failure f USING p WHERE " OF_ROW("f") " AND NOT " IS_ERASED("f")
		" RETURNING f.endpoint, f.watch, f.key, f.upsert_key, p.notes),"
		" o AS (DELETE FROM contactsync.outcome o USING p WHERE " OF_ROW("o") " AND p.watch <> 0),"
		" h AS (DELETE FROM contactsync.outcome o USING p WHERE p.watch = 0 AND o.endpoint = p.endpoint AND o.person = " LOGGED_HASH("p.key") "),"
		" t AS (DELETE FROM contactsync.trace t USING p WHERE " OF_ROW("t") ")"
		" INSERT INTO contactsync.remaining_row (endpoint, watch, key, contact)"
		" SELECT n.endpoint, n.watch, n.key, contactsync.consent_hash(n.upsert_key) FROM (SELECT * FROM s UNION SELECT * FROM f) n"
		" WHERE n.notes AND n.watch <> 0 AND n.upsert_key IS NOT NULL AND NOT EXISTS (SELECT FROM p WHERE " OF_ROW("n") " AND NOT p.notes)"
		" ON CONFLICT DO NOTHING",
		2, {INT4OID, INT4ARRAYOID}
	};
	Datum	   *ids = palloc((list_length(except) + 1) * sizeof(Datum));
	int			n = 0;
	Datum		args[2];
	ListCell   *lc;

	foreach(lc, except)
		ids[n++] = Int32GetDatum(lfirst_int(lc));
	args[0] = Int32GetDatum(only);
	args[1] = PointerGetDatum(construct_array(ids, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	return cs_sql_execute(&statement, args, NULL) > 0;
}

uint64
cs_forget_list(const char *email, Oid roleid)
{
	static CsStatement statement = {
		"WITH p AS MATERIALIZED (" ROWS_OF_PERSON "),"
		" k AS MATERIALIZED (" CONTACTS_OF_PERSON "),"
		" mine AS MATERIALIZED (SELECT id FROM contactsync.endpoint WHERE pg_has_role($2, role, 'USAGE')),"
		" event AS (SELECT q.queued_at AS at, q.endpoint, q.watch, p.key, 'queued' AS event, NULL::jsonb AS detail"
		" FROM p JOIN contactsync.queue q ON q.endpoint = p.endpoint AND q.watch = p.watch AND q.related IS NULL AND q.keys @> ARRAY[p.key]"
		" UNION ALL SELECT q.queued_at, q.endpoint, 0, NULL, 'queued', q.contact FROM mine JOIN contactsync.queue q"
		" ON q.endpoint = mine.id AND q.watch = 0 WHERE lower(btrim(q.contact ->> 'email')) = $1"
		" UNION ALL SELECT c.synced_at, c.endpoint, COALESCE(s.watch, c.watch), COALESCE(s.key, c.key),"
		" CASE WHEN c.synced_at IS NULL THEN 'sending' WHEN c.action = 'u' THEN 'synced' WHEN c.action = 'd' THEN 'deleting' ELSE 'unsubscribed' END,"
		" jsonb_strip_nulls(to_jsonb(c) - '{endpoint,watch,key,action,synced_at,digest,fields}'::text[])"
		" FROM k JOIN contactsync.contact c ON " OF_CONTACT("c")
		" LEFT JOIN contactsync.source_row s ON s.endpoint = c.endpoint AND s.upsert_key = c.upsert_key"
		" UNION ALL SELECT NULL, s.endpoint, s.watch, s.key, CASE WHEN s.withheld THEN 'withheld' ELSE 'seen' END,"
		" jsonb_build_object('opt_in', s.opt_in)"
		" FROM mine JOIN contactsync.source_row s ON s.endpoint = mine.id AND s.upsert_key = $1 WHERE NOT EXISTS"
		" (SELECT FROM contactsync.contact c WHERE c.endpoint = s.endpoint AND c.upsert_key = s.upsert_key)"
		" UNION ALL SELECT d.departed_at, d.endpoint, d.watch, d.key, 'departed', jsonb_build_object('erase', d.erase, 'failed', d.failed)"
		" FROM k JOIN contactsync.departure d ON " OF_CONTACT("d")
		" UNION ALL SELECT f.last_at, f.endpoint, f.watch, f.key, 'failed',"
		" jsonb_strip_nulls(to_jsonb(f) - '{endpoint,watch,key,last_at,conflict}'::text[])"
		" FROM p JOIN contactsync.failure f ON " OF_ROW("f")
		" UNION ALL SELECT NULL, r.endpoint, r.watch, r.key, 'remaining', NULL FROM p"
		" JOIN (SELECT DISTINCT endpoint, watch, key FROM contactsync.remaining_row) r ON " OF_ROW("r")
		" UNION ALL SELECT t.started_at, t.endpoint, t.watch, t.key, 'called',"
		" jsonb_strip_nulls(to_jsonb(t) - '{endpoint,watch,key,started_at}'::text[])"
		" FROM p JOIN contactsync.trace t ON " OF_ROW("t")
		" UNION ALL SELECT o.at, o.endpoint, o.watch, o.key, 'logged', jsonb_strip_nulls(jsonb_build_object('outcome', o.outcome,"
		" 'reason', o.reason, 'cause', COALESCE(x.kind, o.cause), 'again', o.again, 'fields', o.fields, 'attempts', NULLIF(o.attempts, 0),"
		" 'queued_at', o.queued_at, 'run', o.run, 'started_by', x.started_by))"
		" FROM (SELECT o.* FROM mine CROSS JOIN (SELECT " LOGGED_HASH("$1") " AS person UNION SELECT " LOGGED_HASH("k.upsert_key") " FROM k) h"
		" JOIN contactsync.outcome o ON o.person = h.person AND o.endpoint = mine.id"
		" UNION ALL SELECT o.* FROM p JOIN contactsync.outcome o ON " OF_ROW("o") " AND o.person IS NULL AND p.watch <> 0) o"
		" LEFT JOIN contactsync.run x ON x.id = o.run"
		" UNION ALL SELECT r.pulled_at, r.endpoint, 0, NULL, 'pulled',"
		" jsonb_strip_nulls(to_jsonb(r) - '{endpoint,email,pulled_at}'::text[])"
		" FROM mine JOIN contactsync.remote_contact r ON r.endpoint = mine.id AND r.email = $1)"
		" SELECT v.at, e.server, w.source, v.key, v.event, v.detail FROM event v"
		" JOIN contactsync.endpoint e ON e.id = v.endpoint LEFT JOIN contactsync.watch w ON w.id = v.watch"
		" ORDER BY v.at NULLS FIRST, e.server, v.key",
		2, {TEXTOID, OIDOID}
	};
	Datum		args[2] = {CStringGetTextDatum(email), ObjectIdGetDatum(roleid)};

	return run(&statement, args);
}
