/*-------------------------------------------------------------------------
 *
 * owner.h
 *		What has an answer coming: a call about contacts, or for a token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_EXCHANGE_H
#define CS_DELIVERY_EXCHANGE_H

#include "postgres.h"

typedef enum CsRequestOwnerKind
{
	CS_OWNER_CALL,				/* a CsCall */
	CS_OWNER_REFRESH			/* a CsRefresh */
} CsRequestOwnerKind;

/* The first member of either, so that an answer finds its owner. */
typedef struct CsRequestOwner
{
	CsRequestOwnerKind kind;
} CsRequestOwner;

#endif							/* CS_DELIVERY_EXCHANGE_H */
