/*-------------------------------------------------------------------------
 *
 * email.c
 *		Normalize and validate email addresses; pure, UTF-8.
 *
 * Most providers identify a contact by its email address, so two spellings of an
 * address must become one.  An invalid address must not be sent, because some
 * providers refuse the whole batch.  A valid address loses nothing but its letter
 * case, which the providers ignore as well.
 *
 * The result does not depend on the database's locale or encoding: an address
 * gives the same key everywhere, and contactsync_normalize_email() can be
 * IMMUTABLE.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/text.h"
#include "provider/email.h"

/* RFC 5321, in bytes. */
#define MAX_ADDRESS		254
#define MAX_LOCAL_PART	64
#define MAX_LABEL		63

typedef struct CodeRange
{
	pg_wchar	first;
	pg_wchar	last;
} CodeRange;

/*
 * Letters outside ASCII that have a lower-case form which is the same in every
 * language and as long in UTF-8.  In ranges with a step of 2, upper and lower
 * case alternate.  Letters whose case depends on the language or changes their
 * length (the Turkish i, the sharp s) are left as they are.
 */
static const struct
{
	CodeRange	upper;
	int			step;
	int			to_lower;
}			cases[] = {
	{{0x00C0, 0x00D6}, 1, 32}, {{0x00D8, 0x00DE}, 1, 32},	/* Latin */
	{{0x0100, 0x012E}, 2, 1}, {{0x0132, 0x0136}, 2, 1}, {{0x0139, 0x0147}, 2, 1},
	{{0x014A, 0x0176}, 2, 1}, {{0x0178, 0x0178}, 1, -121}, {{0x0179, 0x017D}, 2, 1},
	{{0x01CD, 0x01DB}, 2, 1}, {{0x01DE, 0x01EE}, 2, 1}, {{0x01F8, 0x021E}, 2, 1},
	{{0x0222, 0x0232}, 2, 1},
	{{0x0386, 0x0386}, 1, 38}, {{0x0388, 0x038A}, 1, 37}, {{0x038C, 0x038C}, 1, 64},	/* Greek */
	{{0x038E, 0x038F}, 1, 63}, {{0x0391, 0x03A1}, 1, 32}, {{0x03A3, 0x03AB}, 1, 32},
	{{0x0400, 0x040F}, 1, 80}, {{0x0410, 0x042F}, 1, 32}, {{0x0460, 0x0480}, 2, 1}, /* Cyrillic */
	{{0x048A, 0x04BE}, 2, 1}, {{0x04C1, 0x04CD}, 2, 1}, {{0x04D0, 0x052E}, 2, 1},
	{{0x0531, 0x0556}, 1, 48},	/* Armenian */
	{{0x1E00, 0x1E94}, 2, 1}, {{0x1EA0, 0x1EFE}, 2, 1}, /* Latin for Vietnamese
														 * and others */
	{{0xFF21, 0xFF3A}, 1, 32}	/* full width */
};

/*
 * White space in quoted-printable or percent-encoding, in lower case.  A single
 * "=" at the end is a soft line break.
 */
static const char *const artifacts[] = {
	"=20", "=09", "=0d", "=0a", "=c2=a0", "=a0", "%20", "%09", "%0d", "%0a", "%c2%a0", "%a0"
};

/* Return the length of the invisible character at the beginning, or 0. */
static int
invisible_at(const char *text)
{
	if (*text == '\0' || !cs_text_is_invisible(utf8_to_unicode((const unsigned char *) text)))
		return 0;
	return pg_utf_mblen((const unsigned char *) text);
}

/* Return the length of the invisible character at the end, or 0. */
static int
invisible_before(const char *text, int len)
{
	int			start = len - 1;

	while (start > 0 && ((unsigned char) text[start] & 0xC0) == 0x80)
		start--;
	if (start < 0 || !cs_text_is_invisible(utf8_to_unicode((const unsigned char *) text + start)))
		return 0;
	return len - start;
}

/* Return the length of the artifact at the beginning or the end, or 0. */
static int
artifact_at(const char *text, int len, bool at_end)
{
	char		sign;

	if (at_end && len > 0 && text[len - 1] == '=')
		return 1;
	if (len < 3)
		return 0;
	sign = at_end ? text[len - 3] : text[0];
	if (sign != '=' && sign != '%')
		return 0;
	for (int i = 0; i < (int) lengthof(artifacts); i++)
	{
		int			n = (int) strlen(artifacts[i]);

		if (n <= len &&
			pg_strncasecmp(at_end ? text + len - n : text, artifacts[i], n) == 0)
			return n;
	}
	return 0;
}

/*
 * Trim both ends repeatedly, because "=20" may precede a blank.  At the beginning,
 * an artifact could be part of a valid address, so it is removed only if the part
 * before the @ does not become empty; no domain ends with an artifact.
 */
