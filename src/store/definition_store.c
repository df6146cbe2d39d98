/*-------------------------------------------------------------------------
 *
 * definition_store.c
 *		Definitions of providers: the table, and the files that are shipped.
 *
 * A definition belongs to a role.  The servers of that role use it, and if the role is
 * the owner of the extension, those of all roles that have none of that name themselves;
 * no server of another role does.  Behind both are the files in the server's directory of
 * shared files.  So nobody's definition changes what another's server sends, but that of
 * whoever could change the library as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "base/sql.h"
#include "base/text.h"
#include "provider/defined/compile.h"
#include "provider/registry.h"
#include "store/definition_store.h"

/* A role can have so many. */
#define MAX_DEFINITIONS	100

#define FILE_PREFIX		"contactsync."
#define FILE_SUFFIX		".json"

/* An SQL condition: the role is the owner of the extension. */
#define IS_OWNER(role) \
	role " = (SELECT e.extowner FROM pg_catalog.pg_extension e WHERE e.extname = 'contactsync')"

/* ---------- files ---------- */

static char *
directory(void)
{
	char		share[MAXPGPATH];

	get_share_path(my_exec_path, share);
	return psprintf("%s/extension", share);
}

static char *
path_of(const char *name)
{
	return psprintf("%s/%s%s%s", directory(), FILE_PREFIX, name, FILE_SUFFIX);
}

/* Return the text of a file, or NULL if there is none that can be read. */
static char *
read_file(const char *name)
{
	FILE	   *file = AllocateFile(path_of(name), PG_BINARY_R);
	char	   *text;
	size_t		len;

	if (file == NULL)
		return NULL;
	text = palloc(CS_DEFINITION_MAX_BYTES + 2);
	len = fread(text, 1, CS_DEFINITION_MAX_BYTES + 1, file);
	text[len] = '\0';
	FreeFile(file);
	return strlen(text) == len ? text : NULL;
}

/* Find the file of a definition.  A file that is replaced has another stamp, and so has one that is written to. */
static bool
find_file(const char *name, bool (*known) (const char *name, const char *stamp), CsRegistryText *found)
{
	struct stat status;

	if (stat(path_of(name), &status) != 0)
		return false;
	found->stamp = psprintf("file %llu %lld %lld.%09ld", (unsigned long long) status.st_ino, (long long) status.st_size,
							(long long) status.st_mtim.tv_sec, (long) status.st_mtim.tv_nsec);
	found->utf8 = NULL;
	if (known && known(name, found->stamp))
		return true;
	found->utf8 = read_file(name);
	return found->utf8 != NULL;
}

