/*-------------------------------------------------------------------------
 *
 * mapping.h
 *		Completing and checking the mapping of a watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_MAPPING_H
#define CS_STORE_MAPPING_H

#include "postgres.h"

#include "nodes/bitmapset.h"
#include "utils/rel.h"

#include "provider/endpoint.h"
#include "store/watch.h"

extern void cs_mapping_default(CsWatch *watch, Relation source, uint32 fields);
extern void cs_mapping_add_remaining(CsWatch *watch, Relation source, const Bitmapset *used);
extern void cs_mapping_check_expressions(CsWatch *watch, Relation source, int from, Bitmapset **used);
extern void cs_mapping_check_fields(const CsWatch *watch, Relation source, const CsEndpoint *endpoint);
extern bool cs_mapping_has_default(Relation source, int i);
extern const char *cs_mapping_wanted_type(CsField field, Oid type, const char **example);

#endif							/* CS_STORE_MAPPING_H */
