/*-------------------------------------------------------------------------
 *
 * import.h
 *		SQL functions that import and reconcile.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_IMPORT_H
#define CS_API_IMPORT_H

#include "postgres.h"

#include "store/scan_store.h"

/* The words of dry_run, by CsDifference. */
extern const char *const cs_import_outcomes[CS_DIFFERENCES];

/*
 * Return how many contacts contactsync_reconcile() would send or remove.  Needs
 * an active snapshot.
 */
extern int64 cs_import_count_differing(Oid source, const char *server);

#endif							/* CS_API_IMPORT_H */
