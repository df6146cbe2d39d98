/*-------------------------------------------------------------------------
 *
 * store.c
 *		Targets mapping, row_keys and options.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/invalidation.h"
#include "fuzz.h"
#include "provider/registry.h"
#include "store/row_key.h"
#include "store/watch_make.h"

extern Datum contactsync_fdw_validator(PG_FUNCTION_ARGS);

static Oid
table_of(const char *name)
{
	return get_relname_relid(name, get_namespace_oid("public", false));
}

/* ---------- mapping ---------- */

static CsEndpoint *endpoints[5];

static void
init_mapping(const char *argument)
{
	static const char *const servers[] = {"campaignlark", "caramel", "mailingcore", "owlat", "spotzee"};

	for (int i = 0; i < lengthof(servers); i++)
		endpoints[i] = fuzz_endpoint(servers[i]);
}

/* The first letter chooses the server; the lines are the filter and the mapping. */
static void
run_mapping(char *data, size_t len)
{
	CsSchedule	schedule = {0};
	CsWatch    *watch;
	char	   *filter;
	Jsonb	   *mapping;
	Datum		stored;

	if (len < 2 || data[0] < '0' || data[0] > '4' || !pg_verify_mbstr(PG_UTF8, data, len, true))
		return;
	filter = fuzz_line(&data);
	mapping = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(data)));
	PushActiveSnapshot(GetTransactionSnapshot());
	watch = cs_watch_make(table_of("customer"), endpoints[filter[0] - '0'], mapping,
						  filter[1] ? filter + 1 : NULL, NIL, "ignore", &schedule, NULL);
	PopActiveSnapshot();

	/* what is stored is read again as the same */
	stored = cs_watch_mapping_to_jsonb(watch);
	memset(watch, 0, sizeof(CsWatch));
	(void) cs_watch_read_mapping(watch, DatumGetJsonbP(stored));
	if (strcmp(DatumGetCString(DirectFunctionCall1(jsonb_out, stored)),
			   DatumGetCString(DirectFunctionCall1(jsonb_out, cs_watch_mapping_to_jsonb(watch)))) != 0)
		fuzz_fail("the mapping is read in another way");
}

/* ---------- row keys ---------- */

/* Three lines are the columns of a key; the whole is a stored key. */
static void
run_row_keys(char *data, size_t len)
{
	static char *names[] = {"a", "b", "c"};
	CsKeyColumn columns[lengthof(names)];
	char	   *texts[lengthof(names)];
	Relation	rel;
	TupleTableSlot *slot;
	char	   *key;

	for (int i = 0; i <= lengthof(names); i++)
		(void) cs_row_key_part(data, i);
	if (!pg_verify_mbstr(PG_UTF8, data, len, true))
		return;
	rel = table_open(table_of("keyed"), AccessShareLock);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	ExecStoreAllNullTuple(slot);
	for (int i = 0; i < lengthof(names); i++)
	{
		texts[i] = fuzz_line(&data);
		if (!cs_row_key_read_column(rel, names[i], &columns[i], CurrentMemoryContext))
			fuzz_fail("there is no column %s", names[i]);
		slot->tts_values[columns[i].attnum - 1] = CStringGetTextDatum(texts[i]);
		slot->tts_isnull[columns[i].attnum - 1] = false;
	}
	key = text_to_cstring(cs_row_key_make(CurrentMemoryContext, lengthof(names), columns, slot));
	if (strcmp(key, cs_row_key_from_texts(rel, lengthof(names), names, texts)) != 0)
		fuzz_fail("the key of a row and that of its texts differ");
	for (int i = 0; i < lengthof(names); i++)
	{
		const char *part = cs_row_key_part(key, i);

		if (part == NULL || strcmp(part, texts[i]) != 0)
			fuzz_fail("column %d of %s is %s", i, key, part ? part : "missing");
	}
	if (cs_row_key_part(key, lengthof(names)) != NULL)
		fuzz_fail("%s has a column more", key);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
}

/* ---------- options ---------- */

/* The validator would have every transaction end with a message. */
static void
init_options(const char *argument)
{
	cs_invalidation_hold(true);
}

/* What must be true of every value that is accepted. */
static void
check_accepted(const CsOption *option, const char *value)
{
	int			number;

	if (*value == '\0')
		fuzz_fail("an empty %s is accepted", option->name);
	if (option->secret)
		for (const char *c = value; *c; c++)
			if (*c <= ' ' || *c > '~')
				fuzz_fail("the secret %s breaks a header", option->name);
	if (cs_option_is_url(option) && pg_strncasecmp(value, "http", 4) != 0)
		fuzz_fail("%s is no URL", option->name);
	if (cs_option_unit(option) && (!parse_int(value, &number, cs_option_unit(option), NULL) || number < 1))
		fuzz_fail("%s is no time", option->name);
}

/* Lines of "name=value": the options of a server, or after a first line "m", of a user mapping. */
static void
run_options(char *data, size_t len)
{
	Datum		options[16];
	int			n = 0;
	Oid			catalog = ForeignServerRelationId;
	const CsProvider *provider = NULL;

	if (!pg_verify_mbstr(PG_UTF8, data, len, true))
		return;
	if (strncmp(data, "m\n", 2) == 0)
	{
		catalog = UserMappingRelationId;
		data += 2;
	}
	while (*data && n < lengthof(options))
	{
		char	   *line = fuzz_line(&data);

		if (provider == NULL && strncmp(line, "provider=", 9) == 0)
			provider = cs_registry_find(line + 9, InvalidOid);
		if (strchr(line, '='))
			options[n++] = CStringGetTextDatum(line);
	}
	(void) DirectFunctionCall2(contactsync_fdw_validator,
							   PointerGetDatum(construct_array(options, n, TEXTOID, -1, false, TYPALIGN_INT)),
							   ObjectIdGetDatum(catalog));
	for (int i = 0; i < n; i++)
	{
		char	   *name = TextDatumGetCString(options[i]);
		char	   *value = strchr(name, '=');
		const CsOption *option;

		*value++ = '\0';
		option = cs_registry_find_option(provider, name,
										 catalog == UserMappingRelationId ? CS_ON_MAPPING : CS_ON_SERVER);
		if (option == NULL)
			fuzz_fail("an option %s is accepted, which does not exist", name);
		check_accepted(option, value);
	}
}

const FuzzTarget fuzz_store_targets[] = {
	{"mapping", run_mapping, init_mapping},
	{"row_keys", run_row_keys},
	{"options", run_options, init_options},
	{NULL}
};
