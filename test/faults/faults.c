/*-------------------------------------------------------------------------
 *
 * faults.c
 *		Let each place that allocates, runs a statement or calls a library fail once.
 *
 * test/faults/run.sh links this into contactsync and has the linker replace each
 * function below by its wrapper.  The place that calls a wrapper is known by its
 * return address.  The processes of a server share a file, which CS_FAULTS names: what
 * became of each place, and when the next one may fail.
 *
 * What can ereport fails with an error of the class "insufficient resources", and
 * the others as their documentation says.  Nothing fails in the postmaster, whose
 * restart would end everything, and in critical sections, where an error is a panic.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "catalog/indexing.h"
#include "common/cryptohash.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* The code has fewer bytes. */
#define MAX_PLACES	(4 << 20)

typedef enum Place
{
	NEVER_REACHED,
	REACHED,
	HAS_FAILED
} Place;

/* The layout of the file; run.py reads and writes it. */
typedef struct Faults
{
	int64		gap;			/* nanoseconds between two faults; 0: none */
	int64		next;			/* no fault before this time */
	unsigned char places[MAX_PLACES];
} Faults;

/* The beginning of the library. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));

static Faults *
shared(void)
{
	static Faults *faults = NULL;
	const char *path = getenv("CS_FAULTS");
	int			fd;

	if (faults || path == NULL || (fd = open(path, O_RDWR)) < 0)
		return faults;
	faults = mmap(NULL, sizeof(Faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (faults == MAP_FAILED)
		faults = NULL;
	return faults;
}

static int64
current_time(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64CONST(1000000000) + time.tv_nsec;
}

/* Is the call that returns to this address to fail? */
static bool
fails(const void *address)
{
	Faults	   *faults = shared();
	unsigned char *place;
	int64		next;

	if (faults == NULL || !IsUnderPostmaster || CritSectionCount > 0)
		return false;
	place = &faults->places[(const char *) address - __ehdr_start];
	if (*place == HAS_FAILED)
		return false;
	*place = REACHED;
	next = __atomic_load_n(&faults->next, __ATOMIC_ACQUIRE);
	if (faults->gap == 0 || current_time() < next ||
		!__atomic_compare_exchange_n(&faults->next, &next, current_time() + faults->gap, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return false;
	*place = HAS_FAILED;
	elog(LOG, "fault at %lx", (unsigned long) ((const char *) address - __ehdr_start));
	return true;
}

static void
fail_if_due(const void *address)
{
	if (fails(address))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory, on purpose")));
}

/* A wrapper that ereports. */
#define EREPORTS(type, name, parameters, arguments) \
	extern type __real_##name parameters; \
	extern type __wrap_##name parameters; \
	type __wrap_##name parameters \
	{ \
		fail_if_due(__builtin_return_address(0)); \
		return __real_##name arguments; \
	}

/* A wrapper that returns what the function does when it fails. */
#define RETURNS(type, name, parameters, arguments, failure) \
	extern type __real_##name parameters; \
	extern type __wrap_##name parameters; \
	type __wrap_##name parameters \
	{ \
		if (fails(__builtin_return_address(0))) \
			return failure; \
		return __real_##name arguments; \
	}

/* memory of the server */
EREPORTS(void *, palloc, (Size size), (size))
EREPORTS(void *, palloc0, (Size size), (size))
EREPORTS(void *, repalloc, (void *pointer, Size size), (pointer, size))
EREPORTS(void *, repalloc_huge, (void *pointer, Size size), (pointer, size))
EREPORTS(void *, MemoryContextAlloc, (MemoryContext context, Size size), (context, size))
EREPORTS(void *, MemoryContextAllocZero, (MemoryContext context, Size size), (context, size))
EREPORTS(void *, MemoryContextAllocZeroAligned, (MemoryContext context, Size size), (context, size))
EREPORTS(char *, MemoryContextStrdup, (MemoryContext context, const char *text), (context, text))
EREPORTS(MemoryContext, AllocSetContextCreateInternal,
		 (MemoryContext parent, const char *name, Size smallest, Size initial, Size largest), (parent, name, smallest, initial, largest))
EREPORTS(char *, pstrdup, (const char *text), (text))
EREPORTS(char *, pnstrdup, (const char *text, Size length), (text, length))
EREPORTS(text *, cstring_to_text, (const char *s), (s))
EREPORTS(text *, cstring_to_text_with_len, (const char *s, int length), (s, length))
EREPORTS(char *, text_to_cstring, (const text *t), (t))
EREPORTS(void, initStringInfo, (StringInfo string), (string))
EREPORTS(void, enlargeStringInfo, (StringInfo string, int needed), (string, needed))
EREPORTS(void, appendStringInfoString, (StringInfo string, const char *s), (string, s))
EREPORTS(void, appendBinaryStringInfo, (StringInfo string, const void *bytes, int length), (string, bytes, length))
EREPORTS(List *, lappend, (List *list, void *item), (list, item))
EREPORTS(List *, lappend_int, (List *list, int item), (list, item))
EREPORTS(List *, lappend_oid, (List *list, Oid item), (list, item))
EREPORTS(List *, list_copy, (const List *list), (list))
EREPORTS(List *, list_concat, (List *list, const List *other), (list, other))
EREPORTS(HTAB *, hash_create, (const char *name, long size, const HASHCTL *control, int flags), (name, size, control, flags))
EREPORTS(void *, hash_search, (HTAB *table, const void *key, HASHACTION action, bool *found), (table, key, action, found))

/* statements */
EREPORTS(int, SPI_connect, (void), ())
EREPORTS(int, SPI_connect_ext, (int options), (options))
EREPORTS(int, SPI_execute, (const char *sql, bool read_only, long limit), (sql, read_only, limit))
EREPORTS(int, SPI_execute_plan, (SPIPlanPtr plan, Datum *values, const char *nulls, bool read_only, long limit), (plan, values, nulls, read_only, limit))
EREPORTS(int, SPI_execute_snapshot,
		 (SPIPlanPtr plan, Datum *values, const char *nulls, Snapshot snapshot, Snapshot check, bool read_only, bool triggers, long limit),
		 (plan, values, nulls, snapshot, check, read_only, triggers, limit))
EREPORTS(int, SPI_execute_with_args,
		 (const char *sql, int n, Oid *types, Datum *values, const char *nulls, bool read_only, long limit),
		 (sql, n, types, values, nulls, read_only, limit))
EREPORTS(SPIPlanPtr, SPI_prepare, (const char *sql, int n, Oid *types), (sql, n, types))
EREPORTS(int, SPI_keepplan, (SPIPlanPtr plan), (plan))
EREPORTS(Relation, table_open, (Oid relation, LOCKMODE mode), (relation, mode))
EREPORTS(Relation, try_table_open, (Oid relation, LOCKMODE mode), (relation, mode))
EREPORTS(void, CatalogTupleInsertWithInfo, (Relation heap, HeapTuple tuple, CatalogIndexState state), (heap, tuple, state))
EREPORTS(void, CatalogTupleUpdate, (Relation heap, ItemPointer tid, HeapTuple tuple), (heap, tid, tuple))
EREPORTS(HeapTuple, heap_form_tuple, (TupleDesc descriptor, Datum *values, bool *isnull), (descriptor, values, isnull))
EREPORTS(HeapTuple, heap_modify_tuple, (HeapTuple tuple, TupleDesc descriptor, Datum *values, bool *isnull, bool *replace),
		 (tuple, descriptor, values, isnull, replace))

/* libraries */
RETURNS(void *, malloc, (size_t size), (size), NULL)
RETURNS(void *, calloc, (size_t n, size_t size), (n, size), NULL)
RETURNS(void *, realloc, (void *pointer, size_t size), (pointer, size), NULL)
RETURNS(CURL *, curl_easy_init, (void), (), NULL)
RETURNS(CURLM *, curl_multi_init, (void), (), NULL)
RETURNS(CURLMcode, curl_multi_add_handle, (CURLM *multi, CURL *easy), (multi, easy), CURLM_OUT_OF_MEMORY)
RETURNS(CURLMcode, curl_multi_socket_action, (CURLM *multi, curl_socket_t socket, int events, int *running), (multi, socket, events, running),
		CURLM_OUT_OF_MEMORY)
RETURNS(struct curl_slist *, curl_slist_append, (struct curl_slist *list, const char *text), (list, text), NULL)
RETURNS(void *, json_tokener_new_ex, (int depth), (depth), NULL)
RETURNS(const char *, json_object_to_json_string_ext, (void *object, int flags), (object, flags), NULL)
RETURNS(pg_cryptohash_ctx *, pg_cryptohash_create, (pg_cryptohash_type type), (type), NULL)
RETURNS(int, pg_cryptohash_init, (pg_cryptohash_ctx *context), (context), -1)
RETURNS(int, pg_cryptohash_update, (pg_cryptohash_ctx *context, const uint8 *data, size_t length), (context, data, length), -1)
RETURNS(int, pg_cryptohash_final, (pg_cryptohash_ctx *context, uint8 *digest, size_t length), (context, digest, length), -1)

/* The options that we set are words, wherever libcurl has them in its list of arguments. */
#undef curl_easy_setopt
#undef curl_multi_setopt
RETURNS(CURLcode, curl_easy_setopt, (CURL *easy, CURLoption option, void *value), (easy, option, value), CURLE_OUT_OF_MEMORY)
RETURNS(CURLMcode, curl_multi_setopt, (CURLM *multi, CURLMoption option, void *value), (multi, option, value), CURLM_OUT_OF_MEMORY)