/* Return the name of the definition in a file, palloc'd, or NULL. */
static char *
name_of_file(const char *file)
{
	size_t		prefix = strlen(FILE_PREFIX);
	size_t		suffix = strlen(FILE_SUFFIX);
	size_t		len = strlen(file);
	char	   *name;

	if (len <= prefix + suffix || strncmp(file, FILE_PREFIX, prefix) != 0 ||
		strcmp(file + len - suffix, FILE_SUFFIX) != 0)
		return NULL;
	name = pnstrdup(file + prefix, len - prefix - suffix);
	return cs_compile_is_name(name) ? name : NULL;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* Return the names of the definitions that are shipped, in order. */
static List *
list_files(void)
{
	char	   *path = directory();
	DIR		   *dir = AllocateDir(path);
	struct dirent *entry;
	List	   *names = NIL;

	if (dir == NULL)
		return NIL;
	while ((entry = ReadDirExtended(dir, path, LOG)) != NULL)
	{
		char	   *name = name_of_file(entry->d_name);

		if (name)
			names = lappend(names, name);
	}
	FreeDir(dir);
	list_sort(names, compare_names);
	return names;
}

/* ---------- finding ---------- */

/* Find the definition in the table.  No other row, and no other version of it, has its stamp. */
static bool
find_row(const char *name, Oid roleid, bool member, bool (*known) (const char *name, const char *stamp),
		 CsRegistryText *found)
{
	static CsStatement statement = {
		"SELECT pg_catalog.format('row %s %s', p.xmin, p.ctid), p.definition FROM contactsync.provider p"
		" WHERE p.name = $1 AND (p.role = $2 OR " IS_OWNER("p.role")
		" OR ($3 AND pg_catalog.pg_has_role($2, p.role, 'USAGE')))"
		" ORDER BY p.role <> $2, NOT (" IS_OWNER("p.role") "), p.role LIMIT 1",
		3, {TEXTOID, OIDOID, BOOLOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		args[3];
	CsSqlScope	scope;
	char	   *text = NULL;

	args[0] = CStringGetTextDatum(name);
	args[1] = ObjectIdGetDatum(roleid);
	args[2] = BoolGetDatum(member);
	found->stamp = NULL;
	cs_sql_enter(&scope);
	if (cs_sql_execute(&statement, args, NULL) > 0)
	{
		found->stamp = MemoryContextStrdup(context, cs_sql_text(0, 1));
		if (known == NULL || !known(name, found->stamp))
			text = MemoryContextStrdup(context, cs_sql_text(0, 2));
	}
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	found->utf8 = text ? cs_text_to_utf8(text, strlen(text)) : NULL;
	return found->stamp != NULL;
}

static bool
find(const char *name, Oid roleid, bool member, bool (*known) (const char *name, const char *stamp),
	 CsRegistryText *found)
{
	return cs_sql_is_ready() && (find_row(name, roleid, member, known, found) || find_file(name, known, found));
}

static CsDefinitionRow *
make_row(const char *name, CsDefinitionOrigin origin, Oid roleid, const char *text)
{
	CsDefinitionRow *row = palloc(sizeof(CsDefinitionRow));

	row->name = pstrdup(name);
	row->origin = origin;
	row->roleid = roleid;
	row->text = text ? cs_text_to_utf8(text, strlen(text)) : NULL;
	return row;
}

static bool
is_listed(List *rows, const char *name)
{
	ListCell   *lc;

	foreach(lc, rows)
		if (strcmp(((CsDefinitionRow *) lfirst(lc))->name, name) == 0)
		return true;
	return false;
}

static List *
list_rows(Oid roleid)
{
	static CsStatement statement = {
		"SELECT p.name, p.definition::text, p.role::oid, p.role = $1 AS own FROM contactsync.provider p"
		" WHERE p.role = $1 OR " IS_OWNER("p.role") " ORDER BY own DESC, p.name",
		1, {OIDOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		args[1];
	CsSqlScope	scope;
	List	   *rows = NIL;
	uint64		n;

	args[0] = ObjectIdGetDatum(roleid);
	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, args, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		char	   *name = cs_sql_text(i, 1);
		char	   *text = cs_sql_text(i, 2);
		Oid			owner = DatumGetObjectId(cs_sql_value(i, 3, &isnull));
		bool		own = DatumGetBool(cs_sql_value(i, 4, &isnull));
		MemoryContext old = MemoryContextSwitchTo(context);

		if (!is_listed(rows, name))
			rows = lappend(rows, make_row(name, own ? CS_DEFINITION_OWN : CS_DEFINITION_SHARED, owner, text));
		MemoryContextSwitchTo(old);
	}
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	return rows;
}

List *
cs_definition_store_list(Oid roleid)
{
	List	   *rows = list_rows(roleid);
	ListCell   *lc;

	foreach(lc, list_files())
		if (!is_listed(rows, lfirst(lc)))
		rows = lappend(rows, make_row(lfirst(lc), CS_DEFINITION_SHIPPED, InvalidOid, read_file(lfirst(lc))));
	return rows;
}

static void
append_names(StringInfo list, Oid roleid)
{
	ListCell   *lc;

	if (!cs_sql_is_ready())
		return;
	foreach(lc, cs_definition_store_list(roleid))
		appendStringInfo(list, ", %s", ((CsDefinitionRow *) lfirst(lc))->name);
}

void
cs_definition_store_init(void)
{
	static const CsRegistrySource source = {find, append_names};

	cs_registry_set_source(&source);
}

/* ---------- storing ---------- */

/* Whoever can make servers can define what they are servers of. */
static void
check_role(Oid roleid, const char *name)
{
	static CsStatement statement = {
		"SELECT pg_catalog.has_foreign_data_wrapper_privilege($1, 'contactsync', 'USAGE'),"
		" (SELECT pg_catalog.count(*)::integer FROM contactsync.provider p WHERE p.role = $1 AND p.name <> $2)",
		2, {OIDOID, TEXTOID}
	};
	Datum		args[2];
	bool		isnull;

	args[0] = ObjectIdGetDatum(roleid);
	args[1] = CStringGetTextDatum(name);
	cs_sql_execute(&statement, args, NULL);
	if (!DatumGetBool(cs_sql_value(0, 1, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign-data wrapper %s", CS_EXTENSION),
				 errhint("Use GRANT USAGE ON FOREIGN DATA WRAPPER %s TO %s.", CS_EXTENSION,
						 quote_identifier(GetUserNameFromId(roleid, false)))));
	if (cs_sql_int(0, 2) >= MAX_DEFINITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("role \"%s\" has %d definitions already", GetUserNameFromId(roleid, false), MAX_DEFINITIONS),
				 errhint("Use contactsync_undefine() for those that are not used.")));
}

void
cs_definition_store_put(const char *name, Oid roleid, Datum definition)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.provider (name, role, definition) VALUES ($1, $2, $3)"
		" ON CONFLICT (role, name) DO UPDATE SET definition = EXCLUDED.definition, changed_at = pg_catalog.now()",
		3, {TEXTOID, OIDOID, JSONBOID}
	};
	Datum		args[3];
	CsSqlScope	scope;

	args[0] = CStringGetTextDatum(name);
	args[1] = ObjectIdGetDatum(roleid);
	args[2] = definition;
	cs_sql_enter(&scope);
	check_role(roleid, name);
	cs_sql_execute(&statement, args, NULL);
	cs_sql_leave(&scope);
}

bool
cs_definition_store_delete(const char *name, Oid roleid)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.provider WHERE name = $1 AND role = $2",
		2, {TEXTOID, OIDOID}
	};
	Datum		args[2];
	CsSqlScope	scope;
	bool		found;

	args[0] = CStringGetTextDatum(name);
	args[1] = ObjectIdGetDatum(roleid);
	cs_sql_enter(&scope);
	found = cs_sql_execute(&statement, args, NULL) > 0;
	cs_sql_leave(&scope);
	return found;
}

