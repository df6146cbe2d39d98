/*-------------------------------------------------------------------------
 *
 * watch_make.h
 *		Making a watch from its definition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_WATCH_MAKE_H
#define CS_STORE_WATCH_MAKE_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "provider/endpoint.h"
#include "store/schedule.h"
#include "store/watch.h"

extern CsWatch *cs_watch_make(Oid source, const CsEndpoint *endpoint, Jsonb *mapping,
							  const char *filter, List *key, const char *on_delete,
							  const CsSchedule *schedule, const char *alias);

#endif							/* CS_STORE_WATCH_MAKE_H */
