"""Who could be mailed, by whose word, and who was subscribed again: one class for each provider."""

import unittest

from sandboxtest import (BUSINESS, DOI_TOPIC, TOPIC, AtCampaignLark, AtCaramel, AtMailingCore,
                         AtOwlat, AtSpotzee, SandboxTest)

NEVER = (False, "never", [])


class PeopleOfMailingCore(AtMailingCore):
    def state(self):
        return self.person("mailingcore")[0]

    def test_who_did_not_opt_in_is_mailed_by_campaigns_that_do_not_ask(self):
        self.bulk({"email": "a@b.co"})
        self.assertEqual(self.state(), (False, "never", ["campaigns that do not ask"]))
        self.bulk({"email": "a@b.co", "optIn": True})
        self.assertEqual(self.state(), (True, "claim", ["campaigns"]))
        self.bulk({"email": "a@b.co", "optIn": False})
        self.assertEqual(self.state(), (False, "withdrawal", ["campaigns that do not ask"]))
        self.bulk({"email": "a@b.co"})
        self.assertEqual(self.person("mailingcore")[1],
                         ["created", "claimed", "withdrawn", "changed"])

    def test_the_hosted_page_suppresses_and_a_later_claim_lifts_that(self):
        self.bulk({"email": "a@b.co", "externalId": "1", "optIn": True})
        since = self.contacts("mailingcore")[0]["updatedAt"]
        self.advance(1)
        self.act("mailingcore", "a@b.co", "opt_out")
        self.assertEqual(self.state(), (False, "person", []))
        contact, = self.contacts("mailingcore")
        self.assertFalse(contact["optIn"])
        self.assertGreater(contact["updatedAt"], since)
        self.bulk({"email": "a@b.co", "externalId": "1"}, {"email": "b@b.co"})
        self.assertEqual(self.events("mailingcore"), [])
        self.bulk({"email": "b@b.co"}, {"email": "a@b.co", "externalId": "1", "optIn": True})
        self.assertEqual(self.state(), (True, "claim", ["campaigns"]))
        lifted, = self.control("GET", f"mailingcore/events?account={self.account}")
        self.assertEqual((lifted["kind"], lifted["email"], lifted["over"]),
                         ("resubscribed", "a@b.co", "person"))
        self.assertEqual(lifted["request"], self.journal("mailingcore")[-1]["seq"])

    def test_the_list_outlives_the_contact(self):
        self.bulk({"email": "a@b.co", "externalId": "1", "optIn": True})
        self.act("mailingcore", "a@b.co", "complain")
        self.call("DELETE", "/contacts/1")
        self.bulk({"email": "a@b.co", "externalId": "2", "optIn": False})
        self.assertEqual(self.state(), (False, "person", []))
        self.bulk({"email": "a@b.co", "externalId": "2", "optIn": True})
        self.assertEqual(self.events("mailingcore"), ["resubscribed"])

    def test_what_people_say_themselves_is_theirs(self):
        self.act("mailingcore", "a@b.co", "opt_in")
        self.bulk({"email": "a@b.co", "optIn": True})
        self.assertEqual(self.state(), (True, "person", ["campaigns"]))
        self.act("mailingcore", "a@b.co", "opt_out")
        self.act("mailingcore", "a@b.co", "opt_in")
        self.bulk({"email": "a@b.co", "optIn": True})
        self.assertEqual(self.events("mailingcore"), [])

    def test_a_claim_over_our_own_withdrawal_is_told_apart(self):
        self.bulk({"email": "a@b.co", "optIn": True})
        self.bulk({"email": "a@b.co", "optIn": False})
        self.bulk({"email": "a@b.co", "optIn": True})
        lifted, = self.control("GET", f"mailingcore/events?account={self.account}")
        self.assertEqual(lifted["over"], "withdrawal")

    def test_another_address_is_another_person(self):
        self.bulk({"email": "a@b.co", "externalId": "1", "optIn": True})
        self.bulk({"email": "b@b.co", "externalId": "1"})
        self.assertEqual(self.state(), (False, "withdrawal", []))
        self.assertEqual(self.person("mailingcore", "b@b.co")[0], (True, "default", ["campaigns"]))

    def test_unknown_acts_and_people(self):
        for document in ({"email": "a@b.co", "act": "shrug"}, {"email": "a@b.co", "act": "confirm"},
                         {"act": "opt_out"}, {"email": "a@b.co", "act": "opt_out", "topic": "x"}):
            reply = self.http("POST", "/control/mailingcore/people",
                              {"account": self.account, **document})
            self.assertEqual(reply.status, 400, document)
        self.assertEqual(self.control("GET", f"mailingcore/mailable?account={self.account}"), [])


