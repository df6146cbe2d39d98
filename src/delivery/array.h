/*-------------------------------------------------------------------------
 *
 * array.h
 *		A growing array.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ARRAY_H
#define CS_DELIVERY_ARRAY_H

#include "postgres.h"

typedef struct CsArray
{
	void	   *items;
	int			n;
	int			max;
} CsArray;

/* Add an item, zeroed, at the end.  The items may move; they are allocated in the
 * context. */
extern void *cs_array_add(CsArray *array, MemoryContext context, Size size);

#endif							/* CS_DELIVERY_ARRAY_H */
