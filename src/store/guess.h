/*-------------------------------------------------------------------------
 *
 * guess.h
 *		Guessing from the name of a column what it holds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_GUESS_H
#define CS_STORE_GUESS_H

#include "postgres.h"

#include "utils/rel.h"

#include "provider/contact.h"

/* What a column seems to be. */
typedef enum CsGuessKind
{
	CS_GUESS_OTHER,
	CS_GUESS_FIELD,				/* a field of a contact */
	CS_GUESS_CONSENT,			/* it may say who wants mail, ... */
	CS_GUESS_REFUSAL,			/* ... or who does not */
	CS_GUESS_WHOLE_NAME,
	CS_GUESS_SECRET
} CsGuessKind;

/* No guess is as good as the name of the field itself, which has the rank 0. */
#define CS_GUESS_EXACT	0

typedef struct CsGuess
{
	CsGuessKind kind;
	CsField		field;			/* of CS_GUESS_FIELD */
	int			rank;			/* the lower, the better */
} CsGuess;

extern CsGuess cs_guess(const char *name);

/* Return the column that is the best guess for a field, or NULL. */
extern const char *cs_guess_column(Relation source, CsField field);

/* Return the column or field whose name is nearest to that, or NULL. */
extern const char *cs_guess_nearest_column(Relation source, const char *name);
extern const char *cs_guess_nearest_field(const char *name);

#endif							/* CS_STORE_GUESS_H */
