"""Test for each rule of consent_oracle.py what it allows and what it finds.

Run with: python3 -m unittest discover -s test/fuzz
"""

import os
import random
import unittest

import mutants
from consent_accounts import CLASSES
from consent_oracle import Ledger, Row, Word

FEATURES = {name: False for name in ("opt_in_at", "claims", "delete_delay", "spotzee_opt_in", "spotzee_auto", "spotzee_subscription")}
JANE = "jane@example.org"


class OracleTest(unittest.TestCase):
    """One account, whose requests and people the test plays."""

    provider = "mailingcore"

    def setUp(self):
        self.account = CLASSES[self.provider](self.provider, 1, random.Random(1), FEATURES)
        self.account.watched = {"w": {}}
        self.account.maps_opt_in = True
        self.account.on_delete = "delete"
        if self.provider == "mailingcore":
            self.account.external = False
        self.ledger = Ledger(self.account)
        self.rows, self.step, self.request, self.seq = {}, 0, 0, 0
        self.people, self.contacts = {}, {}

    # Events

    def row(self, uid, email=JANE, opt=True, name="N", **more):
        return Row(**{"table": "w", "uid": uid, "key": ("a", str(uid)), "ext": f"E{uid}", "mc_ext": f"M{uid}", "email": email,
                      "opt": opt, "opt_at": None, "name": name, "live": True, **more})

    def commit(self, *rows, gone=(), rewritten=()):
        self.step += 1
        before, self.rows = self.rows, {**self.rows, **{row.uid: row for row in rows}}
        for uid in gone:
            del self.rows[uid]
        self.ledger.committed(self.step, self.request, before, self.rows, set(self.contacts), set(rewritten))

    def event(self, kind, address=JANE, by="request", **details):
        self.seq += 1
        person = self.people.setdefault(address, {"email": address, "mailable": False, "reach": [], "events": []})
        person["events"].append({"seq": self.seq, "kind": kind, "by": by, "journal": self.request, "gained": [], "lost": [], **details})
        return person

    def requested(self, kind, address=JANE, name="N", **details):
        """A request that a person could notice, and the contact that it leaves."""
        self.request += 1
        new = {} if address in self.contacts else {"new": f"id of {address}"}
        self.event(kind, address, **new, **details)
        self.contacts[address] = {"id": f"id of {address}", "email": address, "externalId": "x", "attributes": {"name": name}}

    def claim(self, address=JANE, over=None, name="N"):
        person = self.people.get(address)
        gained = [] if person and person["mailable"] else ["campaigns"]
        self.requested("claimed", address, name, gained=gained)
        if over:
            self.event("resubscribed", address, over=over)
        self.people[address].update(mailable=True, reach=["campaigns"])
        self.ledger.read(self.people.values())

    def withdraw(self, address=JANE):
        self.requested("withdrawn", address, lost=["campaigns"])
        self.people[address].update(mailable=False, reach=[])
        self.ledger.read(self.people.values())

    def remove(self, address=JANE):
        self.requested("removed", address, lost=self.people[address]["reach"])
        self.people[address].update(mailable=False, reach=[])
        del self.contacts[address]
        self.ledger.read(self.people.values())

    def leave(self, address=JANE):
        self.step += 1
        self.event("opted_out", address, by="person", lost=["campaigns"])["mailable"] = False
        self.ledger.person(self.step, address, "opt_out", self.request)

    def quiet(self):
        self.ledger.read(self.people.values())
        self.ledger.quiet(self.rows, list(self.contacts.values()), list(self.people.values()), {})

    def assert_found(self, *kinds):
        self.assertEqual([verdict.kind for verdict in self.ledger.verdicts], list(kinds), list(map(str, self.ledger.verdicts)))
        self.ledger.verdicts.clear()

    def claimed(self):
        """Insert a row, claim it, and come to rest."""
        self.commit(self.row(1))
        self.claim()
        self.quiet()
        self.assert_found()


