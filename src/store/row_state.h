/*-------------------------------------------------------------------------
 *
 * row_state.h
 *		contactsync.source_row: which contact a source row stands for.
 *
 * One row per watch and key.  Several source rows can stand for one contact; each
 * has the digest of its own mapped payload, so that a row that did not change
 * does not speak again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_ROW_STATE_H
#define CS_STORE_ROW_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* What is known of a source row; texts in the database's encoding. */
typedef struct CsRowState
{
	bool		found;
	char	   *upsert_key;		/* of the contact that it stands for */
	bool		has_digest;		/* false: what was sent of it is not known, or
								 * it speaks for the contact */
	pg_uuid_t	digest;
	bool		in_doubt;		/* it may have been sent since with another
								 * digest: this one is no contact's */
	char		opt_in;			/* CS_CONSENT_..., as it was last seen */
	int64		word_address;	/* it is no because a word has no answer yet:
								 * a hash of the address that this concerns;
								 * or 0 */
	uint64		no_xact;		/* if that is no: the transaction since which
								 * it is, or 0 */
	TimestampTz spoke_at;		/* for the contact, before another row did; or
								 * when it changed, if the contact is
								 * withheld; or 0 */
	bool		withheld;
} CsRowState;

/* The same, to be stored. */
typedef struct CsRowStored
{
	const char *key;
	const char *upsert_key;
	bool		has_digest;
	pg_uuid_t	digest;
	bool		in_doubt;		/* instead of a digest */
	int64		word_address;	/* likewise; see CsRowState */
	char		opt_in;
	uint64		no_xact;
	bool		withheld;		/* the contact is not created */
	TimestampTz spoke_at;		/* ... and the row changed then; 0: what is
								 * stored stays */
} CsRowStored;

/* A row that spoke for a contact, and what it said. */
typedef struct CsSpeaker
{
	int			watch;
	const char *key;
	const char *upsert_key;
	bool		has_digest;		/* false: what it said is not known */
	pg_uuid_t	digest;
	TimestampTz spoke_at;
	TimestampTz sent_at;		/* when it was sent last, perhaps again */
} CsSpeaker;

/*
 * All need a transaction.  rows[i] is for keys[i], palloc'd in the current
 * context; a NULL key is not found.
 */
extern void cs_row_state_read(int watch, int n, char **keys, CsRowState *rows);

/*
 * Store what rows said when they cease to speak for their contacts, or when what the
 * contacts have is not known any more.  Rows that have gone or left are skipped; of
 * those that were mapped in another way then, it is not known what they said.
 */
extern void cs_row_state_keep_digests(int n, const CsSpeaker *speakers);

/* Does the row stand for the contact?  watch 0 is no row. */
extern bool cs_row_state_stands(int watch, const char *key, const char *upsert_key);

/* Store what rows stand for; no key is there twice. */
extern void cs_row_state_store(int endpoint, int watch, int n, const CsRowStored *stored);

/* The rows stand for nobody any more. */
extern void cs_row_state_remove(int watch, int n, char **keys);

/*
 * Does a row stand for the contact, other than one?  A NULL key excludes nobody; a
 * contact that is NULL has no rows.
 */
extern bool cs_row_state_has_other(int endpoint, const char *upsert_key, int watch, const char *key);
extern void cs_row_state_have_others(int endpoint, int n, char **upsert_keys, int watch, char **keys,
									 bool *have);

/*
 * Find such a row that has this digest of its own; false if there is none.  Its key is
 * palloc'd.
 */
extern bool cs_row_state_find_same(int endpoint, const char *upsert_key, int watch,
								   const char *key, const pg_uuid_t *digest, int *other_watch,
								   char **other_key);

/* The same, but whatever its digest; if there are several, the one that spoke last. */
extern bool cs_row_state_find_speaker(int endpoint, const char *upsert_key, int watch,
									  const char *key, int *other_watch, char **other_key);

/* The same of rows that were withheld, and changed after "since"; the one that did so last. */
extern bool cs_row_state_find_withheld(int endpoint, const char *upsert_key, TimestampTz since,
									   int *other_watch, char **other_key);

/* A row that stands for a contact, and what it said last. */
typedef struct CsRowStanding
{
	int			watch;
	char	   *key;
	char		opt_in;
	uint64		no_xact;
} CsRowStanding;

/* Return the number of rows that stand for the contact; they are palloc'd. */
extern int	cs_row_state_read_standing(int endpoint, const char *upsert_key, CsRowStanding **rows);

/*
 * Does a row stand for another contact with that address that is keyed by it, or if the
 * contact itself is, by anything?  Needs no scope.
 */
extern bool cs_row_state_has_alias(int endpoint, const char *address, const char *upsert_key);

/*
 * Return in keys the next ones of a watch after "after" ("" at first) that stand for
 * a contact, unless only_failures is set, have a failure, or were forgotten and not read
 * since.  If there are fewer than "limit" they are the last.  Needs no scope.
 */
extern int	cs_row_state_next_keys(int endpoint, int watch, bool only_failures, const char *after,
								   int limit, char **keys);

/*
 * Count the contacts at the provider that rows of a watch stand for, of so many rows.
 * Needs the scope of cs_sql_enter().
 */
extern int64 cs_row_state_count(int watch, int64 limit);

/* Find the rows of other contacts that have the address at the provider; palloc'd.
 * Needs no scope. */
extern int	cs_row_state_find_holders(int endpoint, const char *address, const char *but_upsert_key,
									  CsRowStanding **rows);

/*
 * What rows of a watch said is not known any more, because they say it in another way;
 * those that alone stand for their contacts have the digests of these.  Needs the scope of
 * cs_sql_enter().
 */
extern void cs_row_state_forget_digests(int watch);

/*
 * What was withheld of an endpoint counts as withheld no more, so that it is looked up
 * again when it is reconciled: the provider may have it by now.  What the rows said is kept.
 * Needs the scope of cs_sql_enter().
 */
extern void cs_row_state_forget_withheld(int endpoint);

#endif							/* CS_STORE_ROW_STATE_H */
