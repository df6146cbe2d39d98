/*-------------------------------------------------------------------------
 *
 * transfer.c
 *		One HTTP call: its libcurl handle, its request, its answer.
 *
 * The options set on a libcurl handle ensure three things.  An answer is small,
 * complete and from the host in the URL, or there is no answer.  Secrets go
 * nowhere else: no redirects, no proxy from the environment, no .netrc, no
 * cookies.  And a call takes no longer than its timeout.
 *
 * libcurl's callbacks must neither palloc nor ereport, because that would
 * longjmp over libcurl's frames.  So buffers are malloc'd and bounded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/fd.h"

#include "base/clock.h"
#include "base/contactsync.h"
#include "base/settings.h"
#include "http/transfer.h"
#include "http/url.h"

#define FIRST_BUFFER	1024	/* bytes first allocated for a buffer */
#define KEPT_BUFFER		(64 * 1024) /* bytes that an idle call may hold */
#define MAX_ERROR		400		/* bytes of an error text */

#define BODY_TOO_LONG	"answer larger than 8 MB"
#define HEADER_TOO_LONG "header of the answer larger than 64 kB"

typedef struct CsHttpCall CsHttpCall;

typedef enum BufferResult
{
	BUFFER_OK,
	BUFFER_FULL,				/* it would exceed the limit */
	BUFFER_NO_MEMORY
} BufferResult;

/* ---------- buffers ---------- */

/* Append bytes, all or none of them; do not exceed "limit". */
static BufferResult
append_bytes(CsBuffer *buffer, const char *data, size_t len, size_t limit)
{
	if (len > limit || buffer->len > limit - len)
		return BUFFER_FULL;

	if (buffer->len + len > buffer->room)
	{
		size_t		room = Max(Max(buffer->room * 2, buffer->len + len), FIRST_BUFFER);
		char	   *grown = realloc(buffer->data, room);

		if (grown == NULL)
			return BUFFER_NO_MEMORY;
		buffer->data = grown;
		buffer->room = room;
	}
	if (len > 0)
		memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	return BUFFER_OK;
}

/* Empty a buffer, and free its memory if that is more than "keep" bytes. */
static void
reset_buffer(CsBuffer *buffer, size_t keep)
{
	buffer->len = 0;
	if (buffer->room > keep)
	{
		free(buffer->data);
		buffer->data = NULL;
		buffer->room = 0;
	}
}

/* Convert milliseconds on the extension's clock to real ones, at least 1. */
static int
real_ms(int ms)
{
	return Max((int) (ms / cs_clock_speed), 1);
}

/* ---------- callbacks of libcurl: no ereport, no palloc ---------- */

/* May the call connect to the address?  Note it if not. */
static bool
may_connect(CsHttpCall *call, const CsAddress *address)
{
	if (!call->restricted || cs_network_is_allowed(address))
		return true;
	if (call->nrefused < CS_MAX_REFUSED)
		call->refused[call->nrefused++] = *address;
	return false;
}

/*
 * Open a socket that child processes do not inherit and that fd.c counts.  Have
 * the kernel close it when the peer has vanished; otherwise libcurl would reuse
 * an HTTP/2 connection on which every call times out.
 */
static curl_socket_t
open_callback(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	CsHttpCall *call = arg;
	CsAddress	to;
	int			fd;

	if (call->restricted &&
		(!cs_network_take_address(&address->addr, &to) || !may_connect(call, &to)))
		return CURL_SOCKET_BAD;
	if (!AcquireExternalFD())
	{
		call->cut = "too many open connections";
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype, address->protocol);
	if (fd < 0)
	{
		ReleaseExternalFD();
		return CURL_SOCKET_BAD;
	}
	call->connected = true;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
#ifdef TCP_USER_TIMEOUT
	{
		unsigned int timeout = call->timeout;

		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	}
#endif
	return fd;
}

static int
close_callback(void *arg, curl_socket_t fd)
{
	ReleaseExternalFD();
	return close(fd);
}

#if LIBCURL_VERSION_NUM >= 0x075000
/*
 * Check the connection that the request is about to be sent on: another call may
 * have opened it, which was allowed more.
 */
static int
request_callback(void *arg, char *remote, char *local, int remote_port, int local_port)
{
	CsHttpCall *call = arg;
	CsAddress	address;

	if (call->restricted &&
		(!cs_network_read_address(remote, &address) || !may_connect(call, &address)))
	{
		call->connected = false;
		return CURL_PREREQFUNC_ABORT;
	}
	return CURL_PREREQFUNC_OK;
}
#endif

