/*-------------------------------------------------------------------------
 *
 * dirty_set.h
 *		The keys of watched and related rows that a transaction changes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_CAPTURE_DIRTY_SET_H
#define CS_CAPTURE_DIRTY_SET_H

#include "postgres.h"

#include "executor/tuptable.h"

#include "store/row_key.h"

extern void cs_dirty_set_init(void);

/* "related": rows of that related table have changed; 0: of the source. */
extern void cs_dirty_set_add(int endpoint, int watch, int related, int ncolumns, CsKeyColumn *columns,
							 TupleTableSlot *slot);
extern void cs_dirty_set_mark(int endpoint, int watch, int related, Oid tgoid);

#endif							/* CS_CAPTURE_DIRTY_SET_H */
