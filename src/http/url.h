/*-------------------------------------------------------------------------
 *
 * url.h
 *		Check which URLs may be called, and encode parts of them; pure.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_URL_H
#define CS_HTTP_URL_H

#include "postgres.h"

#define CS_MAX_URL	8192

/*
 * Return NULL if the URL may be called, else what it must be: the end of a
 * sentence, constant.  Allowed are https everywhere, http to loopback addresses,
 * and http everywhere if allow_http.  The syntax is narrower than RFC 3986, so
 * that no two readers can disagree on the host: printable ASCII, without user
 * name or password.
 */
extern const char *cs_url_problem(const char *url, bool allow_http);

/* The same for a base URL, to which paths are appended: no query or fragment. */
extern const char *cs_url_base_problem(const char *url, bool allow_http);

/* The same for a proxy: http://, https:// or socks5h://, without a path. */
extern const char *cs_url_proxy_problem(const char *url);

/*
 * The same for a URL that is called through a proxy: http only if the proxy is on
 * this machine too, because the secret would leave the machine in plain text.
 */
extern const char *cs_url_proxied_problem(const char *url, const char *proxy, bool allow_http);

/* Return the host of a URL or proxy that was accepted, palloc'd, without brackets. */
extern char *cs_url_host(const char *url);

/* Return the value of a parameter of a URL's query, decoded, or NULL. */
extern char *cs_url_parameter(const char *url, const char *name);

/* Percent-encode everything but the unreserved characters of RFC 3986. */
extern char *cs_url_encode(const char *text);

/* Return the path of a URL and what follows it, in the URL itself. */
extern const char *cs_url_path(const char *url);

#endif							/* CS_HTTP_URL_H */
