"""Test the rules of each provider over HTTP against a running sandbox, one class per provider."""

import json
import threading
import time
import unittest

from sandboxtest import (BUSINESS, DOI_TOPIC, TOPIC, AtCampaignLark, AtCaramel, AtMailingCore,
                         AtOwlat, AtSpotzee)


class MailingCoreTest(AtMailingCore):
    def test_bulk_creates_then_updates(self):
        row = {"email": "A@example.com", "externalId": "1", "locale": "en", "optIn": True,
               "attributes": {"plan": "free"}}
        self.assertEqual(self.bulk(row, {"email": "b@example.com"}).json,
                         {"created": 2, "updated": 0, "failed": 0, "errors": []})
        changed = {**row, "email": "new@example.com", "attributes": {"size": 2}}
        self.assertEqual(self.bulk(changed).json["updated"], 1)
        first, second = self.contacts("mailingcore")
        self.assertEqual(first["email"], "new@example.com")
        self.assertEqual(first["attributes"], {"plan": "free", "size": 2})
        self.assertIs(second["optIn"], False)

    def test_bulk_refuses_the_request_as_documented(self):
        good = {"email": "a@example.com"}
        for rows in ([], [good] * 1001, [good, {"email": "nobody"}], [{**good, "extra": 1}],
                     [{**good, "optIn": "true"}], [{**good, "externalId": "x" * 129}],
                     [{**good, "locale": "pt"}], [{**good, "attributes": []}], [{}], ["x"]):
            self.assertEqual(self.bulk(*rows).status, 400, rows[:2])
        self.assertEqual(self.contacts("mailingcore"), [])

    def test_an_invalid_email_may_fail_its_row_only(self):
        self.configure("mailingcore", invalid_email="row")
        summary = self.bulk({"email": "nobody"}, {"email": "a@example.com"}).json
        self.assertEqual((summary["created"], summary["failed"]), (1, 1))
        self.assertEqual(summary["errors"][0]["index"], 0)

    def test_a_conflict_fails_its_row(self):
        self.bulk({"email": "a@example.com", "externalId": "1"})
        summary = self.bulk({"email": "a@example.com", "externalId": "2"}).json
        self.assertEqual(summary["errors"][0]["statusCode"], 409)
        put = self.call("PUT", "/contacts", {"email": "a@example.com", "externalId": "2"})
        self.assertEqual(put.status, 409)

    def test_the_summary_may_hold_arrays_under_a_name(self):
        self.configure("mailingcore", summary="arrays", summary_under="data")
        summary = self.bulk({"email": "a@example.com"}).json["data"]
        self.assertEqual(summary["created"][0]["email"], "a@example.com")

    def test_credentials(self):
        row = {"contacts": [{"email": "a@example.com"}]}
        cases = [(401, {"Authorization": "Bearer mc_test_nobody"}), (401, {"Authorization": ""}),
                 (403, {"X-Tenant-Id": "clx_sandbox"}), (400, {"Content-Type": "text/plain"})]
        for status, headers in cases:
            self.assertEqual(self.call("POST", "/contacts/bulk", row, **headers).status, status)
        self.configure("mailingcore", keys={self.key: {"scopes": ["contacts:read"]}})
        refused = self.call("POST", "/contacts/bulk", row)
        self.assertEqual(refused.status, 403)
        self.assertEqual(refused.json["message"],
                         "Missing required API key scope: contacts:write")

    def test_300_requests_pass_in_a_minute(self):
        self.configure("mailingcore", limits={"client": {"limit": 3}})
        statuses = [self.call("GET", "/contacts").status for _ in range(4)]
        self.assertEqual(statuses, [200, 200, 200, 429])
        refused = self.call("GET", "/contacts")
        self.assertNotIn("Retry-After", refused.headers)
        self.assertEqual(refused.headers["X-RateLimit-Remaining"], "0")
        now = self.control("GET", "clock")["now"]
        self.advance(int(refused.headers["X-RateLimit-Reset"]) - now)
        self.assertEqual(self.call("GET", "/contacts").status, 200)

    def test_an_exhausted_quota_says_so(self):
        self.configure("mailingcore", quota={"limit": 10, "used": 12, "percentage": 120})
        refused = self.bulk({"email": "a@example.com"})
        self.assertEqual((refused.status, refused.json["quota"]["used"]), (429, 12))

    def test_list_pages_through_what_changed(self):
        self.bulk(*({"email": f"{n}@example.com"} for n in range(5)))
        since = self.contacts("mailingcore")[0]["updatedAt"]
        path = f"/contacts?limit=2&updatedSince={since}"
        seen, cursor = [], ""
        while cursor is not None:
            page = self.call("GET", path + (f"&cursor={cursor}" if cursor else "")).json
            seen += [contact["email"] for contact in page["data"]]
            cursor = page["meta"]["nextCursor"]
        self.assertEqual(len(set(seen)), 5)
        self.assertEqual(self.call("GET", "/contacts?page=3&limit=2").json["data"][0]["email"],
                         "4@example.com")
        for wrong in ("limit=501", "limit=0", "updatedSince=yesterday", "optIn=1", "foo=1"):
            self.assertEqual(self.call("GET", f"/contacts?{wrong}").status, 400, wrong)

    def test_get_patch_delete(self):
        contact = self.call("PUT", "/contacts", {"email": "a@b.co", "externalId": "x/1"}).json
        self.assertEqual(self.call("GET", "/contacts/x%2F1").json["id"], contact["id"])
        patched = self.call("PATCH", f"/contacts/{contact['id']}", {"locale": "fr"})
        self.assertEqual(patched.json["locale"], "fr")
        self.assertEqual(self.call("DELETE", "/contacts/x%2F1").json,
                         {"deleted": True, "externalId": "x/1"})
        self.assertEqual(self.call("GET", "/contacts/x%2F1").status, 404)

    def test_locale_coverage_counts_who_opted_in(self):
        self.bulk({"email": "a@b.co", "locale": "en", "optIn": True}, {"email": "b@b.co"},
                  {"email": "c@b.co", "locale": "en", "optIn": False})
        coverage = self.call("GET", "/campaigns/cmp_sandbox/locale-coverage").json
        self.assertIn({"locale": "en", "count": 1, "hasTemplate": True}, coverage)

    def test_a_raised_opt_in_is_noticed(self):
        self.bulk({"email": "a@b.co", "optIn": True})
        self.control("POST", "mailingcore/contacts", {
            "account": self.account, "contacts": [{"email": "a@b.co", "optIn": False}]})
        self.bulk({"email": "a@b.co"})
        self.assertEqual(self.events("mailingcore"), [])
        self.bulk({"email": "a@b.co", "optIn": True})
        self.assertEqual(self.events("mailingcore"), ["resubscribed"])

    def test_items_can_be_rejected_by_script(self):
        self.fault("mailingcore", {"reject_items": {"2": {"code": "bad", "message": "no"}}},
                   times=None)
        summary = self.bulk({"email": "a@b.co", "externalId": "1"},
                            {"email": "b@b.co", "externalId": "2"}).json
        self.assertEqual((summary["created"], summary["errors"][0]["code"]), (1, "bad"))


