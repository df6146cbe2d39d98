/*-------------------------------------------------------------------------
 *
 * argument.h
 *		Arguments of SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_ARGUMENT_H
#define CS_API_ARGUMENT_H

#include "postgres.h"

#include "fmgr.h"

#include "store/watch.h"

/* Raise an error if the argument is null. */
extern void cs_argument_require(FunctionCallInfo fcinfo, int arg, const char *name);

/* Return an argument of type text, palloc'd; NULL for null. */
extern char *cs_argument_text(FunctionCallInfo fcinfo, int arg);

/*
 * Return the key of a source row that an argument of type "any" denotes, in the
 * form in which keys are stored, palloc'd.  A key of several columns is an array
 * of them, or the text that the views show.  Null and what cannot be a key of
 * the watch's table are errors.
 */
extern char *cs_argument_key(FunctionCallInfo fcinfo, int arg, const CsWatch *watch);

/*
 * Return the keys that the elements of an array denote; sets *n.  Of a key of several
 * columns, an element is its text as the views show it, or the array has two dimensions.
 */
extern char **cs_argument_key_array(ArrayType *array, const CsWatch *watch, int *n);

/*
 * Return what an argument "always" of type "any" says, true, false or 'replica', as
 * pg_trigger.tgenabled has it; null is false.
 */
extern char cs_argument_fires(FunctionCallInfo fcinfo, int arg);

/* Return an array of names as a list of strings. */
extern List *cs_argument_names(ArrayType *array);

/* Return the keys that the arguments from "arg" on denote; sets *n. */
extern char **cs_argument_keys(FunctionCallInfo fcinfo, int arg, const CsWatch *watch, int *n);

#endif							/* CS_API_ARGUMENT_H */