/*
 * Append received bytes to a buffer.  If they do not fit, note why and have
 * libcurl end the call.
 */
static size_t
take(CsHttpCall *call, CsBuffer *buffer, const char *data, size_t len, size_t limit,
	 const char *too_long)
{
	switch (append_bytes(buffer, data, len, limit))
	{
		case BUFFER_OK:
			return len;
		case BUFFER_FULL:
			call->cut = too_long;
			break;
		case BUFFER_NO_MEMORY:
			call->cut = "out of memory";
			break;
	}
	return len + 1;				/* anything but len */
}

static size_t
body_callback(char *data, size_t size, size_t n, void *arg)
{
	CsHttpCall *call = arg;

	return take(call, &call->body, data, size * n, CS_HTTP_MAX_BODY,
				BODY_TOO_LONG);
}

/*
 * Receive one header line.  Each status line begins a response; the last one
 * counts, because those before it are interim responses (1xx).
 */
static size_t
header_callback(char *data, size_t size, size_t n, void *arg)
{
	CsHttpCall *call = arg;
	size_t		len = size * n;

	call->header_bytes += len;
	if (call->header_bytes > CS_HTTP_MAX_HEADER)
	{
		call->cut = HEADER_TOO_LONG;
		return len + 1;
	}
	if (call->header_done)
		return len;
	if (len > 5 && memcmp(data, "HTTP/", 5) == 0)
	{
		const char *space = memchr(data, ' ', len);
		int			i;

		call->header.len = 0;
		call->status = 0;
		for (i = 1; i <= 3 && space != NULL && space + i < data + len; i++)
			call->status = call->status * 10 + (space[i] - '0');
		return len;
	}
	if (call->status >= 200 && (data[0] == '\r' || data[0] == '\n'))
		call->header_done = true;
	return take(call, &call->header, data, len, CS_HTTP_MAX_HEADER,
				HEADER_TOO_LONG);
}

/* ---------- the request ---------- */

void
cs_transfer_check(const CsHttpOptions *options, const CsRequest *request, const char *authorization)
{
	const char *problem = cs_url_problem(request->url, options->allow_http);
	int			i;

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("URL of a request to server \"%s\" %s", options->server_name, problem)));
	for (i = -1; i < request->nheaders; i++)
	{
		const char *value = i < 0 ? authorization : request->headers[i].value;

		if (value != NULL && strpbrk(value, "\r\n") != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("header \"%s\" of a request to server \"%s\" has more than one line",
							i < 0 ? options->auth_header : request->headers[i].name,
							options->server_name)));
	}
}

/*
 * Add "name: value" to the headers of a request.  Without a value, add "name:",
 * which keeps libcurl from adding that header itself.  Return false when out of
 * memory.
 */
static bool
add_header(CsHttpCall *call, const char *name, const char *value)
{
	size_t		room = strlen(name) + (value != NULL ? strlen(value) : 0) + 3;
	char	   *line = malloc(room);
	struct curl_slist *longer;

	if (line == NULL)
		return false;
	snprintf(line, room, "%s:%s%s", name, value != NULL ? " " : "", value != NULL ? value : "");
	longer = curl_slist_append(call->headers, line);
	explicit_bzero(line, room);
	free(line);
	if (longer == NULL)
		return false;
	call->headers = longer;
	return true;
}

/* Copy the headers and the body of a request; return false when out of memory. */
static bool
copy_request(CsHttpCall *call, const CsHttpOptions *options, const CsRequest *request,
			 const char *authorization)
{
	bool		has_type = false;
	int			i;

	for (i = 0; i < request->nheaders; i++)
	{
		has_type |= pg_strcasecmp(request->headers[i].name, "Content-Type") == 0;
		if (!add_header(call, request->headers[i].name, request->headers[i].value))
			return false;
	}
	if (authorization != NULL && !options->auth_in_query && !add_header(call, options->auth_header, authorization))
		return false;
	if (!has_type && !add_header(call, "Content-Type", NULL))
		return false;
	if (!add_header(call, "Expect", NULL))
		return false;
	return request->body.data == NULL ||
		append_bytes(&call->request, request->body.data, request->body.len,
					 SIZE_MAX) == BUFFER_OK;
}

/* Set an option unless an earlier one failed. */
#define SET(option, value) \
	do { \
		if (rc == CURLE_OK) \
			rc = curl_easy_setopt(call->easy, option, value); \
	} while (0)

