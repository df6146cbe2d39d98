/*-------------------------------------------------------------------------
 *
 * server.h
 *		Read a foreign server and a role's user mapping into an endpoint.
 *
 * The functions read catalogs, so a transaction must be open.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_SERVER_H
#define CS_PROVIDER_SERVER_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "provider/endpoint.h"

/*
 * Find a server by its name.  Errors out if it does not exist, belongs to
 * another foreign data wrapper, or the role may not use it.
 */
extern Oid	cs_server_find(const char *name, Oid roleid);

/*
 * Read a server and the user mapping of a role, secrets included, into the
 * current memory context.  Errors out if the server does not exist or belongs to
 * another foreign data wrapper, the role may not use it, or an option is missing
 * or invalid.
 */
extern CsEndpoint *cs_server_read(Oid serverid, Oid roleid);

/* Read a server without a user mapping; checks no privileges, reads no secret. */
extern CsEndpoint *cs_server_read_unmapped(Oid serverid);

/*
 * Make an endpoint as a server with these options (a list of DefElem) would be, for a
 * provider that no server need have.  Errors out if an option is missing or invalid.
 */
extern CsEndpoint *cs_server_imagine(const struct CsProvider *provider, List *options);

/* Return what a superuser types to have networks such as "10.0.0.1/32" allowed. */
extern char *cs_server_allow_networks(const char *networks);

#endif							/* CS_PROVIDER_SERVER_H */
