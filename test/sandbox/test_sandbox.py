"""Test the sandbox itself: limits, faults, journal, control interface, fast responder.

Run with: python3 -m unittest discover -s test/sandbox
"""

import http.client
import json
import socket
import ssl
import threading
import time
import unittest
from email.utils import parsedate_to_datetime

import ratelimit
from clock import Clock
from sandboxtest import Reply, SandboxTest
from schema import is_email


class LimiterTest(unittest.TestCase):
    def count_allowed(self, limiter, now, tries):
        allowed = 0
        for _ in range(tries):
            if limiter.look(now).allowed:
                limiter.use(now)
                allowed += 1
        return allowed

    def test_fixed_window_opens_with_the_first_request(self):
        limiter = ratelimit.make({"kind": "fixed", "limit": 3, "seconds": 60})
        self.assertEqual(self.count_allowed(limiter, 1000, 5), 3)
        self.assertEqual(limiter.look(1059.5).retry_after, 0.5)
        self.assertEqual(self.count_allowed(limiter, 1060, 5), 3)

    def test_sliding_window_frees_one_place_at_a_time(self):
        limiter = ratelimit.make({"kind": "sliding", "limit": 2, "seconds": 60})
        limiter.use(1000)
        limiter.use(1030)
        self.assertEqual(limiter.look(1030).retry_after, 30)
        self.assertEqual(self.count_allowed(limiter, 1060, 5), 1)

    def test_token_bucket_bursts_then_keeps_its_rate(self):
        limiter = ratelimit.make({"kind": "bucket", "limit": 10, "burst": 15})
        self.assertEqual(self.count_allowed(limiter, 1000, 30), 15)
        self.assertEqual(self.count_allowed(limiter, 1000.5, 30), 5)

    def test_a_limit_that_is_none_is_refused(self):
        with self.assertRaises(ValueError):
            ratelimit.make({"kind": "leaky"})

    def test_a_faster_clock_starts_at_the_real_time(self):
        clock = Clock(1000)
        self.assertAlmostEqual(clock.now(), time.time(), delta=60)
        time.sleep(0.01)
        self.assertGreater(clock.now(), time.time() + 5)

    def test_email_addresses(self):
        for good in ("a@b.co", "x.y+z@sub.example.com", "jörg@münchen.example"):
            self.assertTrue(is_email(good), good)
        for bad in ("", "a", "a@b", "a b@c.de", ".a@b.co", "a..b@c.de", "a@-b.co", "a@b.co "):
            self.assertFalse(is_email(bad), bad)