class Words(OracleTest):
    def test_the_first_row_of_an_address_is_a_word_once(self):
        self.claimed()
        self.claim()
        self.assert_found("claimed")

    def test_a_lost_answer_is_repeated_until_all_is_quiet(self):
        self.commit(self.row(1))
        self.claim()
        self.claim()
        self.quiet()
        self.assert_found()

    def test_an_address_that_the_provider_knows_is_not_claimed_by_a_row(self):
        self.contacts[JANE] = {"id": "theirs", "email": JANE, "externalId": None, "attributes": {"name": "N"}}
        self.commit(self.row(1))
        self.claim()
        self.assert_found("claimed")

    def test_from_no_to_yes_is_a_word_and_must_arrive(self):
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.withdraw()
        self.quiet()
        self.commit(self.row(1, opt=True))
        self.quiet()
        self.assert_found("stale")
        self.commit(self.row(1, opt=True, name="M"))
        self.claim(over="withdrawal", name="M")
        self.quiet()
        self.assert_found()

    def said_no(self):
        """Have a row that was claimed say no, and come to rest."""
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.withdraw()
        self.quiet()
        self.assert_found()

    def test_a_row_takes_the_place_of_one_whose_yes_need_not_have_been_read(self):
        self.said_no()
        self.commit(self.row(1))
        self.commit(self.row(1, live=False))
        self.quiet()
        self.step += 1
        self.event("opted_in", by="person")
        self.people[JANE].update(mailable=True, reach=["campaigns"])
        self.ledger.person(self.step, JANE, "opt_in", self.request)
        self.quiet()
        self.commit(self.row(2), gone=[1])
        self.claim()
        self.quiet()
        self.assert_found()
        self.claim()
        self.assert_found("claimed")

    def test_but_not_of_one_whose_yes_was_claimed(self):
        self.said_no()
        self.commit(self.row(1))
        self.claim(over="withdrawal")
        self.commit(gone=[1])
        self.quiet()
        self.commit(self.row(2))
        self.claim()
        self.assert_found("claimed")

    def test_nor_of_one_that_said_no_before_all_was_quiet(self):
        self.said_no()
        self.commit(self.row(1))
        self.claim(over="withdrawal")
        self.quiet()
        self.commit(self.row(2), gone=[1])
        self.claim()
        self.assert_found("claimed")

    def test_null_says_nothing(self):
        self.claimed()
        self.commit(self.row(1, opt=None))
        self.quiet()
        self.commit(self.row(1, opt=True))
        self.quiet()
        self.assert_found()
        self.claim()
        self.assert_found("claimed")

    def test_neither_is_a_key_nor_a_row_that_comes_back(self):
        self.claimed()
        self.commit(self.row(1, key=("a", "1001")))
        self.claim()
        self.assert_found("claimed")
        self.commit(gone=[1])
        self.quiet()
        self.commit(self.row(2))
        self.claim()
        self.assert_found("claimed")

    def test_nor_a_second_row_or_watch_or_an_import(self):
        self.claimed()
        self.commit(self.row(2))
        self.claim()
        self.assert_found("claimed")
        self.ledger.unwatched(self.rows, "w")
        self.ledger.imported(self.step, self.request, self.rows, set(self.contacts), {"w"})
        self.claim()
        self.assert_found("claimed")

    def test_but_claims_all_is(self):
        self.contacts[JANE] = {"id": "theirs", "email": JANE, "externalId": None, "attributes": {"name": "N"}}
        self.ledger.claims_all = True
        self.ledger.imported(self.step, self.request, {1: self.row(1)}, {JANE}, {"w"})
        self.claim()
        self.assert_found()

    def test_what_was_said_is_forgotten(self):
        self.claimed()
        self.commit(self.row(1, opt=None))
        self.ledger.forgotten(JANE, self.rows)
        self.commit(self.row(1, opt=None, name="M"))
        self.commit(self.row(1, name="M"))
        self.claim(name="M")
        self.assert_found()

    def test_a_newer_opt_in_at_is_one(self):
        self.account.maps_opt_at = True
        self.commit(self.row(1, opt_at=10))
        self.claim()
        self.quiet()
        self.leave()
        self.commit(self.row(1, opt_at=10, name="M"))
        self.commit(self.row(1, opt_at=11, name="M"))
        self.claim(over="person", name="M")
        self.quiet()
        self.assert_found()

    def test_no_and_yes_between_two_quiet_points_may_be_nothing(self):
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.commit(self.row(1, opt=True))
        self.quiet()
        self.assert_found()

    def test_but_not_if_the_no_was_sent(self):
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.withdraw()
        self.commit(self.row(1, opt=True))
        self.quiet()
        self.assert_found("stale")

    def two_rows(self, *changes):
        """Two rows of a contact rest, then change; the contact has the name of the second one in the end."""
        self.commit(self.row(1, opt=None, name="A"), self.row(2, opt=None, name="B"))
        self.requested("created", name="B")
        self.quiet()
        for uid, name in changes:
            self.commit(self.row(uid, opt=None, name=name))
        self.requested("changed", name=[name for uid, name in changes if uid == 2][-1])
        self.quiet()

    def test_the_row_that_changed_last_speaks(self):
        self.two_rows((2, "B2"), (1, "A2"))
        self.assert_found("stale")

    def test_a_row_that_is_as_it_was_need_not_have_changed(self):
        self.two_rows((2, "B2"), (1, "A2"), (1, "A"))
        self.assert_found()

    def test_nor_need_one_that_became_so_before(self):
        self.two_rows((1, "A2"), (2, "B2"), (1, "A3"), (1, "A2"))
        self.assert_found()

    def test_but_one_that_became_so_later_has(self):
        self.two_rows((2, "B2"), (1, "A2"), (1, "A3"), (1, "A2"))
        self.assert_found("stale")

    def test_a_withdrawal_undoes_no_older_word_that_need_not_have_arrived(self):
        self.requested("changed", by="other")
        self.commit(self.row(1))
        self.ledger.memories[JANE].words.append(Word(self.step, self.request, "optional", False))
        self.quiet()
        self.requested("withdrawn")
        self.quiet()
        self.assert_found()
        self.ledger.memories[JANE].words.append(Word(self.step, self.request, "optional", False))
        self.requested("withdrawn")
        self.quiet()
        self.assert_found("stale")

    def test_of_two_rows_that_come_to_an_address_together_either_may_be_the_first(self):
        self.commit(self.row(1), self.row(2, opt=None))
        self.requested("changed")
        self.quiet()
        self.assert_found()
        self.commit(self.row(3, "new@example.org"), self.row(4, "new@example.org"))
        self.requested("changed", "new@example.org")
        self.quiet()
        self.assert_found("stale")

    def test_and_the_other_one_may_come_without_consent(self):
        self.commit(self.row(1, "other@example.org"), self.row(2, "other@example.org", opt=None))
        self.claim("other@example.org")
        self.quiet()
        self.commit(self.row(1), self.row(2, opt=None))
        self.requested("withdrawn")
        self.quiet()
        self.assert_found()

    def test_null_says_nothing_in_an_old_backup_either(self):
        self.claimed()
        self.leave()
        self.commit(self.row(1, opt=None))
        self.requested("changed")
        self.quiet()
        self.ledger.reverted(self.ledger.backup(), self.rows)
        self.quiet()
        self.commit(self.row(1))
        self.quiet()
        self.assert_found()

    def test_a_crash_may_forget_the_last_moments(self):
        self.claimed()
        self.ledger.crashed()
        self.claim()
        self.assert_found()

    def test_a_row_that_was_not_read_is_new_when_it_is_loaded_again(self):
        self.account.watched = {}
        self.commit(self.row(1))
        self.account.watched = {"w": {}}
        self.commit(self.row(1, mc_ext=None))
        self.quiet()
        self.assert_found()
        self.commit(rewritten=[1])
        self.claim()
        self.quiet()
        self.assert_found()

    def test_nothing_is_claimed_for_a_row_that_says_no(self):
        self.commit(self.row(1, opt=False))
        self.claim()
        self.assert_found("claimed")


