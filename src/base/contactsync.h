/*-------------------------------------------------------------------------
 *
 * contactsync.h
 *		The terms that all files use.
 *
 * provider	one of the services that contacts are sent to
 * endpoint	one account at a provider, as one role uses it: a foreign server
 *			and that role's user mapping
 * contact	the canonical record that all providers share
 * watch	a source table mirrored to an endpoint
 * change	a queued "this row, or this contact, may differ"
 * call		one HTTP request
 * outcome	what one call said about one contact
 * failure	a contact that was given up on, with the reason
 * lane		the changes of one watch, or the direct upserts of one endpoint
 *
 * Calls only go down: api and worker call delivery and capture, those call store,
 * store calls provider, and provider calls http.  base is for all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_CONTACTSYNC_H
#define CS_BASE_CONTACTSYNC_H

#include "postgres.h"

#define CS_EXTENSION		"contactsync"

/* The schema of the tables and views; that of the functions is the user's choice. */
#define CS_SCHEMA			"contactsync"

/* How long to wait before a process that died is started again. */
#define CS_RESTART_SECONDS	5

/* pg_attribute_printf() suits only the compiler that the server was built with. */
#if defined(__clang__)
#define cs_attribute_printf(f, a)	__attribute__((format(printf, f, a)))
#else
#define cs_attribute_printf(f, a)	pg_attribute_printf(f, a)
#endif

#endif							/* CS_BASE_CONTACTSYNC_H */
