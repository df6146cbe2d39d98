/*-------------------------------------------------------------------------
 *
 * url.h
 *		Which URLs contactsync talks to; pure.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_URL_H
#define CS_HTTP_URL_H

#include "postgres.h"

#define CS_MAX_URL	8192

/*
 * NULL if the text is a URL that may be called, else what it must be: the end
 * of a sentence (constant).  Only https, but http as well to loopback, and
 * anywhere if allow_http.  Deliberately narrower than RFC 3986, so that no two
 * readers can disagree on the host: printable ASCII, no user or password.
 */
extern const char *cs_url_problem(const char *url, bool allow_http);

/* The same for the part that paths are appended to: no query, no fragment. */
extern const char *cs_url_base_problem(const char *url, bool allow_http);

/* The same for a proxy, http://, https:// or socks5h://, without a path. */
extern const char *cs_url_proxy_problem(const char *url);

#endif							/* CS_HTTP_URL_H */
