/*-------------------------------------------------------------------------
 *
 * remember.h
 *		What an address remembers of a person's consent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_REMEMBER_H
#define CS_DELIVERY_REMEMBER_H

#include "postgres.h"

#include "delivery/change.h"
#include "provider/provider.h"
#include "store/consent.h"
#include "store/contact_state.h"

/*
 * Addresses are in the database's encoding, palloc'd, or NULL; with a state of '\0'
 * nothing is remembered.
 */

/* Of a contact that gets another address than this one. */
extern CsConsent cs_remember_left(const char *address, const CsKnown *known);

/* Of a contact that has gone. */
extern CsConsent cs_remember_removed(const CsChange *change);

/* Of a contact that is not created. */
extern CsConsent cs_remember_withheld(const CsContact *contact);

/* Of a contact whose word ends what is remembered as closed. */
extern CsConsent cs_remember_word(const CsContact *contact);

/*
 * After an answer: the contact that has become this one, or that this one has not become
 * after all, so that its address has to remember change->moved_from.  NULL if there is
 * none, or the answer does not tell.
 */
extern const char *cs_remember_former_key(const CsChange *change, const CsOutcome *outcome);

#endif							/* CS_DELIVERY_REMEMBER_H */