class People(OracleTest):
    def test_who_left_is_not_subscribed_again_without_a_word(self):
        self.claimed()
        self.leave()
        self.commit(self.row(1, name="M"))
        self.claim(over="person", name="M")
        self.assert_found("resubscribed")

    def test_a_later_word_is_one(self):
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.withdraw()
        self.quiet()
        self.leave()
        self.commit(self.row(1))
        self.claim(over="person")
        self.quiet()
        self.assert_found()

    def test_an_earlier_word_that_is_under_way_is_shown(self):
        self.commit(self.row(1))
        self.leave()
        self.claim(over="person")
        self.assert_found("window")

    def test_unless_a_pull_has_told(self):
        self.commit(self.row(1))
        self.leave()
        self.ledger.pulled()
        self.claim(over="person")
        self.assert_found("resubscribed")

    def test_a_word_of_a_row_that_has_gone_need_not_arrive(self):
        self.commit(self.row(1))
        self.commit(gone=[1])
        self.commit(self.row(2, opt=None))
        self.requested("changed")
        self.quiet()
        self.assert_found()

    def test_nor_does_one_of_a_row_whose_place_another_row_takes_while_one_says_no(self):
        self.commit(self.row(1))
        self.commit(self.row(2, opt=False))
        self.commit(self.row(3), gone=[1])
        self.requested("changed")
        self.quiet()
        self.assert_found()
        self.commit(gone=[2])
        self.requested("changed")
        self.quiet()
        self.assert_found("stale")

    def test_nor_does_one_of_a_row_whose_place_a_row_takes_that_said_yes_before(self):
        self.commit(self.row(1, opt=None))
        self.requested("created")
        self.commit(self.row(2, "other@example.org"))
        self.claim("other@example.org")
        self.quiet()
        self.commit(self.row(1))
        self.commit(self.row(1, "left@example.org"))
        self.commit(self.row(2))
        self.requested("changed")
        self.claim("left@example.org")
        self.quiet()
        self.quiet()
        self.assert_found()

    def test_but_one_does_whose_place_a_row_takes_that_did_not(self):
        self.commit(self.row(1, opt=None))
        self.requested("created")
        self.commit(self.row(2, "other@example.org", opt=None))
        self.requested("created", "other@example.org")
        self.quiet()
        self.commit(self.row(1))
        self.commit(self.row(2), gone=[1])
        self.requested("changed")
        self.quiet()
        self.assert_found("stale")

    def test_a_word_that_is_older_than_an_answer_that_tells_of_the_no_need_not_arrive(self):
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.withdraw()
        self.quiet()
        self.leave()
        self.commit(self.row(1))
        self.request += 1
        self.ledger.memories[JANE].told = self.request
        self.quiet()
        self.assert_found()

    def test_a_word_that_is_older_than_the_no_need_not_arrive(self):
        self.commit(self.row(1))
        self.contacts[JANE] = {"id": "x", "email": JANE, "externalId": "x", "attributes": {"name": "N"}}
        self.leave()
        self.quiet()
        self.assert_found()


