/*-------------------------------------------------------------------------
 *
 * key_argument.h
 *		Keys of source rows as arguments of SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_KEY_ARGUMENT_H
#define CS_API_KEY_ARGUMENT_H

#include "postgres.h"

#include "fmgr.h"

#include "store/definition.h"

/*
 * The keys that the arguments from "arg" on mean, of type "any", in the form in
 * which they are stored, palloc'd.  One of several columns is an array of them,
 * or the text that the views show.  Sets *n.  Errors: null, or no such key can be.
 */
extern char **cs_key_argument_read(FunctionCallInfo fcinfo, int arg, const CsWatch *watch, int *n);

/* The same of one value. */
extern char *cs_key_argument_of_value(const CsWatch *watch, Datum value, Oid type);

#endif							/* CS_API_KEY_ARGUMENT_H */
