/*-------------------------------------------------------------------------
 *
 * remaining_row.h
 *		contactsync.remaining_row: rows that were forgotten and are still there.
 *
 * Such a row stands for its contact until it is read again, although nothing else is
 * known of it.  The contact is kept as a hash.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_REMAINING_ROW_H
#define CS_STORE_REMAINING_ROW_H

#include "postgres.h"

/*
 * An SQL condition: such a row r, for which another condition holds, stands for the contact
 * of t, which has endpoint and upsert_key; or for one with its address, if one of the two is
 * known by that.  Where there is none, no hash is made, which would make the key of them.
 */
#define CS_SQL_REMAINS(t, condition) \
	"(EXISTS (SELECT FROM contactsync.remaining_row r WHERE r.endpoint = " t ".endpoint)" \
	" AND EXISTS (SELECT FROM (SELECT contactsync.consent_hash(" t ".upsert_key) AS contact," \
	" (SELECT contactsync.consent_hash(o.email) FROM contactsync.contact o WHERE o.endpoint = " t ".endpoint" \
	" AND o.upsert_key = " t ".upsert_key AND o.email IS NOT NULL) AS address OFFSET 0) h JOIN contactsync.remaining_row r" \
	" ON r.endpoint = " t ".endpoint AND (r.contact IN (h.contact, h.address) OR r.address = h.contact) WHERE " condition "))"

/* A row, and the contact that it stands for; texts in the database's encoding. */
typedef struct CsRemainingRow
{
	const char *key;
	const char *upsert_key;
	const char *address;		/* of the contact, or NULL */
} CsRemainingRow;

/* All need a transaction and the scope of cs_sql_enter(). */
extern void cs_remaining_row_store(int endpoint, int watch, int n, const CsRemainingRow *rows);

/*
 * The rows have been read again.  Unless they have gone, what was forgotten and is not swept
 * yet stays: they may have been read before that.  Return whether any were noted.
 */
extern bool cs_remaining_row_remove(int watch, int n, char **keys, bool gone);

/* Does one stand for the contact?  The address is that at the provider.  Needs no scope. */
extern bool cs_remaining_row_stands(int endpoint, const char *upsert_key, const char *address);

#endif							/* CS_STORE_REMAINING_ROW_H */
