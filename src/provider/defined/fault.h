/*-------------------------------------------------------------------------
 *
 * fault.h
 *		What is wrong with a definition, and reading its members.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_FAULT_H
#define CS_PROVIDER_DEFINED_FAULT_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "http/json.h"
#include "provider/option.h"

/*
 * The state of compiling a definition.  Only the first fault is kept; the functions
 * that compile a part return something harmless after it.
 */
typedef struct CsCompiler
{
	StringInfoData path;		/* JSON pointer of the part that is read */
	char	   *fault;			/* what would be right, or NULL: no fault yet */
	char	   *fault_path;		/* where it is not */

	const CsOption *options;	/* that the definition declares */
	uint32		fields;			/* CS_FIELD_BIT()s that it carries */
	const char *const *steps;	/* names of the steps of the action; NULL:
								 * none */
	int			nsteps;
	int			step;			/* the one that is compiled */

	bool		several;		/* outside of the loop over a batch: there is
								 * no single contact */
	bool		in_list;		/* within a loop over a list */
	bool		in_pull;
	bool		says_yes;		/* a template says that a person wants mail */
	bool		says_if_new;
	bool		says_no;
	int			nodes;
	int			references;		/* to values of a contact */
	int			literals;		/* bytes of constant text in bodies */
	int			lists;			/* loops over lists, and the constant text in
								 * them */
	int			list_constants;
} CsCompiler;

/* Begin, and end, the part that is called so, or is the n-th of an array. */
extern int	cs_fault_enter(CsCompiler *compiler, const char *name);
extern int	cs_fault_enter_item(CsCompiler *compiler, int index);
extern void cs_fault_leave(CsCompiler *compiler, int mark);

/* Note a fault of the present part: the end of a sentence, "must be ...". */
extern void cs_fault_set(CsCompiler *compiler, const char *fmt,...) cs_attribute_printf(2, 3);

/* How a member of an object is read into a field of a struct. */
typedef enum CsMemberKind
{
	CS_MEMBER_TEXT,				/* const char * */
	CS_MEMBER_WORD,				/* int: the place among the words */
	CS_MEMBER_INT,				/* int */
	CS_MEMBER_NUMBER,			/* double */
	CS_MEMBER_BOOL,				/* bool */
	CS_MEMBER_WORDS,			/* const char **, ends with NULL */
	CS_MEMBER_JSON,				/* CsJson *; whether it was there is not to be
								 * told from null */
	CS_MEMBER_READ				/* whatever the function makes of it */
} CsMemberKind;

typedef struct CsMember
{
	const char *name;			/* NULL ends a table */
	CsMemberKind kind;
	size_t		offset;
	const char *const *words;
	double		min;
	double		max;			/* of a number, or of the length of a text */
	bool		required;
	void		(*read) (CsCompiler *compiler, CsJson *json, void *field);
} CsMember;

/* Read an object; names that are not in the table are a fault. */
extern void cs_fault_read(CsCompiler *compiler, CsJson *json, const CsMember *members, void *target);

/* Is the value an array, or an object?  If not, that is a fault. */
extern bool cs_fault_is_array(CsCompiler *compiler, CsJson *json, int max);
extern bool cs_fault_is_object(CsCompiler *compiler, CsJson *json);

/* Return the text of a string; "" after a fault. */
extern const char *cs_fault_string(CsCompiler *compiler, CsJson *json, int max);

#endif							/* CS_PROVIDER_DEFINED_FAULT_H */