/* Set the options that are the same for every call. */
static CURLcode
set_constant_options(CsHttpCall *call)
{
	CURLcode	rc = CURLE_OK;

	SET(CURLOPT_PRIVATE, (char *) call);
	SET(CURLOPT_ERRORBUFFER, call->error);
	SET(CURLOPT_WRITEFUNCTION, body_callback);
	SET(CURLOPT_WRITEDATA, call);
	SET(CURLOPT_HEADERFUNCTION, header_callback);
	SET(CURLOPT_HEADERDATA, call);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_callback);
	SET(CURLOPT_OPENSOCKETDATA, call);
	SET(CURLOPT_CLOSESOCKETFUNCTION, close_callback);
#if LIBCURL_VERSION_NUM >= 0x075000
	SET(CURLOPT_PREREQFUNCTION, request_callback);
	SET(CURLOPT_PREREQDATA, call);
#endif
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NOPROGRESS, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	SET(CURLOPT_USERAGENT, CS_EXTENSION "/" CS_VERSION);

	/*
	 * "": all that libcurl can decode; CS_HTTP_MAX_BODY applies to what is
	 * decoded
	 */
	SET(CURLOPT_ACCEPT_ENCODING, "");
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) CS_HTTP_MAX_BODY);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	return rc;
}

/* Set the options that depend on the server. */
static CURLcode
set_server_options(CsHttpCall *call, const CsHttpOptions *options, const char *url)
{
	/* http to loopback passed cs_url_problem() */
	bool		plain = pg_strncasecmp(url, "http:", 5) == 0;
	CURLcode	rc = CURLE_OK;

	call->restricted = options->restricted;
#if LIBCURL_VERSION_NUM < 0x075000
	/* use no connection that another call has opened */
	SET(CURLOPT_FRESH_CONNECT, call->restricted ? 1L : 0L);
#endif
	call->timeout = real_ms(options->timeout);
	SET(CURLOPT_TIMEOUT_MS, (long) call->timeout);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) real_ms(options->connect_timeout));
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, plain ? "http" : "https");
#else
	SET(CURLOPT_PROTOCOLS, (long) (plain ? CURLPROTO_HTTP : CURLPROTO_HTTPS));
#endif
	/* "" makes libcurl ignore the environment */
	SET(CURLOPT_PROXY, options->proxy != NULL ? options->proxy : "");
	SET(CURLOPT_NOPROXY, "");
	if (options->ca_file != NULL)
	{
		SET(CURLOPT_CAINFO, options->ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	return rc;
}

/*
 * Set the URL, with the secret as a parameter if it belongs there.  Nobody else has that
 * URL: what is logged and shown is that of the request.
 */
static CURLcode
set_url(CsHttpCall *call, const CsHttpOptions *options, const char *url, const char *authorization)
{
	size_t		room;
	char	   *whole;
	char	   *to;
	CURLcode	rc;

	if (authorization == NULL || !options->auth_in_query)
		return curl_easy_setopt(call->easy, CURLOPT_URL, url);
	room = strlen(url) + strlen(options->auth_header) + 3 * strlen(authorization) + 3;
	whole = malloc(room);
	if (whole == NULL)
		return CURLE_OUT_OF_MEMORY;
	to = whole + snprintf(whole, room, "%s%c%s=", url, strchr(url, '?') ? '&' : '?', options->auth_header);
	for (const unsigned char *from = (const unsigned char *) authorization; *from; from++)
		to += snprintf(to, 4, "%%%02X", *from);
	rc = curl_easy_setopt(call->easy, CURLOPT_URL, whole);
	explicit_bzero(whole, room);
	free(whole);
	return rc;
}

/* Set method, URL, headers and body. */
static CURLcode
set_request_options(CsHttpCall *call, const CsHttpOptions *options, const CsRequest *request,
					const char *authorization)
{
	bool		is_post = strcmp(request->method, "POST") == 0;
	CURLcode	rc = set_url(call, options, request->url, authorization);

	SET(CURLOPT_HTTPHEADER, call->headers);
	if (is_post || request->body.data != NULL)
	{
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) call->request.len);
		SET(CURLOPT_POSTFIELDS, call->request.len > 0 ? call->request.data : "");
	}
	else
		SET(CURLOPT_HTTPGET, 1L);
	if (!is_post)
		SET(CURLOPT_CUSTOMREQUEST, request->method);
	return rc;
}