class Removals(OracleTest):
    def test_who_has_a_row_is_not_removed(self):
        self.claimed()
        self.remove()
        self.assert_found("removed")

    def test_nor_by_a_change_of_the_key(self):
        self.claimed()
        self.commit(self.row(1, key=("a", "1001")))
        self.withdraw()
        self.assert_found("removed")

    def test_whose_row_went_is(self):
        self.claimed()
        self.commit(gone=[1])
        self.remove()
        self.quiet()
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found()

    def test_and_must_be(self):
        self.claimed()
        self.commit(gone=[1])
        self.quiet()
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found("left")

    def test_but_not_after_an_unwatch(self):
        self.claimed()
        self.ledger.unwatched(self.rows, "w")
        self.account.watched = {}
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found()

    def test_a_row_that_says_no_may_withdraw(self):
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.withdraw()
        self.quiet()
        self.assert_found()

    def test_and_must(self):
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.quiet()
        self.assert_found("stale")

    def test_a_row_inserted_anew_with_the_same_values_withdraws_nothing_again(self):
        self.claimed()
        self.commit(self.row(1, opt=False))
        self.withdraw()
        self.quiet()
        self.step += 1
        self.event("opted_in", by="person", gained=["campaigns"])["mailable"] = True
        self.ledger.person(self.step, JANE, "opt_in", self.request)
        self.commit(self.row(1, opt=False, key=("a", "1001")))
        self.quiet()
        self.assert_found()
        self.commit(self.row(1, opt=False, key=("a", "1001"), name="M"))
        self.contacts[JANE]["attributes"]["name"] = "M"
        self.quiet()
        self.assert_found("stale")

    def test_what_an_upsert_made_stays_without_a_row(self):
        self.ledger.upsert(1, 0, JANE, True, "N", set())
        self.claim()
        self.quiet()
        self.commit(self.row(1))
        self.commit(gone=[1])
        self.remove()
        self.assert_found("removed")

    def test_but_not_what_a_row_made_after_the_upsert_was_withheld(self):
        self.ledger.upsert(1, 0, JANE, True, "N", set())
        self.quiet()
        self.claimed()
        self.commit(gone=[1])
        self.remove()
        self.quiet()
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found()

    def test_nor_is_it_left(self):
        self.ledger.upsert(1, 0, JANE, True, "N", set())
        self.quiet()
        self.claimed()
        self.commit(gone=[1])
        self.quiet()
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found("left")

    def test_the_end_of_a_server_ends_no_upsert(self):
        self.ledger.upsert(1, 0, JANE, True, "N", set())
        self.claim()
        self.quiet()
        self.ledger.dropped()
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found()


