/*-------------------------------------------------------------------------
 *
 * message.h
 *		HTTP requests and responses, their headers, and how they travel.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_MESSAGE_H
#define CS_HTTP_MESSAGE_H

#include "postgres.h"

#include "lib/stringinfo.h"

typedef struct CsHeader
{
	const char *name;
	const char *value;
} CsHeader;

#define CS_MAX_HEADERS	16

/* What an error begins with if the host has not shown that it is the one in the URL. */
#define CS_HTTP_UNTRUSTED	"invalid certificate: "

typedef struct CsRequest
{
	const char *method;			/* "POST", "PUT", "GET", "DELETE", "PATCH" */
	char	   *url;
	int			nheaders;		/* the authorization is not among them */
	CsHeader	headers[CS_MAX_HEADERS];
	StringInfoData body;		/* data == NULL: no body */
	const char *idempotency_key;	/* for the call log; the headers have it
									 * as well */
} CsRequest;

typedef struct CsResponse
{
	int			status;			/* HTTP status; 0: no answer */
	const char *error;			/* why there is no answer, or NULL */
	bool		unsent;			/* no answer because there was no connection:
								 * nothing was sent either */
	bool		refused;		/* no answer because the address may not be
								 * connected to */
	const char *headers;		/* lines "name: value\n", names in lower case */
	const char *body;			/* zero-terminated as well */
	size_t		body_len;
	double		received_at;	/* Unix seconds */
} CsResponse;

/* How requests travel to one server; the strings are not copied. */
typedef struct CsHttpOptions
{
	const char *server_name;	/* for error messages */
	const char *auth_header;	/* name of the header that carries the secret */
	bool		auth_in_query;	/* ... or of the parameter of the query, if
								 * the service has no better place for it */
	int			connect_timeout;	/* ms, on the clock of base/clock.h */
	int			timeout;		/* ms, for the whole call */
	const char *proxy;			/* URL, or NULL: none */
	const char *ca_file;		/* certificates to trust, or NULL: the
								 * system's */
	bool		allow_http;		/* plain http to any host, not to loopback
								 * only */
	bool		restricted;		/* only to addresses that base/network.h
								 * allows */
	uint32		networks;		/* the version of that list, if restricted */
} CsHttpOptions;

/* Return the length of the byte order mark that a text begins with, or 0. */
static inline size_t
cs_message_mark_length(const char *text, size_t len)
{
	return len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

/* Append a header; the strings are not copied. */
extern void cs_message_add_header(CsRequest *request, const char *name, const char *value);

/*
 * Turn the raw header section of a response into lines "name: value\n" in
 * their original order, palloc'd.  Names are in lower case, values are trimmed,
 * folded lines are joined, and all of it is printable ASCII.  Lines that are not
 * header fields are dropped; repeated fields are kept.
 */
extern char *cs_message_normalize_headers(const char *raw, size_t len);

/* Replace bytes other than printable ASCII by '?'; at most "limit" bytes, palloc'd. */
extern char *cs_message_printable(const char *raw, size_t len, size_t limit);

/* Return a header's value, palloc'd, or NULL.  "name" is in lower case. */
extern char *cs_message_header(const CsResponse *response, const char *name);

/* Return the service's clock when it answered, in Unix seconds, or -1. */
extern double cs_message_date(const CsResponse *response);

/*
 * Return the seconds by which the service's clock is ahead of ours; 0: too few to
 * tell, as the header has no fractions of a second and the answer takes time, or
 * unknown.
 */
extern double cs_message_clock_ahead(const CsResponse *response);

/*
 * Return the seconds to wait according to Retry-After (a number, 0 included, or
 * an HTTP date), or -1 if there is none.  The value is not clamped.
 */
extern double cs_message_retry_after(const CsResponse *response);

/* Return the seconds until the Unix time in the named header, at least 0, or -1. */
extern double cs_message_reset_after(const CsResponse *response, const char *name);

#endif							/* CS_HTTP_MESSAGE_H */
