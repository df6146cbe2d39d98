/*-------------------------------------------------------------------------
 *
 * forget.h
 *		Everything that is held on one person: to be shown, or erased.
 *
 * All of it needs a transaction and the scope of cs_sql_enter().
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
 * Effect: nothing is known any more of a person at the endpoints of the roles
 * that a role is, or of a row of a watch.  Whoever delivers has it forgotten
 * again when calls that are in flight have ended.
 */
extern void cs_forget_email(const char *email, Oid roleid, CsForgotten *forgotten);
extern void cs_forget_row(int endpoint, int watch, const char *key, CsForgotten *forgotten);

/* Effect: outcomes of calls that were in flight then are forgotten as well. */
extern void cs_forget_sweep(void);

/* What is held on a person and what happened to it, in the order of time, as
 * rows of the last statement.  Returns how many. */
extern uint64 cs_forget_list(const char *email, Oid roleid);

#endif							/* CS_STORE_FORGET_H */
