/*-------------------------------------------------------------------------
 *
 * pull.h
 *		Learning who is at the provider, and who opted out there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_PULL_H
#define CS_DELIVERY_PULL_H

#include "postgres.h"

#include "delivery/account.h"
#include "http/http.h"
#include "provider/provider.h"

typedef struct CsPuller
{
	CsRequestOwner owner;
	CsAccount  *account;
	MemoryContext context;
	MemoryContext page_context; /* of the page that was received last */
	CsPull		pull;			/* the page that is wanted, or was received */
	TimestampTz pulled_at;		/* identifies this pull */
	int			round;			/* of listing all pages, from 1 */
	bool		by_page;		/* pages are numbered */
	int64		total;			/* contacts, according to the last page */
	double		ahead;			/* see cs_message_clock_ahead() */
	bool		in_flight;
	CsHttpCall *transfer;		/* while it is in flight */
	double		sent_at;
	int			failures;		/* of the page that is wanted, in a row */
	double		not_before;		/* it is not asked for before, after a failure */
	bool		halted;			/* the account, by an answer to this */
	const char *rows;			/* of the page, to be stored, or NULL */
	const char *next_cursor;
	bool		last;			/* the page is the last one */
	bool		done;			/* it is over */
	const char *unlearnable;	/* why nothing can be listed, or NULL */
	double		store_at;		/* not before: another session is pulling */
} CsPuller;

/* Needs no transaction. */
extern void cs_pull_init(CsAccount *account, const CsEndpointState *state, double now);
extern bool cs_pull_has_to_wait(const CsAccount *account, const CsContact *contact, bool remembered);
extern bool cs_pull_may_wait(const CsAccount *account, const char *identity);
extern void cs_pull_add_waiting(CsAccount *account, const CsContact *contact);
extern double cs_pull_ready_at(const CsAccount *account, double now);
extern bool cs_pull_has_turn(const CsAccount *account, double now);
extern void cs_pull_request(CsAccount *account, CsHttp *http, double now);
extern void cs_pull_abort(CsAccount *account, CsHttp *http);
extern void cs_pull_update(CsAccount *account, const CsEndpointState *state, CsHttp *http,
						   bool anew, double now);
extern void cs_pull_answered(CsPuller *puller, const CsResponse *response, double now);

/* These need one. */
extern bool cs_pull_is_to_begin(const CsAccount *account, double now);
extern void cs_pull_begin(CsAccount *account);

/* The provider may have contacts that we do not know of: list them before anybody is
 * taken for new.  Needs the scope of cs_sql_enter(). */
extern void cs_pull_learn_again(CsAccount *account);
extern bool cs_pull_has_to_store(const CsAccount *account, double now);
extern void cs_pull_store(CsAccount *account, double now);

#endif							/* CS_DELIVERY_PULL_H */
