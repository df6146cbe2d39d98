/*-------------------------------------------------------------------------
 *
 * render.h
 *		What a compiled template is for contacts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_RENDER_H
#define CS_PROVIDER_DEFINED_RENDER_H

#include "postgres.h"

#include "provider/defined/definition.h"

/* Append a body. */
extern void cs_render_body(StringInfo out, const CsNode *node, const CsScope *scope);

#endif							/* CS_PROVIDER_DEFINED_RENDER_H */
