/*-------------------------------------------------------------------------
 *
 * transfer.h
 *		One HTTP call: its libcurl handle, its request, its answer.
 *
 * Between httpcall.c and http.c only; they are the ones that see libcurl.
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

#include "http/bounded.h"
#include "provider/provider.h"

/* An answer longer than this is cut off and counts as none. */
#define CS_HTTP_MAX_BODY	(8 * 1024 * 1024)
#define CS_HTTP_MAX_HEADER	(64 * 1024)

/* What http.h names, for those who use that must not look into it. */
struct CsHttpCall
{
	dlist_node	node;			/* in one of the lists of CsHttp */
	bool		flying;			/* libcurl has it */
	CURL	   *easy;
	void	   *owner;
	int			timeout;		/* ms of real time */

	struct curl_slist *headers; /* of the request, with the secret */
	CsBuffer	request;		/* its body */

	CsBuffer	header;			/* of the last response, as it came */
	CsBuffer	body;
	size_t		header_bytes;	/* of all responses */
	bool		header_done;	/* what follows are trailers */
	int			status;			/* of the last response; 0 when it ended badly */
	bool		unsent;			/* there was no connection to send it on */
	const char *cut;			/* why we cut it off, or NULL */
	char		error[CURL_ERROR_SIZE]; /* what libcurl says */
	double		received_at;	/* Unix seconds on our clock */
};

/* Signals of the process must not reach threads that libcurl starts. */
#define WITH_SIGNALS_BLOCKED(statement) \
	do { \
		sigset_t	unblocked_; \
		pthread_sigmask(SIG_SETMASK, &BlockSig, &unblocked_); \
		statement; \
		pthread_sigmask(SIG_SETMASK, &unblocked_, NULL); \
	} while (0)

/* Ereport if the request must not be sent, without repeating what is in it. */
extern void cs_transfer_check(const CsEndpoint *endpoint, const CsRequest *request,
							  const char *authorization);

/* A call in no list; NULL when out of memory. */
extern struct CsHttpCall *cs_transfer_new(void);

/* Make it ready to fly; it may have flown before.  Copies what it is given. */
extern CURLcode cs_transfer_prepare(struct CsHttpCall *call, const CsEndpoint *endpoint,
									const CsRequest *request, const char *authorization);

/* It has landed: see what came of it, and wipe the secrets. */
extern void cs_transfer_end(struct CsHttpCall *call, CURLcode rc);

/* Fill in the response, in the current memory context; may ereport. */
extern void cs_transfer_answer(const struct CsHttpCall *call, CsResponse *response);

/* Give back the memory that an idle call need not hold. */
extern void cs_transfer_shrink(struct CsHttpCall *call);

extern void cs_transfer_free(struct CsHttpCall *call);

#endif							/* CS_HTTP_TRANSFER_H */