static char *
trim(const char *text)
{
	int			len = (int) strlen(text);
	int			n;

	while (len > 0 &&
		   ((n = invisible_before(text, len)) > 0 ||
			(n = artifact_at(text, len, true)) > 0))
		len -= n;
	while (len > 0 &&
		   ((n = invisible_at(text)) > 0 ||
			((n = artifact_at(text, len, false)) > 0 && n < len && text[n] != '@')))
	{
		text += n;
		len -= n;
	}
	return pnstrdup(text, len);
}

static pg_wchar
lower(pg_wchar c)
{
	for (int i = 0; i < (int) lengthof(cases); i++)
	{
		if (c < cases[i].upper.first)
			break;
		if (c <= cases[i].upper.last)
		{
			if ((c - cases[i].upper.first) % cases[i].step == 0)
				return c + cases[i].to_lower;
			break;
		}
	}
	return c;
}

char *
cs_email_trim(const char *email)
{
	return trim(email);
}

char *
cs_email_normalize(const char *email)
{
	char	   *result = trim(email);
	unsigned char *p = (unsigned char *) result;

	while (*p)
	{
		if (!IS_HIGHBIT_SET(*p))
		{
			if (*p >= 'A' && *p <= 'Z')
				*p += 'a' - 'A';
			p++;
		}
		else
		{
			int			n = pg_utf_mblen(p);
			pg_wchar	before = utf8_to_unicode(p);
			pg_wchar	after = lower(before);

			if (after != before)
				unicode_to_utf8(after, p);
			p += n;
		}
	}
	return result;
}

/*
 * Sets of ASCII characters as bit maps: RFC 5322 atext and the dot (letters,
 * digits and .!#$%&'*+-/=?^_`{|}~), and those of a label (letters, digits and -).
 */
static const uint64 local_chars[2] = {
	UINT64CONST(0xA3FFECFA00000000), UINT64CONST(0x7FFFFFFFC7FFFFFE)
};
static const uint64 label_chars[2] = {
	UINT64CONST(0x03FF200000000000), UINT64CONST(0x07FFFFFE07FFFFFE)
};

/* Characters outside ASCII are in both sets. */
static inline bool
is_one_of(const uint64 *set, unsigned char c)
{
	return IS_HIGHBIT_SET(c) || (set[c / 64] >> (c % 64)) & 1;
}

static const char *
local_part_problem(const char *local, int len)
{
	if (len == 0)
		return "has nothing before the @";
	if (len > MAX_LOCAL_PART)
		return "has more than 64 bytes before the @";
	if (local[0] == '.' || local[len - 1] == '.')
		return "has a dot at an end of the part before the @";
	for (int i = 0; i < len; i++)
	{
		if (local[i] == '.' && local[i + 1] == '.')
			return "has two dots in a row";
		if (!is_one_of(local_chars, (unsigned char) local[i]))
			return psprintf("has the character %c before the @", local[i]);
	}
	return NULL;
}

static const char *
label_problem(const char *label, int len)
{
	if (len == 0)
		return "has an empty part between dots in its domain";
	if (len > MAX_LABEL)
		return "has a part of more than 63 bytes in its domain";
	if (label[0] == '-' || label[len - 1] == '-')
		return "has a hyphen at an end of a part of its domain";
	for (int i = 0; i < len; i++)
	{
		if (!is_one_of(label_chars, (unsigned char) label[i]))
			return psprintf("has the character %c in its domain", label[i]);
	}
	return NULL;
}

static const char *
domain_problem(const char *domain)
{
	const char *label = domain;
	const char *problem;
	int			len;

	if (*domain == '\0')
		return "has nothing after the @";
	if (*domain == '[')
		return "has an address literal instead of a domain";
	if (strchr(domain, '.') == NULL)
		return "has a domain without a dot";
	for (;;)
	{
		len = (int) strcspn(label, ".");
		problem = label_problem(label, len);
		if (problem)
			return problem;
		if (label[len] == '\0')
			break;
		label += len + 1;
	}
	if ((int) strspn(label, "0123456789") == len)
		return "has a domain that ends with a number";
	return NULL;
}

/* Return a problem if the address contains an invisible character. */
static const char *
invisible_problem(const char *email)
{
	const char *p = email;

	while (*p)
	{
		if (IS_HIGHBIT_SET(*p))
		{
			if (invisible_at(p))
				return "has an invisible character in it";
			p += pg_utf_mblen((const unsigned char *) p);
			continue;
		}
		if (*p == ' ')
			return "has a space in it";
		if (*p < 0x20 || *p == 0x7F)
			return "has a control character in it";
		p++;
	}
	return NULL;
}

const char *
cs_email_problem(const char *email)
{
	int			len = (int) strlen(email);
	const char *at;
	const char *problem;

	if (len == 0)
		return "is empty";
	if (!pg_verify_mbstr(PG_UTF8, email, len, true))
		return "is not valid UTF-8";
	problem = invisible_problem(email);
	if (problem)
		return problem;
	at = strchr(email, '@');
	if (at == NULL)
		return "has no @";
	if (strchr(at + 1, '@') != NULL)
		return "has more than one @";
	if (len > MAX_ADDRESS)
		return "is longer than 254 bytes";
	problem = local_part_problem(email, (int) (at - email));
	return problem ? problem : domain_problem(at + 1);
}