class CampaignLarkTest(AtCampaignLark):
    def test_create_defaults_to_subscribed(self):
        data = self.upsert(fields={"first_name": "A"}, partial_update=True).json["data"]
        self.assertEqual(data["status"], "SUBSCRIBED")
        self.assertEqual(data["data"], {"email_address": "a@b.co", "first_name": "A"})

    def test_full_replace_wipes_and_resubscribes(self):
        self.upsert(fields={"first_name": "A"}, tags=[1], status="UNSUBSCRIBED")
        self.upsert(fields={"last_name": "B"})
        contact, = self.contacts("campaignlark")
        self.assertEqual(contact["fields"], {"last_name": "B"})
        self.assertEqual((contact["tags"], contact["status"]), ([], "SUBSCRIBED"))
        self.assertIn("resubscribed", self.events("campaignlark"))

    def test_partial_update_preserves(self):
        self.upsert(fields={"first_name": "A"}, tags=[1], status="UNSUBSCRIBED")
        self.upsert(fields={"last_name": "B"}, partial_update=True)
        contact, = self.contacts("campaignlark")
        self.assertEqual(contact["fields"], {"first_name": "A", "last_name": "B"})
        self.assertEqual((contact["tags"], contact["status"]), ([1], "UNSUBSCRIBED"))
        self.assertEqual(self.events("campaignlark"), ["FIELD_UPDATED"])

    def test_automations_fire_for_what_changed(self):
        self.upsert(status="UNCONFIRMED", tags=[1], partial_update=True)
        self.upsert(tags=[2], partial_update=True)
        self.upsert(tags=[2], partial_update=True)
        self.assertEqual(self.events("campaignlark"),
                         ["CONTACT_SUBSCRIBED_PENDING", "confirmation_mail_sent", "TAG_ADDED",
                          "TAG_REMOVED"])

    def test_the_documented_errors(self):
        self.configure("campaignlark", fields={"plan": {"required": True}})
        self.assert_refused("Email address is required for upsert operation.",
                            email_address="")
        self.assert_refused("We were unable to find a field with the merge_tag size",
                            fields={"size": 1})
        self.assert_refused("The status you provided is not valid.", status="subscribed")
        self.assert_refused("Field 'Plan' is required.", fields={})
        self.assertEqual(self.contacts("campaignlark"), [])

    def test_other_wrong_bodies(self):
        for body in ({"tags": ["1"]}, {"tags": [True]}, {"tags": [99]}, {"extra": 1},
                     {"partial_update": "true"}, {"fields": {"points": "7"}},
                     {"fields": {"active": 1}}, {"fields": {"born": "1990-01-01"}},
                     {"fields": {"born": "1990-01-01 12:00:00Z"}}, {"fields": {"first_name": 7}},
                     {"fields": {"born": "1990-01-01T12:00:00"}},
                     {"fields": {"first_name": None}}, {"email_address": "nobody"}):
            self.assertEqual(self.upsert(**body).status, 400, body)

    def test_credentials(self):
        missing = self.call("GET", "/fields", Authorization="")
        self.assertIn("Please provide a valid API key", missing.text)
        wrong = self.call("GET", "/fields", Authorization="Bearer nobody")
        self.assertIn("invalid or has been revoked", wrong.text)
        self.configure("campaignlark", keys={self.key: {"addresses": ["192.0.2.1"]}})
        self.assertEqual(self.call("GET", "/fields").status, 403)

    def test_100_requests_a_second(self):
        self.configure("campaignlark", limits={"workspace": {"seconds": 1000}})
        statuses = [self.call("GET", "/tags").status for _ in range(101)]
        self.assertEqual(statuses, [200] * 100 + [429])

    def test_reading(self):
        self.upsert()
        self.assertEqual(self.call("GET", "/contacts/by-email?email=A%40b.co").status, 200)
        self.assertEqual(self.call("GET", "/contacts/by-email?email=x@b.co").status, 404)
        tags = [field["merge_tag"] for field in self.call("GET", "/fields").json["data"]]
        self.assertIn("first_name", tags)
        self.assertEqual(self.call("GET", "/tags?page=2&limit=1").json["data"],
                         [{"id": 2, "name": "vip"}])


