/*-------------------------------------------------------------------------
 *
 * digest.h
 *		Digests of text, as services want them.
 *
 * They need no transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_DIGEST_H
#define CS_BASE_DIGEST_H

#include "postgres.h"

#include "common/cryptohash.h"

/* Return the digest in hexadecimal, palloc'd; PG_MD5 or PG_SHA256. */
extern char *cs_digest_hex(pg_cryptohash_type type, const char *data, size_t len);

/* Return the HMAC with SHA-256, palloc'd, in base64 or in hexadecimal. */
extern char *cs_digest_hmac(const char *key, const char *data, size_t len, bool base64);

/* Return a text in base64, palloc'd. */
extern char *cs_digest_base64(const void *data, size_t len);

#endif							/* CS_BASE_DIGEST_H */