class FaultTest(SandboxTest):
    """Test scripted faults with CampaignLark; the clock runs ten times faster."""

    options = ("--clock-speed", "10")

    def setUp(self):
        super().setUp()
        self.key = f"cl_{self.account}"
        self.configure("campaignlark", keys={self.key: {}})

    def upsert(self, email="a@b.co"):
        return self.http("POST", "/campaignlark/v1/contacts/upsert", {"email_address": email}, {
            "Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})

    def break_with(self, action, **more):
        return self.fault("campaignlark", action, **more)

    def stored(self):
        return len(self.contacts("campaignlark"))

    def test_before_and_after(self):
        self.break_with({"status": 503})
        self.break_with({"status": 500}, effect="after")
        self.assertEqual((self.upsert().status, self.stored()), (503, 0))
        self.assertEqual((self.upsert().status, self.stored()), (500, 1))
        self.assertEqual(self.upsert().status, 200)

    def test_retry_after_in_three_forms(self):
        for value in (7, "0", "date:+30"):
            self.break_with({"status": 429, "retry_after": value})
        self.assertEqual(self.upsert().headers["Retry-After"], "7")
        self.assertEqual(self.upsert().headers["Retry-After"], "0")
        date = parsedate_to_datetime(self.upsert().headers["Retry-After"]).timestamp()
        self.assertAlmostEqual(date, self.control("GET", "clock")["now"] + 30, delta=5)
        own = parsedate_to_datetime(self.upsert().headers["Date"]).timestamp()
        self.assertAlmostEqual(date, own + 30, delta=5)

    def test_match(self):
        self.break_with({"status": 500}, times=None, match={"email": "bad@b.co"})
        self.break_with({"status": 502}, match={"path": "/v1/*", "nth": 2})
        self.assertEqual([self.upsert(email).status for email in
                          ("bad@b.co", "a@b.co", "a@b.co", "bad@b.co")], [500, 502, 200, 500])
        self.control("DELETE", "campaignlark/fault")
        self.assertEqual(self.upsert("bad@b.co").status, 200)

    def test_resets(self):
        for where in ("before", "inside"):
            self.break_with({"reset": where}, effect="after")
            with self.assertRaises((ConnectionResetError, http.client.IncompleteRead)):
                self.upsert()
        self.assertEqual(self.stored(), 1)

    def test_reset_after_a_whole_answer(self):
        self.break_with({"reset": "after"}, effect="after")
        body = b'{"email_address": "a@b.co"}'
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(
                b"POST /campaignlark/v1/contacts/upsert HTTP/1.1\r\nHost: x\r\n"
                b"Authorization: Bearer %b\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (self.key.encode(), len(body), body))
            self.assertIn(b'"status": "SUBSCRIBED"', connection.recv(65536))
            with self.assertRaises(ConnectionResetError):
                connection.recv(1)

    def test_damaged_bodies(self):
        self.break_with({"truncate": True})
        with self.assertRaises(http.client.IncompleteRead):
            self.upsert()
        self.break_with({"invalid_json": True})
        with self.assertRaises(ValueError):
            self.upsert().json
        self.break_with({"huge": 1_000_000})
        self.assertGreater(len(self.upsert().text), 1_000_000)
        self.break_with({"status": 502, "html": True})
        self.assertIn("<html>", self.upsert().text)
        self.break_with({"redirect": "http://127.0.0.1:1/"})
        self.assertEqual(self.upsert().status, 302)

    def test_latency_and_stalls_are_in_clock_seconds(self):
        for action in ({"latency": 2}, {"stall": 2}, {"stall": 2, "stall_at": "inside"}):
            self.break_with(action)
            started = time.monotonic()
            self.assertEqual(self.upsert().status, 200)
            self.assertTrue(0.15 < time.monotonic() - started < 1.5)

    def test_a_stalled_request_is_in_the_journal_until_it_is_released(self):
        self.break_with({"stall": True})
        caller = threading.Thread(target=self.upsert)
        caller.start()
        while not self.journal("campaignlark"):
            time.sleep(0.01)
        entry, = self.journal("campaignlark")
        self.assertTrue(entry["in_flight"] and not entry["answered"])
        self.control("DELETE", f"campaignlark/fault?account={self.account}")
        caller.join()
        entry, = self.journal("campaignlark")
        self.assertEqual((entry["in_flight"], entry["status"]), (False, 200))

    def test_a_request_that_was_given_up_is_not_processed(self):
        self.break_with({"latency": 3})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=0.1)
        connection.request("POST", "/campaignlark/v1/contacts/upsert", b"{}",
                           {"Authorization": f"Bearer {self.key}"})
        with self.assertRaises(TimeoutError):
            connection.getresponse()
        connection.close()
        while self.journal("campaignlark")[0]["in_flight"]:
            time.sleep(0.01)
        entry, = self.journal("campaignlark")
        self.assertEqual((entry["answered"], entry["status"]), (False, None))

    def test_the_default_limits_are_the_documented_ones(self):
        documented = {
            "mailingcore": {"client": (300, 60)}, "campaignlark": {"workspace": (100, 1)},
            "caramel": {"bearer": (600, 60), "ip": (60, 60), "host": (50000, 60),
                        "form": (10, 60)},
            "owlat": {"key": (10, 15)}, "spotzee": {"edge": (1000, 10), "client": (8000, 60)}}
        for provider, limits in documented.items():
            config = self.control("GET", f"{provider}/config")
            self.assertEqual(limits, {
                name: (limit["limit"], limit.get("seconds", limit.get("burst")))
                for name, limit in config["limits"].items()})

    def test_unknown_names_are_refused(self):
        for script in ({}, {"action": {"explode": True}}, {"action": {}, "match": {"mail": ""}},
                       {"action": {}, "effect": "during"}):
            self.assertEqual(self.http("POST", "/control/campaignlark/fault", script).status,
                             400, script)
        self.assertEqual(self.http("POST", "/control/campaignlark/config", {"kyes": 1}).status,
                         400)


class ControlTest(SandboxTest):
    options = ("--tls",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.certificate = cls.process.stdout.readline().split()[1]

    def http(self, method, path, body=None, headers=None):
        context = ssl.create_default_context(cafile=self.certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context)
        self.addCleanup(connection.close)
        connection.request(method, path, json.dumps(body) if body else None, headers or {})
        return Reply(connection.getresponse())

    def test_journal_and_count_over_tls(self):
        self.http("GET", "/campaignlark/v1/tags", headers={"Authorization": "Bearer cl_sandbox"})
        entry = self.control("GET", "campaignlark/journal?account=ws_sandbox")[-1]
        self.assertEqual((entry["method"], entry["path"], entry["status"]),
                         ("GET", "/v1/tags", 200))
        self.assertNotIn("cl_sandbox", json.dumps(entry))
        self.assertEqual(self.control("GET", f"campaignlark/journal?since={entry['seq']}"), [])
        counts = self.control("GET", "campaignlark/count?account=ws_sandbox")
        self.assertEqual((counts["requests"], counts["max_in_flight"], counts["rate_limited"]),
                         (1, 1, 0))

    def test_certificates(self):
        self.addCleanup(self.certificate_becomes, {})
        for document, complaint in (({"expired": True}, "expired"), ({"host": "a.example"}, "not valid for")):
            self.certificate_becomes(document)
            with self.assertRaisesRegex(ssl.SSLCertVerificationError, complaint):
                self.http("GET", "/control/clock")
        self.certificate_becomes({})
        self.assertEqual(self.http("GET", "/control/clock").status, 200)

    def certificate_becomes(self, document):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=ssl._create_unverified_context())
        connection.request("POST", "/control/certificate", json.dumps(document))
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()

    def test_reset_forgets_everything(self):
        self.configure("mailingcore", quota={"used": 1})
        self.control("POST", "reset")
        self.assertEqual(self.http("GET", f"/control/mailingcore/config?account={self.account}")
                         .status, 404)


class ResponderTest(SandboxTest):
    options = ("--fast", "--fast-email")

    def test_it_counts_and_remembers(self):
        body = {"contacts": [{"email": "a@b.co"}, {"email": "b@b.co"}]}
        self.assertEqual(self.http("POST", "/contacts/bulk", body).json,
                         {"created": 2, "updated": 0, "failed": 0})
        report = self.http("GET", "/control/fast/journal").json
        self.assertEqual((report["requests"], report["contacts"]), (1, 2))
        self.assertEqual(report["journal"][0]["email"], "a@b.co")
        self.assertEqual(self.http("GET", "/control/fast/journal?since=1").json["journal"], [])


if __name__ == "__main__":
    unittest.main()