class Values(OracleTest):
    def test_the_row_that_spoke_last_counts(self):
        self.claimed()
        self.commit(self.row(2, name="M"))
        self.quiet()
        self.assert_found("stale")
        self.contacts[JANE]["attributes"]["name"] = "M"
        self.quiet()
        self.assert_found()

    def test_a_row_that_is_as_it_was_need_not_speak(self):
        self.claimed()
        self.commit(self.row(2, name="M"))
        self.contacts[JANE]["attributes"]["name"] = "M"
        self.commit(self.row(1, opt=False))
        self.commit(self.row(1))
        self.contacts[JANE]["optIn"] = True
        self.quiet()
        self.assert_found()
        self.commit(self.row(1, opt=False))
        self.commit(self.row(1, name="O"))
        self.quiet()
        self.assert_found("stale")

    def test_a_lasting_difference_is_told_once(self):
        self.claimed()
        self.commit(self.row(1, name="M"))
        self.quiet()
        self.quiet()
        self.assert_found("stale")

    def test_a_key_alone_says_nothing(self):
        self.claimed()
        self.commit(self.row(2, name="M"))
        self.contacts[JANE]["attributes"]["name"] = "M"
        self.commit(self.row(1, key=("a", "1001")))
        self.quiet()
        self.assert_found()

    def test_a_contact_that_is_missing(self):
        self.commit(self.row(1, opt=None))
        self.quiet()
        self.assert_found("stale")

    def test_a_row_that_is_read_for_the_first_time_speaks_by_a_change_of_what_is_mapped(self):
        self.account.watched = {}
        self.commit(self.row(2, name="M"))
        self.account.watched = {"w": {}}
        self.claimed()
        self.commit(self.row(2, name="M", email=JANE.upper()))
        self.quiet()
        self.assert_found("stale")
        self.contacts[JANE]["attributes"]["name"] = "M"
        self.quiet()
        self.assert_found()

    def test_a_row_that_was_forgotten_may_speak_when_it_is_loaded_again(self):
        self.commit(self.row(1, name="M"))
        self.commit(self.row(2))
        self.claim()
        self.quiet()
        self.ledger.forgotten(JANE, self.rows)
        self.commit(self.row(2, name="L"))
        self.contacts[JANE]["attributes"]["name"] = "L"
        self.commit(rewritten=[1, 2])
        self.quiet()
        self.contacts[JANE]["attributes"]["name"] = "M"
        self.quiet()
        self.assert_found()