List *
cs_definition_store_servers(const char *name, Oid roleid)
{
	static CsStatement statement = {
		"SELECT s.oid FROM pg_catalog.pg_foreign_server s"
		" JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'contactsync'"
		" WHERE 'provider=' || $1 = ANY (s.srvoptions) AND (s.srvowner = $2 OR (" IS_OWNER("$2")
		" AND NOT EXISTS (SELECT FROM contactsync.provider p WHERE p.name = $1 AND p.role = s.srvowner)))"
		" ORDER BY s.srvname",
		2, {TEXTOID, OIDOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		args[2];
	CsSqlScope	scope;
	List	   *servers = NIL;
	uint64		n;

	args[0] = CStringGetTextDatum(name);
	args[1] = ObjectIdGetDatum(roleid);
	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, args, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Oid			oid = DatumGetObjectId(cs_sql_value(i, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(context);

		servers = lappend_oid(servers, oid);
		MemoryContextSwitchTo(old);
	}
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	return servers;
}

List *
cs_definition_store_mapped(Oid serverid)
{
	static CsStatement statement = {
		"SELECT DISTINCT f.name FROM contactsync.endpoint e JOIN contactsync.watch w ON w.endpoint = e.id,"
		" pg_catalog.jsonb_object_keys(w.mapping) AS f (name) WHERE e.server_oid = $1",
		1, {OIDOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		args[1];
	CsSqlScope	scope;
	List	   *names = NIL;
	uint64		n;

	args[0] = ObjectIdGetDatum(serverid);
	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, args, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *name = cs_sql_text(i, 1);
		MemoryContext old = MemoryContextSwitchTo(context);

		names = lappend(names, pstrdup(name));
		MemoryContextSwitchTo(old);
	}
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	return names;
}

void
cs_definition_store_sweep(void)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.provider p WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_authid r WHERE r.oid = p.role)",
		0
	};

	cs_sql_execute(&statement, NULL, NULL);
}
