/*-------------------------------------------------------------------------
 *
 * related_make.h
 *		Making the related tables of a watch from what a user names.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_RELATED_MAKE_H
#define CS_STORE_RELATED_MAKE_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "store/watch.h"

/*
 * Read the argument "related" of a watch that has been made, checked as the current
 * user; what is the same as in "before" (of CsRelated) keeps its id.
 */
extern void cs_related_make(CsWatch *watch, Jsonb *argument, List *before);

/* Have a watch that has been made keep these, checked again. */
extern void cs_related_make_again(CsWatch *watch, List *before);

#endif							/* CS_STORE_RELATED_MAKE_H */