class ExternalIds(OracleTest):
    """A contact is found by its external id where a row has one."""

    def setUp(self):
        super().setUp()
        self.account.external = True

    def claimed(self):
        self.commit(self.row(1))
        self.claim()
        self.contacts[JANE]["externalId"] = "M1"
        self.quiet()
        self.assert_found()

    def moved(self):
        """Filter the row, change its address, and have it pass the filter again."""
        self.commit(self.row(1, live=False))
        self.commit(self.row(1, "new@example.org", live=False))
        self.commit(self.row(1, "new@example.org"))
        self.requested("changed", "new@example.org")
        self.contacts.pop(JANE)
        self.contacts["new@example.org"]["externalId"] = "M1"
        self.quiet()

    def test_an_opt_out_moves_along_with_a_contact(self):
        self.claimed()
        self.leave()
        self.moved()
        self.assert_found()

    def test_but_nothing_else_does(self):
        self.claimed()
        self.moved()
        self.assert_found("stale")

    def test_a_contact_is_not_removed_whose_row_was_forgotten_and_never_read_again(self):
        self.account.on_delete = "unsubscribe"
        self.claimed()
        self.ledger.forgotten(JANE, self.rows)
        self.commit(self.row(2))
        self.commit(gone=[1])
        self.commit(gone=[2])
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found()

    def test_a_row_without_an_id_withdraws_consent_of_the_contact_of_its_address(self):
        self.account.on_delete = "ignore"
        self.claimed()
        self.commit(self.row(2, mc_ext=None, opt=False))
        self.commit(gone=[1])
        self.quiet()
        self.assert_found("stale")

    def test_who_has_a_row_of_that_id_is_not_removed(self):
        self.claimed()
        self.requested("removed", lost=["campaigns"], external_id="M1")
        self.ledger.read(self.people.values())
        self.assert_found("removed")

    def test_another_row_of_the_address_does_not_stand_for_it(self):
        self.claimed()
        self.commit(self.row(2))
        self.commit(gone=[1])
        self.requested("removed", lost=["campaigns"], external_id="M1")
        self.ledger.read(self.people.values())
        self.assert_found()

    def test_one_without_an_id_does(self):
        self.commit(self.row(1, mc_ext=None))
        self.claim()
        self.quiet()
        self.requested("removed", lost=["campaigns"], external_id="M1")
        self.ledger.read(self.people.values())
        self.assert_found("removed")

    def test_an_older_contact_of_the_address_is_not_the_one_of_the_id(self):
        older = {"id": "a", "email": JANE, "externalId": None, "attributes": {"name": "N"}}
        newer = {"id": "b", "email": "new@example.org", "externalId": "M1", "attributes": {"name": "M"}}
        self.assertEqual(self.account.contacts_of(self.row(1), [older, newer]), [newer])
        self.assertEqual(self.account.contacts_of(self.row(1), [older]), [older])

    def test_another_mapping_counts_when_the_row_is_read_again(self):
        self.account.external = False
        self.commit(self.row(1, opt=None))
        self.contacts[JANE] = {"id": "a", "email": JANE, "externalId": "other", "attributes": {"name": "N"}}
        self.quiet()
        self.account.external = True
        self.ledger.remap(self.rows)
        self.quiet()
        self.assert_found()
        self.ledger.imported(self.step, self.request, self.rows, set(self.contacts), {"w"})
        self.quiet()
        self.assert_found("stale")


