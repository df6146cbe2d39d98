/*-------------------------------------------------------------------------
 *
 * spoken.h
 *		Which change of a row that spoke over another one was sent last.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_SPOKEN_H
#define CS_DELIVERY_SPOKEN_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/hsearch.h"

/* A row that changed at "queued_at" is about to be sent over what another one said. */
extern void cs_spoken_note(HTAB **spoken, MemoryContext context, const char *upsert_key,
						   TimestampTz queued_at);

/* The row that was sent last was queued again since, and is as it was sent. */
extern void cs_spoken_renew(HTAB **spoken, MemoryContext context, const char *upsert_key,
							TimestampTz queued_at);

/* Was a change that was queued then older than what was sent last? */
extern bool cs_spoken_is_newer(HTAB *spoken, const char *upsert_key, TimestampTz queued_at);

/* Was a change that was queued then newer than what was sent so last, and there already? */
extern bool cs_spoken_is_older(HTAB *spoken, const char *upsert_key, TimestampTz queued_at);

#endif							/* CS_DELIVERY_SPOKEN_H */
