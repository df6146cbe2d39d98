/*-------------------------------------------------------------------------
 *
 * place.h
 *		Text with placeholders, and the places of a request that it can be in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_PLACE_H
#define CS_PROVIDER_DEFINED_PLACE_H

#include "postgres.h"

#include "provider/defined/definition.h"
#include "provider/defined/fault.h"

/* Which decides what can be there, and how it is escaped. */
typedef enum CsPlace
{
	CS_IN_BASE_URL,				/* options that are labels */
	CS_IN_PATH,					/* anything, percent-encoded */
	CS_IN_QUERY,				/* likewise; also of a form */
	CS_IN_HEADER,				/* options and the idempotency key */
	CS_IN_BODY					/* anything, as a JSON string */
} CsPlace;

/* Compile "text {placeholder} text". */
extern void cs_place_compile(CsCompiler *compiler, const char *text, CsPlace place, CsText *out);

/* Check the name of a header that a definition sets. */
extern void cs_place_check_header(CsCompiler *compiler, const char *name);

/* Compile what is between the braces. */
extern void cs_place_compile_piece(CsCompiler *compiler, const char *name, CsPlace place, CsPiece *piece);

/* Return the value of a piece, or NULL if it has none. */
extern const char *cs_place_value(const CsPiece *piece, const CsScope *scope);

/*
 * Append a text, escaped for a place; without the pieces that have no value.  In a
 * path, what would change its meaning becomes "-".
 */
extern void cs_place_render(StringInfo out, const CsText *text, CsPlace place, const CsScope *scope);

/* Return the first piece that has no value, or none that can be in a path; NULL: all have. */
extern const CsPiece *cs_place_missing(const CsText *text, CsPlace place, const CsScope *scope);

/* Return what a piece is called in a definition. */
extern const char *cs_place_name(const CsPiece *piece);

#endif							/* CS_PROVIDER_DEFINED_PLACE_H */