class CaramelTest(AtCaramel):
    def test_upsert_lower_cases_and_never_sets_consent(self):
        reply = self.upsert(email=" Jane@Example.com ", first_name="Jane").json
        self.assertEqual((reply["id"], reply["result"]["email"]), (7, "jane@example.com"))
        self.upsert(email="jane@example.com", last_name="A")
        contact, = self.contacts("caramel")
        self.assertEqual((contact["first_name"], contact["last_name"]), ("Jane", "A"))
        self.assertIs(contact["marketing_consent"], False)

    def test_errors_as_http_statuses(self):
        self.assertEqual(self.upsert(email="").json["error"], "email_required")
        self.assertEqual(self.upsert(email=None).status, 400)
        self.assertEqual(self.upsert(email="a@b.co", business_id="bus_x").json["error"],
                         "business_not_found")
        self.configure("caramel", businesses={BUSINESS: {"subscription_tier": "growth"}})
        self.assertEqual(self.upsert(email="a@b.co").json["error"], "tier_required")
        self.configure("caramel", keys={self.token: {"scopes": []}})
        self.assertEqual(self.upsert(email="a@b.co").json["error"], "scope_required")
        self.token = "nobody"
        self.assertEqual(self.upsert(email="a@b.co").status, 401)

    def test_errors_as_tool_results(self):
        self.configure("caramel", errors="tool", misspell=True)
        reply = self.upsert(email="")
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.json["result"], {
            "content": [{"type": "text", "text": "email is required"}], "isError": True})
        self.configure("caramel", keys={self.token: {"revoked": True}})
        error = self.upsert(email="a@b.co").json["error"]
        self.assertEqual(error["code"], -32001)
        self.assertIn("messsage", error)

    def test_the_envelope_is_strict(self):
        good = {"jsonrpc": "2.0", "method": "ping", "id": 1}
        self.assertEqual(self.rpc(good).json["result"], {})
        for code, document in ((-32700, "{"), (-32600, {**good, "jsonrpc": "1.0"}),
                               (-32600, {**good, "id": "one"}), (-32600, {**good, "more": 1}),
                               (-32601, {**good, "method": "tools/run"})):
            self.assertEqual(self.rpc(document).json["error"]["code"], code, document)
        unknown = self.upsert(email="a@b.co", marketing_consent=True)
        self.assertEqual(unknown.json["error"]["code"], -32602)

    def test_results_as_content_and_as_events(self):
        self.configure("caramel", result="content", sse=True)
        reply = self.rpc({"jsonrpc": "2.0", "method": "tools/call", "id": 1, "params": {
            "name": "caramel.v1.contact.upsert",
            "arguments": {"business_id": BUSINESS, "email": "a@b.co"}}},
            Accept="application/json, text/event-stream")
        self.assertEqual(reply.headers["Content-Type"], "text/event-stream")
        body = json.loads(reply.text.split("data: ", 1)[1])
        self.assertEqual(json.loads(body["result"]["content"][0]["text"])["email"], "a@b.co")

    def test_three_windows(self):
        self.configure("caramel", limits={"bearer": {"limit": 2}})
        statuses = [self.upsert(email="a@b.co").status for _ in range(3)]
        self.assertEqual(statuses, [200, 200, 429])
        refused = self.upsert(email="a@b.co")
        self.assertTrue(0 <= int(refused.headers["Retry-After"]) <= 60)
        self.assertIn("x-ratelimit-reset", refused.headers)
        self.configure("caramel", limits={"bearer": None, "ip": {"kind": "sliding",
                                                                 "limit": 60, "seconds": 60}})
        statuses = [self.upsert(email="a@b.co").status for _ in range(61)]
        self.assertEqual(statuses, [200] * 60 + [429])

    def test_a_form_sets_consent_and_has_its_own_limit(self):
        data = {"email": "a@b.co", "first_name": "A"}
        submitted = [self.tool("form.submit", form_id="frm_import", data=data)
                     for _ in range(11)]
        self.assertEqual([reply.status for reply in submitted], [200] * 10 + [429])
        contact, = self.contacts("caramel")
        self.assertIs(contact["marketing_consent"], True)
        self.assertEqual(contact["source"], "form_submit")
        self.advance(61)
        for form_id, values in (("frm_none", data), ("frm_import", {**data, "age": 1}),
                                ("frm_import", {"first_name": "A"})):
            reply = self.tool("form.submit", form_id=form_id, data=values)
            self.assertIn(reply.status, (400, 404))

    def test_journeys_enroll_once(self):
        self.configure("caramel", journeys={"welcome": {"active": True,
                                                        "segment": {"source": "api"}}})
        self.upsert(email="a@b.co")
        self.upsert(email="a@b.co")
        self.assertEqual(self.events("caramel"), ["JOURNEY_ENROLLED"])

    def test_refresh_tokens_rotate(self):
        first = self.refresh(f"rt_{self.account}").json
        self.assertEqual((first["expires_in"], first["token_type"]), (3600, "Bearer"))
        again = self.refresh(f"rt_{self.account}")
        self.assertEqual((again.status, again.json["error"]), (400, "invalid_grant"))
        second = self.refresh(first["refresh_token"])
        self.assertEqual(second.status, 200)
        self.token = first["access_token"]
        self.assertEqual(self.upsert(email="a@b.co").status, 200)
        self.advance(3601)
        self.assertEqual(self.upsert(email="a@b.co").status, 401)
        self.advance(31 * 86400)
        self.assertEqual(self.refresh(second.json["refresh_token"]).json["error"],
                         "invalid_grant")
        self.assertEqual(len([entry for entry in self.journal("caramel")
                              if entry["path"] == "/token"]), 4)

    def test_usage_through_the_gateway(self):
        self.upsert(email="a@b.co")
        headers = {"Authorization": f"Bearer {self.token}",
                   "Content-Type": "application/x-www-form-urlencoded"}
        reply = self.http("POST", "/caramel/gateway/v1/meta/usage", {"business_id": BUSINESS},
                          headers)
        self.assertEqual(reply.json["contacts"], 1)