class PeopleOfCampaignLark(AtCampaignLark):
    def state(self):
        return self.person("campaignlark")[0][:2]

    def over(self):
        found = self.control("GET", f"campaignlark/events?account={self.account}")
        return [event["over"] for event in found if event["kind"] == "resubscribed"]

    def test_a_creation_subscribes_by_default(self):
        self.upsert(partial_update=True)
        self.assertEqual(self.state(), (True, "default"))
        self.upsert(status="SUBSCRIBED", partial_update=True)
        self.assertEqual(self.state(), (True, "claim"))

    def test_a_partial_update_keeps_and_a_full_one_resets(self):
        self.upsert(status="SUBSCRIBED")
        for act, status in (("opt_out", "UNSUBSCRIBED"), ("complain", "COMPLAINED")):
            self.act("campaignlark", "a@b.co", act)
            self.assertEqual(self.contacts("campaignlark")[0]["status"], status)
            self.upsert(partial_update=True)
            self.assertEqual(self.state(), (False, "person"))
            self.upsert()
            self.assertEqual(self.state(), (True, "default"))
        self.assertEqual(self.over(), ["person", "person"])

    def test_subscribed_over_whoever_left(self):
        self.upsert(status="UNSUBSCRIBED", partial_update=True)
        self.upsert(status="SUBSCRIBED", partial_update=True)
        self.act("campaignlark", "a@b.co", "complain")
        self.upsert(status="UNSUBSCRIBED", partial_update=True)
        self.upsert(status="SUBSCRIBED", partial_update=True)
        self.assertEqual(self.over(), ["withdrawal", "person"])
        overwritten = [(event["before"], event["status"]) for event in self.control(
            "GET", f"campaignlark/mailable?account={self.account}")[0]["events"]
            if event.get("before") == "COMPLAINED"]
        self.assertEqual(overwritten, [("COMPLAINED", "UNSUBSCRIBED")])

    def test_unconfirmed_contacts_are_mailed(self):
        self.upsert(status="UNCONFIRMED")
        self.upsert(status="UNCONFIRMED")
        self.assertEqual(self.person("campaignlark"),
                         (NEVER, ["asked", "mailed", "asked"]))
        self.act("campaignlark", "a@b.co", "confirm")
        self.assertEqual(self.state(), (True, "person"))

    def test_a_segment_is_entered_once(self):
        self.configure("campaignlark", automations={"welcome": {
            "active": True, "segment": {"status": "SUBSCRIBED"}}})
        self.upsert(status="UNSUBSCRIBED")
        self.upsert(status="SUBSCRIBED")
        self.upsert(status="SUBSCRIBED")
        self.assertEqual(self.person("campaignlark")[1].count("mailed"), 1)


