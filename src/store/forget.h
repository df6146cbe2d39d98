/*-------------------------------------------------------------------------
 *
 * forget.h
 *		Showing and erasing everything that is stored of a person.
 *
 * Every function needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_FORGET_H
#define CS_STORE_FORGET_H

#include "postgres.h"

typedef enum CsForgetKind
{
	CS_FORGET_CONTACT,
	CS_FORGET_FAILURE,
	CS_FORGET_CHANGE,
	CS_FORGET_REMOTE_CONTACT,
	CS_FORGET_TRACE,
	CS_FORGET_CALL,				/* which stays, without the address */
	CS_FORGET_KINDS
} CsForgetKind;

extern const char *const cs_forget_kinds[CS_FORGET_KINDS];

typedef struct CsForgotten
{
	int64		rows[CS_FORGET_KINDS];
	int			nrows;			/* of sources, that were known to be the
								 * person */
	int		   *watches;		/* never 0 */
	char	  **keys;
} CsForgotten;

/*
 * Forget a person at the endpoints of a role and of the roles whose privileges it
 * has, or a row of a watch and the contact that no other row stands for.  Unless
 * "suppression" is false, contactsync.consent remembers that consent is closed.  It is forgotten again when the calls in flight have
 * ended.
 */
extern void cs_forget_email(const char *email, Oid roleid, bool suppression, CsForgotten *forgotten);
extern void cs_forget_row(int endpoint, int watch, const char *key, bool suppression,
						  CsForgotten *forgotten);

/* Forget the outcomes of calls that were in flight then. */
extern void cs_forget_sweep(void);

/*
 * List what is stored of a person, in the order of time, as rows of the last
 * statement.  Return how many.
 */
extern uint64 cs_forget_list(const char *email, Oid roleid);

#endif							/* CS_STORE_FORGET_H */