CURLcode
cs_transfer_prepare(CsHttpCall *call, const CsHttpOptions *options,
					const CsRequest *request, const char *authorization)
{
	CURLcode	rc = CURLE_OUT_OF_MEMORY;

	curl_easy_reset(call->easy);
	call->header.len = 0;
	call->body.len = 0;
	call->header_bytes = 0;
	call->header_done = false;
	call->status = 0;
	call->connected = false;
	call->nrefused = 0;
	call->cut = NULL;
	call->error[0] = '\0';

	if (copy_request(call, options, request, authorization))
		rc = set_constant_options(call);
	if (rc == CURLE_OK)
		rc = set_server_options(call, options, request->url);
	if (rc == CURLE_OK)
		rc = set_request_options(call, options, request, authorization);
	return rc;
}

/* ---------- the call as a whole ---------- */

CsHttpCall *
cs_transfer_new(void)
{
	CsHttpCall *call = calloc(1, sizeof(CsHttpCall));

	if (call == NULL)
		return NULL;
	call->easy = curl_easy_init();
	if (call->easy == NULL)
	{
		free(call);
		return NULL;
	}
	return call;
}

/* Wipe the secrets of a call, and free what only the request needed. */
static void
forget_request(CsHttpCall *call)
{
	struct curl_slist *line;

	for (line = call->headers; line != NULL; line = line->next)
		explicit_bzero(line->data, strlen(line->data));
	curl_slist_free_all(call->headers);
	call->headers = NULL;
	if (call->request.data != NULL)
		explicit_bzero(call->request.data, call->request.len);
	reset_buffer(&call->request, KEPT_BUFFER);
}

void
cs_transfer_end(CsHttpCall *call, CURLcode rc)
{
	long		sent = 0;

	if (rc == CURLE_FILESIZE_EXCEEDED)
		call->cut = BODY_TOO_LONG;
	if (rc == CURLE_OUT_OF_MEMORY && !call->header_done && call->cut == NULL)
		call->cut = "out of memory, or a line of the header too long";	/* libcurl does not say
																		 * which */
	if (rc != CURLE_OK || call->status < 200)
		call->status = 0;		/* an incomplete answer is no answer */
	if (call->status == 0 && call->error[0] == '\0')
		strlcpy(call->error, rc == CURLE_OK ? "no final HTTP status" : curl_easy_strerror(rc),
				sizeof(call->error));
	curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &sent);
	call->unsent = call->status == 0 && sent == 0;
	call->untrusted = rc == CURLE_PEER_FAILED_VERIFICATION;
	call->received_at = cs_clock_now();
	forget_request(call);
}

/* Return why there is no answer, palloc'd. */
static char *
describe_error(const CsHttpCall *call)
{
	const char *error = call->cut != NULL ? call->cut : call->error;
	char	   *printable = cs_message_printable(error, strlen(error), MAX_ERROR);
	char		text[CS_NETWORK_TEXT];
	StringInfoData out;

	if (call->untrusted)
		printable = psprintf(CS_HTTP_UNTRUSTED "%s", printable);
	if (call->nrefused == 0)
		return printable;
	initStringInfo(&out);
	if (call->connected)
		appendStringInfo(&out, "%s; ", printable);
	appendStringInfoString(&out, "addresses are " CS_NETWORK_REFUSAL);
	for (int i = 0; i < call->nrefused; i++)
		appendStringInfo(&out, "%s%s", i > 0 ? ", " : "", cs_network_print_address(&call->refused[i], text));
	return out.data;
}

void
cs_transfer_answer(const CsHttpCall *call, CsResponse *response)
{
	bool		whole = call->status != 0;
	size_t		len = whole ? call->body.len : 0;
	char	   *body = palloc(len + 1);

	if (len > 0)
		memcpy(body, call->body.data, len);
	body[len] = '\0';

	response->status = call->status;
	response->error = whole ? NULL : describe_error(call);
	/* if one of the addresses was connected to, it is a failure like others */
	response->refused = !whole && call->nrefused > 0 && !call->connected;
	response->unsent = call->unsent;
	response->headers = cs_message_normalize_headers(call->header.data, whole ? call->header.len : 0);
	response->body = body;
	response->body_len = len;
	response->received_at = call->received_at;
}

void
cs_transfer_shrink(CsHttpCall *call)
{
	reset_buffer(&call->header, KEPT_BUFFER);
	reset_buffer(&call->body, KEPT_BUFFER);
}

void
cs_transfer_free(CsHttpCall *call)
{
	forget_request(call);
	WITH_SIGNALS_BLOCKED(curl_easy_cleanup(call->easy));
	reset_buffer(&call->request, 0);
	reset_buffer(&call->header, 0);
	reset_buffer(&call->body, 0);
	free(call);
}