class Spotzee(OracleTest):
    """An address can have several contacts."""

    provider = "spotzee"

    def test_a_consent_need_not_arrive_at_an_address_that_another_row_took_the_contact_from(self):
        self.account.can_withdraw = True
        self.account.options["subscription_id"] = "5"
        self.commit(self.row(1))
        self.requested("withdrawn", external_id="E1", lost=["subscription 5"])
        self.commit(self.row(2, email="new@example.org", opt=None, ext="E1"))
        self.contacts = {"new@example.org": {"id": "a", "email": "new@example.org", "external_id": "E1", "first_name": "N", "data": {}, "subscriptions": {}}}
        self.quiet()
        self.assert_found()

    def test_who_was_removed_at_another_address_is_not_created_again_without_a_word(self):
        self.commit(self.row(1))
        self.requested("created", gained=["subscription 5"], external_id="E1")
        self.contacts[JANE].update(external_id="E1", first_name="N", data={}, subscriptions={})
        self.quiet()
        self.commit(gone=[1])
        self.requested("removed", "new@example.org", external_id="E1")
        self.contacts.clear()
        self.commit(self.row(1))
        self.quiet()
        self.assert_found()

    def test_a_contact_whose_row_has_gone_may_stay(self):
        self.account.on_delete, self.account.can_withdraw = "ignore", True
        self.commit(self.row(1))
        self.requested("created", gained=["subscription 5"], external_id="E1")
        self.contacts[JANE].update(external_id="E1", first_name="N", data={}, subscriptions={})
        self.people[JANE].update(mailable=True)
        self.quiet()
        self.commit(self.row(2, opt=False))
        self.commit(gone=[1])
        self.quiet()
        self.assert_found()
        self.contacts[JANE]["external_id"] = "E2"
        self.quiet()
        self.assert_found("stale")

    def test_a_contact_of_somebody_else_with_the_address_is_not_unsubscribed(self):
        self.account.can_withdraw = True
        self.create(self.row(1))
        self.contacts[JANE]["subscriptions"] = {"5": 0}
        self.contacts["another"] = {"id": "another", "email": JANE, "external_id": None, "first_name": "", "data": {}, "subscriptions": {"5": 1}}
        self.people[JANE].update(mailable=True)
        self.commit(self.row(1, opt=False))
        self.quiet()
        self.assert_found()
        self.contacts[JANE]["subscriptions"] = {}
        self.quiet()
        self.assert_found("stale")

    def create(self, row, **more):
        """Insert a row, and create its contact."""
        self.commit(row)
        self.requested("created", row.address, gained=["subscription 5"], external_id=row.ext)
        self.contacts[row.address].update(external_id=row.ext, first_name="N", data={}, subscriptions={}, **more)
        self.quiet()
        self.assert_found()

    def test_a_contact_keeps_its_address_if_the_person_of_the_new_one_was_forgotten(self):
        self.create(self.row(1))
        self.commit(gone=[1])
        self.create(self.row(2, "new@example.org"))
        self.ledger.forgotten(JANE, self.rows)
        self.commit(self.row(2))
        self.quiet()
        self.assert_found()

    def test_a_contact_keeps_its_address_if_a_row_said_no_of_the_new_one(self):
        self.create(self.row(1))
        self.commit(self.row(1, "new@example.org"), self.row(2, "new@example.org", opt=False, ext="E1"))
        self.commit(gone=[2])
        self.quiet()
        self.assert_found()
        self.commit(self.row(1, "newer@example.org"))
        self.quiet()
        self.assert_found("stale")

    def test_a_contact_is_not_removed_whose_row_was_forgotten_and_never_read_again(self):
        self.create(self.row(1))
        self.create(self.row(2, "new@example.org"))
        self.commit(self.row(2, ext="E2"))
        self.contacts["new@example.org"]["email"] = JANE
        self.ledger.forgotten(JANE, self.rows)
        self.commit(self.row(1, name="M"))
        self.contacts[JANE]["first_name"] = "M"
        self.commit(gone=[2])
        self.quiet()
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found()
        self.commit(gone=[1])
        self.quiet()
        self.ledger.finish(self.rows, list(self.contacts.values()), list(self.people.values()))
        self.assert_found("left")