class OwlatTest(AtOwlat):
    def test_create_conflict_update(self):
        self.assertEqual(self.create(firstName="A", lastName="").status, 201)
        self.assert_error(self.create(), 409, "already_exists")
        updated = self.call("PUT", "/contacts/a%40b.co", {"firstName": "B"})
        self.assertEqual(updated.json["data"]["firstName"], "B")
        self.assert_error(self.call("PUT", "/contacts/x%40b.co", {}), 404, "not_found")
        self.create(email="b@b.co")
        self.assert_error(self.call("PUT", "/contacts/b%40b.co", {"email": "a@b.co"}),
                          409, "already_exists")
        self.assertEqual(self.events("owlat"),
                         ["contact_created", "contact_updated", "contact_created"])

    def test_what_a_create_refuses(self):
        self.configure("owlat", unknown_fields="refuse")
        for body in ({"email": " a@b.co"}, {"email": "nobody"}, {"firstName": None},
                     {"firstName": 1}, {"firstName": "x" * 201}, {"plan": "free"}):
            self.assert_error(self.create(**body), 400, "invalid_input")
        self.configure("owlat", unknown_fields="drop", contact_limit=1)
        self.assertEqual(self.create(plan="free").status, 201)
        self.assertEqual(self.journal("owlat")[-1]["dropped"], ["plan"])
        self.assert_error(self.create(email="b@b.co"), 402, "limit_reached")

    def test_an_update_bounds_no_name_and_clears_with_an_empty_one(self):
        self.create(firstName="A")
        self.assertEqual(self.call("PUT", "/contacts/a%40b.co",
                                   {"firstName": "", "lastName": "x" * 201}).status, 200)
        self.assertEqual(self.contacts("owlat")[0]["firstName"], "")

    def test_paths(self):
        self.create(email="a+b/c@b.co")
        self.assertEqual(self.call("GET", "/contacts/a%2Bb%2Fc%40b.co").status, 200)
        self.assertEqual(self.call("GET", "/contacts/a+b/c@b.co").text,
                         "No matching routes found")
        self.assertEqual(self.call("PUT", "/contacts/a%4", {}).status, 500)
        self.assertEqual(self.call("PUT", "/contacts/%20a%40b.co", {}).status, 400)
        self.assertEqual(self.call("POST", "/contacts/", {}).headers["Content-Type"],
                         "text/plain")

    def test_credentials(self):
        bad_format = self.call("GET", "/contacts", Authorization="Bearer lm_live_short")
        self.assertEqual(bad_format.json["error"]["message"], "Invalid API key format")
        unknown = self.call("GET", "/contacts", Authorization=f"Bearer lm_live_{'z' * 32}")
        self.assertEqual(unknown.json["error"]["message"], "Invalid API key")
        self.assertNotIn("X-RateLimit-Limit", unknown.headers)
        self.configure("owlat", keys={self.key: {"scopes": []}})
        self.assert_error(self.create(), 403, "forbidden")
        self.assertEqual(self.http("GET", "/owlat/api/v1/health").status, 200)

    def test_the_bucket_holds_15(self):
        self.configure("owlat", limits={"key": {"limit": 0.01}})
        replies = [self.call("GET", "/contacts") for _ in range(16)]
        self.assertEqual([reply.status for reply in replies], [200] * 15 + [429])
        self.assertGreaterEqual(int(replies[-1].headers["Retry-After"]), 1)

    def test_topics(self):
        contact = self.create().json["data"]
        self.control("POST", "owlat/contacts", {"account": self.account, "contacts": [
            {"email": "a@b.co", "unsubscribedAt": "2026-01-01T00:00:00Z"}]})
        pending = self.call("POST", f"/topics/{DOI_TOPIC}/contacts", {"email": "a@b.co"})
        self.assertEqual((pending.status, pending.json["data"]["doiStatus"]), (201, "pending"))
        self.assertIsNotNone(self.contacts("owlat")[0]["unsubscribedAt"])
        for _ in range(2):
            added = self.call("POST", f"/topics/{TOPIC}/contacts", {"contactId": contact["id"]})
            self.assertEqual(added.json["data"]["doiStatus"], "pending")   # the contact's own
        self.assertIsNone(self.contacts("owlat")[0]["unsubscribedAt"])
        self.assertEqual(self.events("owlat"),
                         ["contact_created", "confirmation_mail_sent", "resubscribed"])
        self.assertTrue(self.call("DELETE", f"/topics/{TOPIC}/contacts/a%40b.co")
                        .json["data"]["removed"])

    def test_what_is_wrong_with_a_topic(self):
        self.create()
        for topic, status, category, message in (
                ("0" * 32, 500, "internal", "Internal error"),
                ("x", 400, "invalid_input", "Invalid topic ID format"),
                ("deleted0000000000000000000000000", 404, "not_found", "Topic not found")):
            self.configure("owlat", topics={"deleted0000000000000000000000000": None})
            reply = self.call("POST", f"/topics/{topic}/contacts", {"email": "a@b.co"})
            self.assert_error(reply, status, category)
            self.assertEqual(reply.json["error"]["message"], message)

    def test_who_is_not_there_is_echoed(self):
        for method, path, body in (
                ("PUT", "/contacts/topic%40b.co", {}), ("GET", "/contacts/topic%40b.co", None),
                ("POST", f"/topics/{TOPIC}/contacts", {"email": "topic@b.co"}),
                ("DELETE", f"/topics/{TOPIC}/contacts/topic%40b.co", None)):
            reply = self.call(method, path, body)
            self.assert_error(reply, 404, "not_found")
            self.assertEqual(reply.json["error"]["message"],
                             'Contact with email "topic@b.co" not found')

    def test_names_are_trimmed_and_counted_as_javascript_does(self):
        made = self.create(firstName="\u00a0\ufeff A \u00a0", lastName="\ufeff").json["data"]
        self.assertEqual((made["firstName"], made["lastName"]), ("A", None))
        self.assertEqual(self.create(email="b@b.co", firstName="\U0001f600" * 100).status, 201)
        self.assertEqual(self.create(email="c@b.co", firstName="\U0001f600" * 101).status, 400)
        put = self.call("PUT", "/contacts/a%40b.co", {"lastName": " " + "x" * 201})
        self.assertEqual((put.status, put.json["data"]["lastName"]), (200, "x" * 201))

    def test_bytes_that_are_no_text_are_replaced(self):
        reply = self.call("POST", "/contacts", b'{"email": "a@b.co", "firstName": "J\xf6rg"}')
        self.assertEqual(reply.json["data"]["firstName"], "J\ufffdrg")

    def test_paths_that_there_are_not(self):
        self.create()
        for method, path in (("PATCH", "/contacts/a%40b.co"), ("POST", "/contacts/"),
                             ("GET", "/nowhere"), ("POST", f"/topics/{TOPIC}/contacts/")):
            reply = self.call(method, path, {})
            self.assertEqual((reply.status, reply.headers["Content-Type"]), (404, "text/plain"))

    def test_looking_up_needs_its_scope(self):
        self.configure("owlat", keys={self.key: {"scopes": ["contacts:write", "topics:write"]}})
        self.create()
        refused = self.call("GET", "/contacts/a%40b.co")
        self.assert_error(refused, 403, "forbidden")
        self.assertIn("contacts:read", refused.json["error"]["message"])

    def test_another_address_is_not_another_identity(self):
        made = self.create().json["data"]
        self.call("PUT", "/contacts/a%40b.co", {"email": "new@b.co"})
        self.assert_error(self.call("PUT", "/contacts/a%40b.co", {}), 404, "not_found")
        self.assert_error(self.create(), 409, "already_exists")
        self.assertEqual(self.create(email="new@b.co").status, 201)
        self.assertEqual([contact["email"] for contact in self.contacts("owlat")],
                         ["new@b.co", "new@b.co"])
        named = self.call("PUT", f"/contacts/{made['id']}", {"firstName": "A"})
        self.assertEqual((named.status, named.json["data"]["id"]), (200, made["id"]))
        self.assertEqual(self.call("GET", "/contacts/new%40b.co").json["data"]["id"], made["id"])
        self.call("DELETE", f"/contacts/{made['id']}")
        self.assertEqual(self.create().status, 201)
        self.assert_error(self.call("GET", f"/contacts/{made['id']}"), 404, "not_found")

    def test_every_put_moves_updated_at(self):
        before = self.create().json["data"]["updatedAt"]
        self.advance(5)
        after = self.call("PUT", "/contacts/a%40b.co", {}).json["data"]["updatedAt"]
        self.assertGreater(after, before)

    def test_list_pages(self):
        for number in range(3):
            self.create(email=f"{number}@b.co")
        first = self.call("GET", "/contacts?limit=2").json
        self.assertEqual((first["pagination"]["totalItems"], first["pagination"]["isDone"]),
                         (3, False))
        rest = self.call("GET", f"/contacts?limit=2&cursor={first['pagination']['cursor']}").json
        self.assertEqual(rest["data"][0]["email"], "2@b.co")