class PeopleOfOwlat(AtOwlat):
    def join(self, topic=TOPIC):
        return self.call("POST", f"/topics/{topic}/contacts", {"email": "a@b.co"}).json["data"]["doiStatus"]

    def leave(self, topic=TOPIC):
        return self.call("DELETE", f"/topics/{topic}/contacts/a%40b.co").json["data"]["removed"]

    def state(self):
        return self.person("owlat")[0]

    def opted_out(self):
        return self.contacts("owlat")[0]["unsubscribedAt"] is not None

    def test_to_create_is_to_make_mailable(self):
        self.create()
        self.assertEqual(self.state(), (True, "default", ["segments"]))
        self.join()
        self.assertEqual(self.state(), (True, "claim", ["segments", f"topic {TOPIC}"]))
        self.assertTrue(self.leave())
        self.assertEqual(self.state()[0], True)     # by segments, for there is no call to opt somebody out

    def test_a_new_membership_lifts_a_global_opt_out(self):
        self.create()
        self.join()
        before = self.contacts("owlat")[0]["updatedAt"]
        self.advance(1)
        self.act("owlat", "a@b.co", "opt_out")
        self.assertEqual(self.state(), (False, "person", []))
        self.assertGreater(self.contacts("owlat")[0]["updatedAt"], before)
        self.assertFalse(self.leave())
        self.call("PUT", "/contacts/a%40b.co", {"firstName": "A"})
        self.assertTrue(self.opted_out())
        self.join()
        self.assertEqual(self.state(), (True, "claim", ["segments", f"topic {TOPIC}"]))
        self.assertEqual(self.events("owlat")[-1], "resubscribed")

    def test_a_member_is_not_added_again(self):
        self.create()
        self.join()
        self.control("POST", "owlat/contacts", {"account": self.account, "contacts": [
            {"email": "a@b.co", "unsubscribedAt": "2026-01-01T00:00:00Z"}]})
        self.join()
        self.assertTrue(self.opted_out())

    def test_who_left_one_topic_is_put_back_by_an_add(self):
        self.create()
        self.join()
        self.act("owlat", "a@b.co", "opt_out", topic=TOPIC)
        self.assertEqual(self.state(), (True, "person", ["segments"]))
        self.assertFalse(self.leave())
        self.join()
        self.assertEqual(self.events("owlat")[-1], "resubscribed")

    def test_a_topic_that_asks(self):
        self.create()
        self.act("owlat", "a@b.co", "opt_out")
        self.assertEqual([self.join(DOI_TOPIC), self.join(DOI_TOPIC)], ["pending", "pending"])
        self.assertTrue(self.opted_out())
        self.assertTrue(self.leave(DOI_TOPIC))
        self.join(DOI_TOPIC)
        self.assertEqual(self.events("owlat"), ["contact_created", "confirmation_mail_sent"])
        self.assertEqual(self.person("owlat"), (
            (False, "person", []), ["created", "opted_out", "asked", "mailed", "withdrawn", "asked"]))
        self.act("owlat", "a@b.co", "confirm")
        self.assertEqual(self.state(), (True, "person", ["segments", f"topic {DOI_TOPIC}"]))

    def test_who_confirmed_once_joins_at_once_and_the_opt_out_is_lifted(self):
        self.create()
        self.join(DOI_TOPIC)
        self.act("owlat", "a@b.co", "confirm")
        self.act("owlat", "a@b.co", "opt_out")
        self.assertEqual(self.join(DOI_TOPIC), "confirmed")
        self.assertFalse(self.opted_out())
        self.assertEqual(self.events("owlat").count("confirmation_mail_sent"), 1)
        self.assertEqual(self.events("owlat")[-1], "resubscribed")

    def test_a_topic_asks_unless_it_says_otherwise(self):
        made = "topicown000000000000000000000000"
        self.configure("owlat", topics={made: {}})
        self.create()
        self.assertEqual(self.join(made), "pending")
        self.configure("owlat", topic_double_opt_in=False)
        self.create(email="b@b.co")
        reply = self.call("POST", f"/topics/{made}/contacts", {"email": "b@b.co"})
        self.assertEqual(reply.json["data"]["doiStatus"], "not_required")

    def test_a_hard_delete_forgets_the_opt_out(self):
        self.create()
        self.act("owlat", "a@b.co", "opt_out")
        self.call("DELETE", "/contacts/a%40b.co")
        self.assertEqual(self.create().status, 201)
        self.assertFalse(self.opted_out())
        self.assertEqual(self.state(), (True, "default", ["segments"]))
        self.assertEqual(self.events("owlat")[-1], "resubscribed")

    def test_an_opt_out_need_not_be_seen_in_updated_at(self):
        self.configure("owlat", opt_out_moves="with memberships")
        before = self.create().json["data"]["updatedAt"]
        self.advance(1)
        self.act("owlat", "a@b.co", "opt_out")
        self.assertEqual(self.contacts("owlat")[0]["updatedAt"], before)

    def test_a_second_contact_of_an_address_is_reached_though_the_first_left(self):
        self.create()
        self.call("PUT", "/contacts/a%40b.co", {"email": "n@b.co"})
        self.act("owlat", "n@b.co", "opt_out")
        self.create(email="n@b.co")
        self.assertEqual(self.person("owlat", "n@b.co")[0], (True, "default", ["segments"]))
        self.assertEqual(self.events("owlat")[-1], "resubscribed")


