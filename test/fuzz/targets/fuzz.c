/*-------------------------------------------------------------------------
 *
 * fuzz.c
 *		Runs libFuzzer in a backend.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sanitizer/allocator_interface.h>

#include "access/xact.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "base/sql.h"
#include "fuzz.h"
#include "provider/server.h"

/* Caches may grow at the first times that an input is run. */
#define MAX_REPETITIONS	10

/* Contexts are counted after so many inputs, because that takes longer. */
#define COUNT_EVERY		64

CS_FUNCTION(contactsync_fuzz);

extern int	LLVMFuzzerRunDriver(int *argc, char ***argv,
								int (*run) (const uint8_t *data, size_t size));

static const FuzzTarget *target;

void
fuzz_fail(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	fputs("FAULT: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	abort();
}

char *
fuzz_line(char **data)
{
	char	   *line = *data;
	char	   *end = line + strcspn(line, "\n");

	*data = *end ? end + 1 : end;
	*end = '\0';
	return line;
}

CsEndpoint *
fuzz_endpoint(const char *server)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	CsEndpoint *endpoint = cs_server_read(get_foreign_server_oid(server, false), GetUserId());

	(void) cs_provider_settings(endpoint);
	MemoryContextSwitchTo(old);
	return endpoint;
}

/* ---------- one input ---------- */

/*
 * Run the target in a subtransaction that is rolled back, and ignore its errors.  The
 * input is malloc'd, because the sanitizer does not see the end of what is palloc'd.
 */
static void
run_target(const uint8_t *data, size_t size)
{
	char	   *copy = malloc(size + 1);
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext old = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "fuzz", ALLOCSET_DEFAULT_SIZES);

	memcpy(copy, data, size);
	copy[size] = '\0';
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		target->run(copy, size);
	}
	PG_CATCH();
	{
		FlushErrorState();
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	MemoryContextDelete(context);
	free(copy);
}

/* Return the bytes in use in a context and those below. */
static Size
used_memory(MemoryContext context)
{
	MemoryContextCounters counters = {0};
	Size		used;

	context->methods->stats(context, NULL, NULL, &counters, false);
	used = counters.totalspace - counters.freespace;
	for (MemoryContext child = context->firstchild; child; child = child->nextchild)
		used += used_memory(child);
	return used;
}

/* Does an input leave memory behind each time? */
static bool
leaks(const uint8_t *data, size_t size, bool count)
{
	for (int i = 0; i < MAX_REPETITIONS; i++)
	{
		size_t		heap = __sanitizer_get_current_allocated_bytes();
		Size		used = count ? used_memory(TopMemoryContext) : 0;

		run_target(data, size);
		if (__sanitizer_get_current_allocated_bytes() <= heap &&
			(!count || used_memory(TopMemoryContext) <= used))
			return false;
	}
	return true;
}

static int
run_input(const uint8_t *data, size_t size)
{
	static uint64 n = 0;

	/* no zero bytes: texts of the server and answers that are texts have none */
	if (size > 0 && memchr(data, '\0', size) && strcmp(target->name, "json") != 0)
		return -1;
	if (leaks(data, size, n++ % COUNT_EVERY == 0))
		fuzz_fail("memory is still allocated");
	return 0;
}

/* ---------- SQL ---------- */

static const FuzzTarget *
find_target(const char *name)
{
	static const FuzzTarget *const tables[] = {
		fuzz_judge_targets, fuzz_message_targets, fuzz_contact_targets, fuzz_store_targets,
		fuzz_definition_targets
	};

	for (int i = 0; i < lengthof(tables); i++)
		for (const FuzzTarget *found = tables[i]; found->name; found++)
			if (strcmp(found->name, name) == 0)
				return found;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no target \"%s\"", name)));
}

/* contactsync_fuzz(target, VARIADIC arguments of libFuzzer): end the process. */
Datum
contactsync_fuzz(PG_FUNCTION_ARGS)
{
	int			argc;
	char	  **given = cs_sql_text_array(PG_GETARG_DATUM(1), &argc);
	char	  **argv = palloc0((argc + 2) * sizeof(char *));

	target = find_target(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (target->init)
		target->init(target->argument);
	argv[0] = pstrdup(target->name);
	memcpy(argv + 1, given, argc * sizeof(char *));
	argc++;
	PG_RETURN_INT32(LLVMFuzzerRunDriver(&argc, &argv, run_input));
}
