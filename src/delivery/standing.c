/*-------------------------------------------------------------------------
 *
 * standing.c
 *		What other rows say that stand for a contact, or are about to leave it.
 *
 * What is stored of rows lags behind the rows that are decided on together: of
 * these counts what they say now, and whether they still stand for the contact.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/standing.h"

/* Did the row stand for the contact until now? */
static bool
is_leaving(const CsRowNow *row, const char *upsert_key)
{
	return row->key && row->before->found && strcmp(row->before->upsert_key, upsert_key) == 0 &&
		(row->upsert_key == NULL || strcmp(row->upsert_key, upsert_key) != 0);
}

/* Find a row of the watch among those that are decided on; NULL: it is none. */
static const CsRowNow *
find_row(int n, const CsRowNow *rows, const char *key)
{
	for (int i = 0; i < n; i++)
		if (rows[i].key && strcmp(rows[i].key, key) == 0)
			return &rows[i];
	return NULL;
}

/* What a row that is stored as standing for the contact says, unless it leaves. */
static char
consent_of(const CsLane *lane, int n, const CsRowNow *rows, const CsRowStanding *row,
		   const char *upsert_key)
{
	const CsRowNow *now = row->watch == lane->watch_id ? find_row(n, rows, row->key) : NULL;

	if (now == NULL)
		return row->opt_in;
	return is_leaving(now, upsert_key) ? CS_CONSENT_UNKNOWN : now->consent;
}

static void
add_consent(CsClaimOthers *others, char consent)
{
	others->say_no |= consent == CS_CONSENT_NO;
	others->say_null |= consent == CS_CONSENT_NULL;
	others->say_yes |= consent == CS_CONSENT_YES || consent == CS_CONSENT_NULLED;
}

/* Add what other rows say that are stored as standing for a contact. */
static void
add_standing(const CsLane *lane, int n, const CsRowNow *rows, int self, const char *upsert_key,
			 CsClaimOthers *others)
{
	CsRowStanding *standing;
	int			nstanding = cs_row_state_read_standing(lane->endpoint_id, upsert_key, &standing);

	for (int i = 0; i < nstanding; i++)
		if (standing[i].watch != lane->watch_id || strcmp(standing[i].key, rows[self].key) != 0)
			add_consent(others, consent_of(lane, n, rows, &standing[i], upsert_key));
}

void
cs_standing_read(const CsLane *lane, int n, const CsRowNow *rows, int self, const char *elsewhere,
				 CsClaimOthers *others)
{
	const char *upsert_key = rows[self].upsert_key;

	memset(others, 0, sizeof(CsClaimOthers));
	for (int i = 0; i < n; i++)
	{
		char		before = rows[i].before->opt_in;

		if (i == self)
			continue;
		if (rows[i].key && rows[i].upsert_key && strcmp(rows[i].upsert_key, upsert_key) == 0)
			add_consent(others, rows[i].consent);
		if (!is_leaving(&rows[i], upsert_key))
			continue;
		others->left_yes |= before == CS_CONSENT_YES || before == CS_CONSENT_NULLED;
		others->left_not_true |= before == CS_CONSENT_NO || before == CS_CONSENT_NULL;
	}
	add_standing(lane, n, rows, self, upsert_key, others);
	if (elsewhere)
		add_standing(lane, n, rows, self, elsewhere, others);
}