class PeopleOfSpotzee(AtSpotzee):
    def subscribe(self, state, external_id="1"):
        self.call("POST", "/subscriptions/batch", [
            {"external_id": external_id, "subscription_id": 5, "state": state}])

    def state(self):
        return self.person("spotzee")[0]

    def test_to_create_is_to_subscribe(self):
        self.contacts_batch({"external_id": "1", "email": "a@b.co"})
        self.assertEqual(self.state(), (True, "default", ["subscription 5"]))
        self.subscribe(0)
        self.assertEqual(self.state(), (False, "withdrawal", []))
        self.contacts_batch({"external_id": "1", "email": "a@b.co", "first_name": "A"})
        self.assertEqual(self.state(), (False, "withdrawal", []))
        self.subscribe(1)
        self.assertEqual(self.state(), (True, "claim", ["subscription 5"]))

    def test_two_types(self):
        self.configure("spotzee", subscriptions={"6": "News"})
        self.contacts_batch({"external_id": "1", "email": "a@b.co"})
        self.act("spotzee", "a@b.co", "opt_out", subscription="5")
        self.assertEqual(self.state(), (True, "person", ["subscription 6"]))
        self.act("spotzee", "a@b.co", "complain")
        self.subscribe(1)
        self.assertEqual(self.state(), (True, "claim", ["subscription 5"]))
        self.assertEqual(self.events("spotzee")[-1], "resubscribed")

    def test_another_id_of_the_same_person_subscribes_them_again(self):
        self.contacts_batch({"external_id": "1", "email": "a@b.co"})
        self.act("spotzee", "a@b.co", "opt_out")
        self.contacts_batch({"external_id": "2", "email": "a@b.co"})
        self.assertEqual(self.state(), (True, "default", ["subscription 5"]))
        self.assertEqual(self.events("spotzee")[-1], "resubscribed")
        self.call("DELETE", "/users/2")
        self.assertEqual(self.state(), (False, "removal", []))

    def test_who_has_no_address_is_nobody_here(self):
        self.contacts_batch({"external_id": "1"})
        self.assertEqual(self.control("GET", f"spotzee/mailable?account={self.account}"), [])


class PeopleOfCaramel(AtCaramel):
    def submit(self):
        return self.tool("form.submit", form_id="frm_import", data={"email": "a@b.co"})

    def state(self):
        return self.person("caramel")[0]

    def test_a_form_records_consent_and_an_upsert_does_not(self):
        self.upsert(email="a@b.co")
        self.assertEqual(self.state(), NEVER)
        self.submit()
        self.assertEqual(self.state(), (True, "claim", ["campaigns"]))
        self.assertEqual(self.events("caramel"), ["FORM_SUBMITTED"])

    def test_a_second_record_of_consent_is_noticed(self):
        self.submit()
        self.submit()
        self.assertEqual(self.events("caramel"),
                         ["FORM_SUBMITTED", "consent_claimed_twice", "FORM_SUBMITTED"])

    def test_a_form_over_an_opt_out(self):
        self.submit()
        self.act("caramel", "a@b.co", "opt_out")
        self.upsert(email="a@b.co", first_name="A")
        self.assertEqual(self.state(), (False, "person", []))
        self.submit()
        self.assertIn("resubscribed", self.events("caramel"))

    def test_journeys_mail(self):
        self.configure("caramel", journeys={"welcome": {"active": True,
                                                        "segment": {"business_id": BUSINESS}}})
        self.upsert(email="a@b.co")
        self.upsert(email="a@b.co")
        self.assertEqual(self.person("caramel"), (NEVER, ["created", "mailed", "changed"]))


class Dashboard(SandboxTest):
    """What is edited outside the API counts as the person's doing."""

    def test_edits(self):
        for provider, no, yes in (
                ("mailingcore", {"optIn": False}, {"optIn": True}),
                ("campaignlark", {"status": "COMPLAINED"}, {"status": "SUBSCRIBED"}),
                ("owlat", {"unsubscribedAt": "2026-01-01T00:00:00Z"}, {"unsubscribedAt": None}),
                ("spotzee", {"subscriptions": {"5": 0}}, {"subscriptions": {"5": 1}}),
                ("caramel", {"marketing_consent": False}, {"marketing_consent": True})):
            self.configure(provider)
            name = "email_address" if provider == "campaignlark" else "email"
            for fields, mailable in ((no, False), (yes, True), (no, False)):
                self.control("POST", f"{provider}/contacts", {
                    "account": self.account, "contacts": [{name: "a@b.co", **fields}]})
                (now, by, _), kinds = self.person(provider)
                self.assertEqual((now, by), (mailable, "person"), provider)
            self.assertEqual(kinds, ["opted_out", "edited", "opted_out"])
            self.control("DELETE", f"{provider}/contacts?account={self.account}&{name}=a@b.co")
            self.assertEqual(self.contacts(provider), [])


if __name__ == "__main__":
    unittest.main()
