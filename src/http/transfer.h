/*-------------------------------------------------------------------------
 *
 * transfer.h
 *		One HTTP call: its libcurl handle, its request, its answer.
 *
 * Only http.c and transfer.c include this header; no other file sees libcurl.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_TRANSFER_H
#define CS_HTTP_TRANSFER_H

#include "postgres.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>

#include "lib/ilist.h"
#include "libpq/pqsignal.h"

#include "base/network.h"
#include "http/message.h"

/* An answer that is longer than this is cut off and counts as no answer. */
#define CS_HTTP_MAX_BODY	(8 * 1024 * 1024)
#define CS_HTTP_MAX_HEADER	(64 * 1024)

/* So many addresses that a call may not connect to are named. */
#define CS_MAX_REFUSED		4

/* A bounded, malloc'd buffer.  A zeroed one is valid and empty. */
typedef struct CsBuffer
{
	char	   *data;			/* not zero-terminated */
	size_t		len;
	size_t		room;
} CsBuffer;

/* One call; http.h declares the type, but not what is in it. */
struct CsHttpCall
{
	dlist_node	node;			/* in one of the lists of CsHttp */
	bool		flying;			/* libcurl has got it */
	CURL	   *easy;
	void	   *owner;
	int			timeout;		/* ms of real time */

	struct curl_slist *headers; /* of the request, with the secret */
	CsBuffer	request;		/* its body */

	CsBuffer	header;			/* of the last response, as it came */
	CsBuffer	body;
	size_t		header_bytes;	/* of all responses */
	bool		header_done;	/* what follows are trailers */
	int			status;			/* of the last response; 0: it is incomplete */
	bool		unsent;			/* there was no connection */
	bool		untrusted;		/* because of the certificate */
	bool		restricted;		/* see CsHttpOptions */
	bool		connected;		/* it has got a socket */
	int			nrefused;		/* addresses that it may not connect to */
	CsAddress	refused[CS_MAX_REFUSED];	/* the first of them */
	const char *cut;			/* why it was cut off, or NULL */
	char		error[CURL_ERROR_SIZE]; /* libcurl's message */
	double		received_at;	/* Unix seconds, by base/clock.h */
};

/* Threads that libcurl starts must not receive the signals of the process. */
#define WITH_SIGNALS_BLOCKED(statement) \
	do { \
		sigset_t	unblocked_; \
		pthread_sigmask(SIG_SETMASK, &BlockSig, &unblocked_); \
		statement; \
		pthread_sigmask(SIG_SETMASK, &unblocked_, NULL); \
	} while (0)

/* Report an error if the request must not be sent, without quoting its contents. */
extern void cs_transfer_check(const CsHttpOptions *options, const CsRequest *request,
							  const char *authorization);

/* Make a call that is in no list; return NULL when out of memory. */
extern struct CsHttpCall *cs_transfer_new(void);

/* Prepare a new or reused call for its request, and copy that. */
extern CURLcode cs_transfer_prepare(struct CsHttpCall *call, const CsHttpOptions *options,
									const CsRequest *request, const char *authorization);

/* Note the result of a call that libcurl is done with, and wipe the secrets. */
extern void cs_transfer_end(struct CsHttpCall *call, CURLcode rc);

/* Fill in the response, in the current memory context; may report an error. */
extern void cs_transfer_answer(const struct CsHttpCall *call, CsResponse *response);

/* Free the memory that an idle call does not need. */
extern void cs_transfer_shrink(struct CsHttpCall *call);

extern void cs_transfer_free(struct CsHttpCall *call);

#endif							/* CS_HTTP_TRANSFER_H */
