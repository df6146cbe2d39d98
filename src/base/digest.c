/*-------------------------------------------------------------------------
 *
 * digest.c
 *		Digests of text, as services want them.
 *
 * With OpenSSL, a hash context belongs to a resource owner.  No transaction need be
 * open here that would have one, so each digest has its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hmac.h"
#include "common/md5.h"
#include "common/sha2.h"
#include "utils/resowner.h"

#include "base/digest.h"

typedef struct Input
{
	pg_cryptohash_type type;
	const char *key;			/* NULL: a plain digest */
	const char *data;
	size_t		len;
} Input;

static bool
hash(const Input *input, uint8 *digest, size_t digest_len)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(input->type);
	bool		ok = context != NULL && pg_cryptohash_init(context) == 0 &&
	pg_cryptohash_update(context, (const uint8 *) input->data, input->len) == 0 &&
	pg_cryptohash_final(context, digest, digest_len) == 0;

	pg_cryptohash_free(context);
	return ok;
}

static bool
sign(const Input *input, uint8 *digest, size_t digest_len)
{
	pg_hmac_ctx *context = pg_hmac_create(input->type);
	bool		ok = context != NULL &&
	pg_hmac_init(context, (const uint8 *) input->key, strlen(input->key)) == 0 &&
	pg_hmac_update(context, (const uint8 *) input->data, input->len) == 0 &&
	pg_hmac_final(context, digest, digest_len) == 0;

	pg_hmac_free(context);
	return ok;
}

static void
compute(const Input *input, uint8 *digest, size_t digest_len)
{
	ResourceOwner old = CurrentResourceOwner;
	ResourceOwner owner = ResourceOwnerCreate(NULL, "contactsync digest");
	volatile bool ok = false;

	CurrentResourceOwner = owner;
	PG_TRY();
	{
		ok = input->key ? sign(input, digest, digest_len) : hash(input, digest, digest_len);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = old;
	}
	PG_END_TRY();
	ResourceOwnerDelete(owner);
	if (!ok)
		elog(ERROR, "could not compute a digest");
}

static char *
hex(const uint8 *digest, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	char	   *text = palloc(2 * len + 1);

	for (size_t i = 0; i < len; i++)
	{
		text[2 * i] = digits[digest[i] >> 4];
		text[2 * i + 1] = digits[digest[i] & 15];
	}
	text[2 * len] = '\0';
	return text;
}

char *
cs_digest_hex(pg_cryptohash_type type, const char *data, size_t len)
{
	Input		input = {type, NULL, data, len};
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	size_t		digest_len = type == PG_MD5 ? MD5_DIGEST_LENGTH : PG_SHA256_DIGEST_LENGTH;

	compute(&input, digest, digest_len);
	return hex(digest, digest_len);
}

char *
cs_digest_hmac(const char *key, const char *data, size_t len, bool base64)
{
	Input		input = {PG_SHA256, key, data, len};
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	compute(&input, digest, sizeof(digest));
	return base64 ? cs_digest_base64(digest, sizeof(digest)) : hex(digest, sizeof(digest));
}

char *
cs_digest_base64(const void *data, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8 *from = data;
	char	   *text = palloc((len + 2) / 3 * 4 + 1);
	char	   *to = text;

	for (size_t i = 0; i < len; i += 3)
	{
		uint32		bits = from[i] << 16 | (i + 1 < len ? from[i + 1] << 8 : 0) | (i + 2 < len ? from[i + 2] : 0);

		*to++ = digits[bits >> 18];
		*to++ = digits[bits >> 12 & 63];
		*to++ = i + 1 < len ? digits[bits >> 6 & 63] : '=';
		*to++ = i + 2 < len ? digits[bits & 63] : '=';
	}
	*to = '\0';
	return text;
}