class SpotzeeTest(AtSpotzee):
    def test_contacts_batch(self):
        reply = self.contacts_batch({"external_id": "1", "first_name": "A", "data": {"n": 1}},
                                    {"external_id": "2", "email": "nobody"})
        self.assertEqual((reply.status, reply.json["succeeded"], reply.json["failed"]),
                         (200, 1, 1))
        error, = reply.json["errors"]
        self.assertEqual((error["external_id"], error["code"]), ("2", "parameter_invalid_format"))
        self.contacts_batch({"external_id": "1", "data": {"m": 2}})
        contact, = self.contacts("spotzee")
        self.assertEqual((contact["first_name"], contact["data"]), ("A", {"n": 1, "m": 2}))

    def test_users_batch(self):
        reply = self.call("POST", "/users/batch", [
            {"external_id": "1", "data": {"first_name": "A"}}, {"anonymous_id": "x"}])
        self.assertEqual([result["index"] for result in reply.json["results"]], [0, 1])
        self.assertEqual(reply.json["results"][0]["user"]["data"], {"first_name": "A"})
        for items in ([], [{"external_id": 1}], [{"external_id": "1", "first_name": "A"}],
                      [{"email": "a@b.co"}], [{"external_id": "1"}] * 101, {"contacts": []}):
            refused = self.call("POST", "/users/batch", items)
            self.assertIn(refused.status, (400, 422), items)
            self.assertEqual(refused.headers["Content-Type"], "application/problem+json")
            self.assertEqual(refused.json["error"], refused.json["message"])
        self.assertEqual(self.call("PATCH", "/users", [{"external_id": "9"}]).status, 204)

    def test_field_errors_of_a_refused_request(self):
        self.configure("spotzee", invalid_items="request")
        refused = self.contacts_batch({"external_id": "1", "email": "nobody"})
        self.assertEqual((refused.status, refused.json["code"]), (422, "validation_failed"))
        self.assertEqual(refused.json["errors"][0]["param"], "contacts[0].email")

    def test_idempotency(self):
        first = self.contacts_batch({"external_id": "1"}, Idempotency_Key="k")
        again = self.contacts_batch({"external_id": "1"}, Idempotency_Key="k")
        self.assertEqual((again.text, again.headers["Idempotent-Replayed"]),
                         (first.text, "true"))
        other = self.contacts_batch({"external_id": "2"}, Idempotency_Key="k")
        self.assertEqual((other.status, other.json["code"]), (409, "idempotency_key_mismatch"))
        self.advance(24 * 3600 + 1)
        self.assertEqual(self.contacts_batch({"external_id": "2"}, Idempotency_Key="k").status,
                         200)
        self.assertEqual(self.contacts_batch({"external_id": "2"},
                                             Idempotency_Key="k" * 256).json["code"],
                         "idempotency_key_invalid")

    def test_idempotency_keeps_4xx(self):
        self.contacts_batch(Idempotency_Key="k")
        again = self.contacts_batch(Idempotency_Key="k")
        self.assertEqual((again.status, again.headers["Idempotent-Replayed"]), (400, "true"))

    def test_idempotency_in_progress(self):
        self.fault("spotzee", {"stall": True})
        item = {"external_id": "1"}
        first = threading.Thread(target=self.contacts_batch, args=(item,),
                                 kwargs={"Idempotency_Key": "k"})
        first.start()
        while not any(entry["fault"] for entry in self.journal("spotzee")):
            time.sleep(0.01)
        second = self.contacts_batch(item, Idempotency_Key="k")
        self.assertEqual((second.status, second.json["code"]), (409, "idempotency_in_progress"))
        self.assertIn("Retry-After", second.headers)
        self.control("DELETE", f"spotzee/fault?account={self.account}")
        first.join()
        self.assertEqual(len(self.contacts("spotzee")), 1)

    def test_credentials_and_version(self):
        self.assertEqual(self.call("GET", "/me").json["id"], self.account)
        self.assertEqual(self.call("GET", "/me", Authorization="Bearer pk_x").status, 401)
        self.assertEqual(self.call("GET", "/me", Spotzee_Version="x").status, 400)
        self.assertEqual(self.call("GET", "/me", Spotzee_Version="2020-01-01").json["code"],
                         "version_unsupported")
        self.configure("spotzee", keys={self.key: {"role": "support"}})
        self.assertEqual(self.contacts_batch({"external_id": "1"}).status, 403)

    def test_rate_limit(self):
        self.configure("spotzee", limits={"edge": {"limit": 1}})
        self.call("GET", "/me")
        refused = self.call("GET", "/me")
        self.assertEqual((refused.status, refused.json["code"]), (429, "rate_limited"))
        self.assertNotIn("Retry-After", refused.headers)
        self.configure("spotzee", retry_after=True)
        self.assertTrue(1 <= int(self.call("GET", "/me").headers["Retry-After"]) <= 10)
        self.advance(10)
        self.assertEqual(self.call("GET", "/me").status, 200)

    def test_one_of_the_paths_may_be_missing(self):
        item = {"external_id": "1"}
        for paths, there, missing in (("users", "/users/batch", "/contacts/batch"),
                                      ("contacts", "/contacts/batch", "/users/batch")):
            self.configure("spotzee", paths=paths)
            body = {"/users/batch": [item], "/contacts/batch": {"contacts": [item]}}
            self.assertEqual(self.call("POST", there, body[there]).status, 200)
            refused = self.call("POST", missing, body[missing])
            self.assertEqual((refused.status, refused.json["code"]), (404, "resource_missing"))
            self.assertEqual(refused.json["message"], f"Cannot POST /api/client{missing}")
            self.assertEqual(self.call("GET", missing.replace("batch", "1")).json["message"],
                             f"Cannot GET /api/client{missing.replace('batch', '1')}")
            self.assertEqual(self.call("GET", there.replace("batch", "9")).json["message"],
                             "No such user")
        self.configure("spotzee", path_404="text")
        self.assertEqual(self.call("POST", missing, {}).text, "Not Found")

    def test_an_empty_phone_is_refused(self):
        reply = self.contacts_batch({"external_id": "1", "phone": ""}, {"external_id": "2"})
        self.assertEqual((reply.json["succeeded"], reply.json["errors"][0]["external_id"]), (1, "1"))

    def test_what_idempotency_does_not_keep(self):
        for action in ({"status": 408}, {"status": 425}, {"status": 400, "retry_after": 1},
                       {"status": 503}):
            self.fault("spotzee", action, effect="after")
            self.contacts_batch({"external_id": "1"}, Idempotency_Key=str(action))
            again = self.contacts_batch({"external_id": "1"}, Idempotency_Key=str(action))
            self.assertEqual(again.status, 200)
            self.assertNotIn("Idempotent-Replayed", again.headers, action)
        self.fault("spotzee", {"reset": "before"}, effect="after")
        with self.assertRaises(ConnectionResetError):
            self.contacts_batch({"external_id": "1"}, Idempotency_Key="lost")
        again = self.contacts_batch({"external_id": "1"}, Idempotency_Key="lost")
        self.assertEqual(again.headers["Idempotent-Replayed"], "true")

    def test_a_key_is_one_whatever_the_path(self):
        self.contacts_batch({"external_id": "1"}, Idempotency_Key="k")
        other = self.call("POST", "/users/batch", [{"external_id": "1"}], **{"Idempotency-Key": "k"})
        self.assertEqual((other.status, other.json["code"]), (409, "idempotency_key_mismatch"))

    def test_pages_forward_and_back(self):
        self.contacts_batch(*({"external_id": str(number)} for number in range(5)))
        first = self.call("GET", "/users?limit=2")
        self.assertEqual(first.headers["X-Total-Count"], "5")
        second = self.call("GET", f"/users?limit=2&cursor={first.json['nextCursor']}").json
        self.assertEqual([user["external_id"] for user in second["results"]], ["2", "3"])
        back = self.call("GET", f"/users?limit=2&page=prev&cursor={second['prevCursor']}").json
        self.assertEqual([user["external_id"] for user in back["results"]], ["0", "1"])

    def test_delete_and_subscriptions(self):
        self.contacts_batch(*({"external_id": str(number)} for number in range(4)))
        self.assertEqual(self.call("DELETE", "/users/0").status, 204)
        self.assertEqual(self.call("DELETE", "/users?user_id=1&user_id=2").status, 204)
        self.assertEqual(self.call("GET", "/users/0").status, 404)
        reply = self.call("POST", "/subscriptions/batch", [
            {"external_id": "3", "subscription_id": 5, "state": 1},
            {"external_id": "0", "subscription_id": 5, "state": 1}])
        self.assertEqual((reply.json["succeeded"], reply.json["failed"]), (1, 1))
        self.assertEqual(self.contacts("spotzee")[0]["subscriptions"], {"5": 1})
        reply = self.call("POST", "/subscriptions/batch", [
            {"external_id": "3", "subscription_id": 99, "state": 0}])
        self.assertEqual(reply.json["results"][0]["error"]["code"], "resource_missing")


if __name__ == "__main__":
    unittest.main()
