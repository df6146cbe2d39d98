/*-------------------------------------------------------------------------
 *
 * definition_cache.c
 *		Definitions that this process has compiled.
 *
 * Each is compiled once, into a memory context of its own, and shared by whatever uses
 * it.  Whoever gets one holds it until his memory context is reset or deleted; those
 * that nobody holds are kept for the next one, but only a few, so that a session that
 * tries many definitions does not grow.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "provider/definition_cache.h"

/* So many that nobody uses are kept. */
#define MAX_UNUSED	16

typedef struct CompiledDefinition
{
	dlist_node	node;
	MemoryContext context;		/* of the entry as well */
	const char *name;
	const char *stamp;
	bool		allow_http;		/* as it was set, on which depends what is
								 * faulty */
	const CsProvider *provider;
	int			users;
} CompiledDefinition;

typedef struct DefinitionUse
{
	MemoryContextCallback callback;
	CompiledDefinition *entry;
} DefinitionUse;

static dlist_head entries = DLIST_STATIC_INIT(entries); /* the last used first */
static int	nunused = 0;

static CompiledDefinition *
find(const char *name, const char *stamp)
{
	dlist_iter	iter;

	dlist_foreach(iter, &entries)
	{
		CompiledDefinition *entry = dlist_container(CompiledDefinition, node, iter.cur);

		if (entry->allow_http == cs_allow_http && strcmp(entry->stamp, stamp) == 0 && strcmp(entry->name, name) == 0)
			return entry;
	}
	return NULL;
}

/* Free the one that was used longest ago of those that nobody uses. */
static void
free_oldest(void)
{
	dlist_iter	iter;

	dlist_reverse_foreach(iter, &entries)
	{
		CompiledDefinition *entry = dlist_container(CompiledDefinition, node, iter.cur);

		if (entry->users > 0)
			continue;
		dlist_delete(&entry->node);
		MemoryContextDelete(entry->context);
		nunused--;
		return;
	}
}

/* Called when the memory context of a user is reset.  Must not fail. */
static void
release(void *arg)
{
	CompiledDefinition *entry = arg;

	if (--entry->users > 0)
		return;
	dlist_move_head(&entries, &entry->node);
	if (++nunused > MAX_UNUSED)
		free_oldest();
}

static void
use(CompiledDefinition *entry)
{
	DefinitionUse *use = palloc(sizeof(DefinitionUse));

	use->entry = entry;
	use->callback.func = release;
	use->callback.arg = entry;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &use->callback);
	if (entry->users++ == 0)
		nunused--;
}

/* Return NULL if the definition is faulty; what is wrong is in the current context. */
static CompiledDefinition *
compile(const char *name, const char *stamp, const char *utf8, CsDefinitionFault *fault)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync compiled definition", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CompiledDefinition *entry = palloc0(sizeof(CompiledDefinition));

	entry->context = context;
	entry->name = pstrdup(name);
	entry->stamp = pstrdup(stamp);
	entry->allow_http = cs_allow_http;
	entry->provider = cs_compile_definition(name, utf8, fault);
	MemoryContextSwitchTo(old);
	if (entry->provider == NULL)
		return NULL;
	MemoryContextSetParent(context, TopMemoryContext);
	elog(DEBUG1, "compiled the definition of provider \"%s\"", name);
	dlist_push_head(&entries, &entry->node);
	nunused++;
	return entry;
}

bool
cs_definition_cache_has(const char *name, const char *stamp)
{
	return find(name, stamp) != NULL;
}

const CsProvider *
cs_definition_cache_get(const char *name, const char *stamp, const char *utf8, CsDefinitionFault *fault)
{
	CompiledDefinition *entry = find(name, stamp);

	if (entry == NULL)
		entry = compile(name, stamp, utf8, fault);
	if (entry == NULL)
		return NULL;
	use(entry);
	return entry->provider;
}
