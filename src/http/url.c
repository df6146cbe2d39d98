/*-------------------------------------------------------------------------
 *
 * url.c
 *		Which URLs contactsync talks to; pure.
 *
 * An option that says where secrets are sent deserves a narrow reader.  What
 * passes here has one reading only, so libcurl cannot see another host in it
 * than we do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "http/url.h"

#define MAX_HOST	253

typedef struct Url
{
	const char *host;			/* without brackets */
	size_t		host_len;
	const char *rest;			/* path, query and fragment; may be "" */
} Url;

/*
 * The end of a run of characters that all belong to "allowed" or are letters
 * or digits.
 */
static const char *
skip(const char *at, const char *allowed)
{
	while ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
		   (*at >= '0' && *at <= '9') ||
		   (*at != '\0' && strchr(allowed, *at) != NULL))
		at++;
	return at;
}

/*
 * Read ":port" if there is one; NULL if it is no port.
 */
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
 * Read "host[:port]rest" of "//host[:port]rest" and see that nothing else is
 * in it.
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
 * Does the host mean this machine whatever a name server says?  libcurl
 * resolves "localhost" by itself.
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

/*
 * Only characters that a request line may carry, and not too many of them?
 */
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
