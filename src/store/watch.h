/*-------------------------------------------------------------------------
 *
 * watch.h
 *		Making, dropping and loading of watches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_WATCH_H
#define CS_STORE_WATCH_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "provider/endpoint.h"
#include "store/definition.h"

extern CsWatch *cs_watch_define(Oid source, const CsEndpoint *endpoint, Jsonb *mapping,
								const char *filter, List *key, const char *on_delete,
								const CsSchedule *schedule);
extern void cs_watch_create(CsWatch *watch, bool always);
extern const char *cs_watch_on_delete_word(const CsWatch *watch);
extern void cs_watch_store(const CsWatch *watch);
extern void cs_watch_drop(int endpoint, int id);
extern void cs_watch_forget(int endpoint, int id);
extern bool cs_watch_is_dropped(int id);
extern List *cs_watch_load_all(void);
extern CsWatch *cs_watch_find(Oid source, const char *server, Oid roleid);
extern bool cs_watch_covers(int endpoint, int id, Oid relid);

#endif							/* CS_STORE_WATCH_H */
