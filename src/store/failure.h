/*-------------------------------------------------------------------------
 *
 * failure.h
 *		The contacts that were given up on, contactsync.failure.
 *
 * Every function needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_FAILURE_H
#define CS_STORE_FAILURE_H

#include "postgres.h"

#include "store/contact_state.h"

extern bool cs_failure_exists(int endpoint, int watch);
extern void cs_failure_store(int endpoint, int watch, int n, const CsStored *stored);
extern void cs_failure_clear(int endpoint, int watch, int n, char **keys);
extern void cs_failure_prune(void);

#endif							/* CS_STORE_FAILURE_H */
