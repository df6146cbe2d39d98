/*-------------------------------------------------------------------------
 *
 * exchange.h
 *		What has an answer coming: a call about contacts, or for a token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_EXCHANGE_H
#define CS_EXCHANGE_H

#include "postgres.h"

typedef enum CsExchangeKind
{
	CS_EXCHANGE_CALL,			/* a CsCall */
	CS_EXCHANGE_REFRESH			/* a CsRefresh */
} CsExchangeKind;

/* The first member of either, so that an answer finds its owner. */
typedef struct CsExchange
{
	CsExchangeKind kind;
} CsExchange;

#endif							/* CS_EXCHANGE_H */
