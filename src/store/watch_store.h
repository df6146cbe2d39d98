/*-------------------------------------------------------------------------
 *
 * watch_store.h
 *		Storing and dropping watches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_WATCH_STORE_H
#define CS_STORE_WATCH_STORE_H

#include "postgres.h"

#include "store/watch.h"

extern void cs_watch_store_new(CsWatch *watch, char fires);
extern void cs_watch_store_name(int watch);
extern void cs_watch_store_changed(const CsWatch *watch);
extern void cs_watch_store_related(const CsWatch *watch, List *before);
extern void cs_watch_store_drop(int endpoint, int id);
extern void cs_watch_store_abandon(int endpoint, int id);
extern void cs_watch_store_forget(int endpoint, int id);
extern bool cs_watch_store_is_dropped(int id);

/* All below need a transaction and the scope of cs_sql_enter(). */
extern bool cs_watch_store_set_state(int watch, bool broken, const char *reason);
extern void cs_watch_store_guard(int endpoint, int watch, const char *what, const char *reason,
								 int64 contacts);
extern bool cs_watch_store_release(int endpoint, int watch, const char *word, const char *by);
extern bool cs_watch_store_release_removals(int endpoint, int watch, const char *word,
											const char *by);
extern void cs_watch_store_count_removed(int watch, int n);
extern void cs_watch_store_sweep(void);

/* All rows of the source were read once: it is known whose contact has none. */
extern void cs_watch_store_complete(int watch);

#endif							/* CS_STORE_WATCH_STORE_H */
