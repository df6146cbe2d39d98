/*-------------------------------------------------------------------------
 *
 * url.c
 *		Check which URLs may be called, and encode parts of them; pure.
 *
 * A URL decides where secrets are sent, so the syntax accepted here is narrow.
 * An accepted URL can be read in one way only; libcurl cannot find another host
 * in it than the checks did.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "lib/stringinfo.h"

#include "http/url.h"

#define MAX_HOST	253

typedef struct Url
{
	const char *host;			/* without brackets */
	size_t		host_len;
	const char *rest;			/* path, query and fragment; may be "" */
} Url;

/* Skip letters, digits and the characters in "allowed". */
static const char *
skip(const char *at, const char *allowed)
{
	while ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
		   (*at >= '0' && *at <= '9') ||
		   (*at != '\0' && strchr(allowed, *at) != NULL))
		at++;
	return at;
}

/* Skip ":port" if it is there; return NULL if the port is invalid. */
static const char *
skip_port(const char *at)
{
	int			port = 0;
	int			digits = 0;

	if (*at != ':')
		return at;

	for (at++; *at >= '0' && *at <= '9' && digits < 6; at++, digits++)
		port = port * 10 + (*at - '0');
	return digits > 0 && port >= 1 && port <= 65535 ? at : NULL;
}

/*
 * Parse "host[:port]rest"; return false if the authority contains anything
 * else.
 */
static bool
read_authority(const char *at, Url *url)
{
	const char *end;

	if (*at == '[')
	{
		url->host = at + 1;
		end = skip(url->host, ":.");
		url->host_len = end - url->host;
		if (*end++ != ']')
			return false;
	}
	else
	{
		url->host = at;
		end = skip(url->host, "-._");
		url->host_len = end - url->host;
	}
	if (url->host_len == 0 || url->host_len > MAX_HOST)
		return false;

	url->rest = skip_port(end);
	return url->rest != NULL && (*url->rest == '\0' || strchr("/?#", *url->rest) != NULL);
}

/*
 * Is the host this machine, whatever a name server says?  libcurl resolves
 * "localhost" without asking one.
 */
static bool
is_loopback(const Url *url)
{
	char		host[INET6_ADDRSTRLEN];
	struct in_addr v4;
	struct in6_addr v6;

	if (url->host_len >= sizeof(host))
		return false;
	memcpy(host, url->host, url->host_len);
	host[url->host_len] = '\0';

	if (pg_strcasecmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Does the URL have only characters allowed in a request line, and a sane length? */
static bool
is_printable(const char *at)
{
	if (strlen(at) > CS_MAX_URL)
		return false;
	for (; *at != '\0'; at++)
	{
		if (*at <= ' ' || *at > '~' || strchr("\"<>\\^`{|}", *at) != NULL)
			return false;
	}
	return true;
}

const char *
cs_url_problem(const char *value, bool allow_http)
{
	const char *well_formed = "must be a URL such as \"https://api.example.com\", in ASCII "
	"and without user name or password";
	Url			url;
	bool		plain = pg_strncasecmp(value, "http://", 7) == 0;

	if (!plain && pg_strncasecmp(value, "https://", 8) != 0)
		return "must begin with \"https://\"";
	if (!is_printable(value) || !read_authority(value + (plain ? 7 : 8), &url))
		return well_formed;
	if (plain && !allow_http && !is_loopback(&url))
		return "must begin with \"https://\"; \"http://\" is for loopback addresses, "
			"unless a superuser sets contactsync.allow_http";
	return NULL;
}

const char *
cs_url_base_problem(const char *value, bool allow_http)
{
	const char *problem = cs_url_problem(value, allow_http);

	if (problem == NULL && strpbrk(value, "?#") != NULL)
		problem = "must be a URL without \"?\" and \"#\", for paths are appended to it";
	return problem;
}

const char *
cs_url_proxy_problem(const char *value)
{
	static const char *const schemes[] = {"http://", "https://", "socks5h://", NULL};
	Url			url;
	int			i;

	for (i = 0; schemes[i] != NULL; i++)
	{
		size_t		len = strlen(schemes[i]);

		if (pg_strncasecmp(value, schemes[i], len) == 0 && is_printable(value) &&
			read_authority(value + len, &url) &&
			(*url.rest == '\0' || strcmp(url.rest, "/") == 0))
			return NULL;
	}
	return "must be \"none\" or a URL such as \"http://proxy.example.com:3128\", "
		"with http, https or socks5h and without user name, password or path";
}

/* Parse what was accepted before. */
static Url
read_accepted(const char *value)
{
	Url			url = {"", 0, ""};
	const char *authority = strstr(value, "://");

	if (authority)
		(void) read_authority(authority + 3, &url);
	return url;
}

const char *
cs_url_proxied_problem(const char *value, const char *proxy, bool allow_http)
{
	Url			url = read_accepted(proxy);

	if (allow_http || pg_strncasecmp(value, "http://", 7) != 0 || is_loopback(&url))
		return NULL;
	return "must begin with \"https://\" if the proxy is another machine, unless a superuser sets "
		"contactsync.allow_http";
}

char *
cs_url_host(const char *value)
{
	Url			url = read_accepted(value);

	return pnstrdup(url.host, url.host_len);
}

char *
cs_url_encode(const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	for (const unsigned char *p = (const unsigned char *) text; *p; p++)
	{
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			(*p >= '0' && *p <= '9') || strchr("-._~", *p) != NULL)
			appendStringInfoCharMacro(&out, *p);
		else
			appendStringInfo(&out, "%%%02X", *p);
	}
	return out.data;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = pg_ascii_tolower((unsigned char) c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode a part of a query; NULL if it has a NUL byte. */
static char *
decode(const char *text, size_t len)
{
	char	   *copy = pnstrdup(text, len);
	char	   *to = copy;

	for (const char *from = copy; *from; from++)
	{
		int			high = *from == '%' ? hex_digit(from[1]) : -1;
		int			low = high >= 0 ? hex_digit(from[2]) : -1;

		if (low < 0)
		{
			*to++ = *from == '+' ? ' ' : *from;
			continue;
		}
		if (high == 0 && low == 0)
			return NULL;
		*to++ = (char) (high << 4 | low);
		from += 2;
	}
	*to = '\0';
	return copy;
}

char *
cs_url_parameter(const char *url, const char *name)
{
	const char *pair = url + strcspn(url, "?#");

	/* each begins after ? or & */
	while (*pair == '?' || *pair == '&')
	{
		size_t		len = strcspn(++pair, "&#");
		size_t		name_len = strcspn(pair, "=&#");
		char	   *found = decode(pair, name_len);

		if (found && strcmp(found, name) == 0 && pair[name_len] == '=')
			return decode(pair + name_len + 1, len - name_len - 1);
		pair += len;
	}
	return NULL;
}

const char *
cs_url_path(const char *url)
{
	const char *path = strstr(url, "://");

	path = path ? strchr(path + 3, '/') : NULL;
	return path ? path : "/";
}
