/*-------------------------------------------------------------------------
 *
 * registry.h
 *		Which providers there are, and which options each of them has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_REGISTRY_H
#define CS_PROVIDER_REGISTRY_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "provider/provider.h"

/* A definition, as it is stored. */
typedef struct CsRegistryText
{
	char	   *stamp;			/* tells it from all others of the same name */
	char	   *utf8;			/* NULL: it is not read, see below */
} CsRegistryText;

/*
 * Where definitions are found: sets "found" to the one that a role's servers use under a
 * name, and returns true, or returns false; if "member", or else one of a role that this
 * role is a member of.  One that "known" (NULL: none) says to be known by its stamp is not
 * read.  "names": append ", name" for each that there is.
 */
typedef struct CsRegistrySource
{
	bool		(*find) (const char *name, Oid roleid, bool member,
						 bool (*known) (const char *name, const char *stamp), CsRegistryText *found);
	void		(*names) (StringInfo list, Oid roleid);
} CsRegistrySource;

extern void cs_registry_set_source(const CsRegistrySource *source);

/*
 * Find the provider that servers of a role have under a name: a built-in one, or else a
 * definition, which is compiled if this version of it was not yet, and lives as long as
 * the current memory context.  Return NULL if there is none.  Raises an error if the
 * definition is faulty.
 */
extern const CsProvider *cs_registry_find(const char *name, Oid roleid);

/*
 * The same for whoever creates or alters a server, which may belong to a role that this
 * role is a member of.
 */
extern const CsProvider *cs_registry_find_for(const char *name, Oid roleid);

/* The same as cs_registry_find(), but NULL if the definition is faulty. */
extern const CsProvider *cs_registry_look(const char *name, Oid roleid);

/* Return the text of a definition, in UTF-8, or NULL. */
extern char *cs_registry_text(const char *name, Oid roleid);

/* Is it the name of a built-in provider? */
extern bool cs_registry_is_built_in(const char *name);

/* Return the built-in providers; NULL ends the list. */
extern const CsProvider *const *cs_registry_built_in(void);

/* Return the names of all providers for a hint, "a, b, c", palloc'd. */
extern char *cs_registry_names(Oid roleid);

/* Compile a definition, or raise an error that says what is wrong with it. */
extern const CsProvider *cs_registry_compile(const char *name, const char *utf8);

/*
 * List the options in a place, those of one provider or, if it is NULL, of all;
 * a list of const CsOption *, without duplicate names.
 */
extern List *cs_registry_options(const CsProvider *provider, CsOptionPlace place);

/* Find an option of one provider or, if it is NULL, of any; else return NULL. */
extern const CsOption *cs_registry_find_option(const CsProvider *provider, const char *name,
											   CsOptionPlace place);

/* Return the option that holds the secret, or NULL. */
extern const CsOption *cs_registry_secret(const CsProvider *provider);

#endif							/* CS_PROVIDER_REGISTRY_H */
