/*-------------------------------------------------------------------------
 *
 * array.c
 *		A growing array.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/array.h"

/* Room of an array that has its first item. */
#define FIRST_ROOM	64

void *
cs_array_add(CsArray *array, MemoryContext context, Size size)
{
	void	   *item;

	if (array->n == array->max)
	{
		array->max = array->max ? array->max * 2 : FIRST_ROOM;
		array->items = array->items ? repalloc_huge(array->items, array->max * size) :
			MemoryContextAlloc(context, array->max * size);
	}
	item = (char *) array->items + size * array->n++;
	return memset(item, 0, size);
}
