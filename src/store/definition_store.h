/*-------------------------------------------------------------------------
 *
 * definition_store.h
 *		Definitions of providers: the table, and the files that are shipped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_DEFINITION_STORE_H
#define CS_STORE_DEFINITION_STORE_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Who wrote a definition. */
typedef enum CsDefinitionOrigin
{
	CS_DEFINITION_OWN,
	CS_DEFINITION_SHARED,		/* by the owner of the extension */
	CS_DEFINITION_SHIPPED
} CsDefinitionOrigin;

typedef struct CsDefinitionRow
{
	char	   *name;
	CsDefinitionOrigin origin;
	Oid			roleid;			/* InvalidOid: it is a file */
	char	   *text;			/* in UTF-8 */
} CsDefinitionRow;

/* Have the registry find definitions here. */
extern void cs_definition_store_init(void);

/* Return those that servers of a role can use, CsDefinitionRows without duplicate names. */
extern List *cs_definition_store_list(Oid roleid);

/*
 * Store a definition of a role, or delete it.  Store errors out if the role has no right
 * to make servers, or has too many; delete returns false if there is none.
 */
extern void cs_definition_store_put(const char *name, Oid roleid, Datum definition);
extern bool cs_definition_store_delete(const char *name, Oid roleid);

/* Return the OIDs of the servers that use, or would use, the definition of a role. */
extern List *cs_definition_store_servers(const char *name, Oid roleid);

/* Return the names of the fields that watches of a server map. */
extern List *cs_definition_store_mapped(Oid serverid);

/* Delete the definitions of roles that do not exist any more, within cs_sql_enter(). */
extern void cs_definition_store_sweep(void);

#endif							/* CS_STORE_DEFINITION_STORE_H */