class Owlat(OracleTest):
    """Creating a contact makes it mailable."""

    provider = "owlat"

    def create(self):
        self.requested("created", gained=["segments"])
        self.contacts[JANE].update(firstName="N", topics={})
        self.people[JANE].update(mailable=True, reach=["segments"])
        self.ledger.read(self.people.values())

    def test_who_says_yes_is_created_and_joins(self):
        self.commit(self.row(1))
        self.create()
        self.requested("claimed", gained=["topic x"])
        self.contacts[JANE].update(firstName="N", topics={self.account.topic: "not_required"})
        self.quiet()
        self.assert_found()

    def test_a_word_need_not_arrive_at_an_address_that_owlat_keeps_for_a_contact_with_another(self):
        self.commit(self.row(1))
        self.create()
        self.contacts[JANE]["topics"] = {self.account.topic: "not_required"}
        self.quiet()
        self.account.follow = True
        self.commit(self.row(1, email="new@example.org"))
        self.requested("changed", left=True)
        self.contacts = {"new@example.org": {"id": f"id of {JANE}", "email": "new@example.org", "firstName": "N", "topics": {self.account.topic: ""}}}
        self.ledger.read(self.people.values())
        self.people[JANE].update(mailable=False, reach=[])
        self.commit(self.row(2, opt=False))
        self.quiet()
        self.commit(self.row(2, opt=True))
        self.quiet()
        self.assert_found()
        self.account.left.clear()
        self.quiet()
        self.assert_found("stale")

    def test_who_does_not_is_withheld(self):
        self.commit(self.row(1, opt=None))
        self.quiet()
        self.assert_found()
        self.create()
        self.assert_found("claimed")

    def test_without_opt_in_a_row_is_a_yes(self):
        self.account.maps_opt_in = False
        self.commit(self.row(1, opt=None))
        self.create()
        self.assert_found()


class Loops(OracleTest):
    """The first request of a contact that is not known is a lookup."""

    provider = "loops"

    def create_unsubscribed(self):
        self.requested("withdrawn")
        self.contacts[JANE].update(firstName="N")

    def test_a_word_must_arrive(self):
        self.commit(self.row(1))
        self.create_unsubscribed()
        self.quiet()
        self.assert_found("stale")

    def test_a_word_whose_row_went_at_once_need_not_arrive(self):
        self.commit(self.row(1))
        self.commit(gone=[1])
        self.commit(self.row(2))
        self.create_unsubscribed()
        self.quiet()
        self.assert_found()

    def test_a_word_whose_row_was_at_rest_must_arrive(self):
        self.commit(self.row(1, opt=False))
        self.create_unsubscribed()
        self.quiet()
        self.commit(self.row(1))
        self.quiet()
        self.assert_found("stale")


class Mailchimp(OracleTest):
    """Who left by a form cannot be subscribed by a request."""

    provider = "mailchimp"

    def say_no_and_yes(self, left):
        self.commit(self.row(1, opt=False))
        self.requested("withdrawn")
        self.contacts[JANE].update(merge_fields={"FNAME": "N"})
        if left:
            self.leave()
        self.quiet()
        self.commit(self.row(1))
        self.quiet()

    def test_a_word_must_arrive(self):
        self.say_no_and_yes(False)
        self.assert_found("stale")

    def test_a_word_of_who_left_need_not_arrive(self):
        self.say_no_and_yes(True)
        self.assert_found()

    def test_unless_they_came_back(self):
        self.say_no_and_yes(True)
        self.account.acted(JANE, "opt_in")
        self.quiet()
        self.assert_found("stale")


class MutantTest(unittest.TestCase):
    """The pieces of source that mutants.py replaces."""

    def test_the_source_has_each_piece_once(self):
        self.assertEqual(mutants.misfits(os.path.join(mutants.HERE, "..", "..")), [], "change mutants.py with the source")


if __name__ == "__main__":
    unittest.main()
