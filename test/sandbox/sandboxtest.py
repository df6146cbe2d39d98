"""Helpers for the tests of the sandbox: one running sandbox, an account for each test, and calls of each provider."""

import http.client
import itertools
import json
import subprocess
import sys
import unittest
from pathlib import Path
from urllib.parse import urlencode

HERE = Path(__file__).resolve().parent
BUSINESS = "bus_01h7m9k0aabcdefghj1234567"
TOPIC = "topicsingle000000000000000000000"
DOI_TOPIC = "topicdouble000000000000000000000"


def start(*options):
    """Start a sandbox; return its process and port."""
    process = subprocess.Popen([sys.executable, str(HERE), "--exit-with-stdin", *options],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


def stop(process):
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    @property
    def json(self):
        return json.loads(self.text)


class SandboxTest(unittest.TestCase):
    """Base class whose tests share a sandbox, but use separate accounts."""

    options = ()
    serial = itertools.count(1)

    @classmethod
    def setUpClass(cls):
        cls.process, cls.port = start(*cls.options)

    @classmethod
    def tearDownClass(cls):
        stop(cls.process)

    def setUp(self):
        self.account = f"acct{next(self.serial)}"

    def http(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.addCleanup(connection.close)
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        connection.request(method, path, body, headers or {})
        return Reply(connection.getresponse())

    def control(self, method, call, document=None):
        reply = self.http(method, f"/control/{call}", document)
        self.assertEqual(reply.status, 200, reply.text)
        return reply.json

    def configure(self, provider, **settings):
        return self.control("POST", f"{provider}/config", {"account": self.account, **settings})

    def fault(self, provider, action, **more):
        match = {"account": self.account, **more.pop("match", {})}
        return self.control("POST", f"{provider}/fault",
                            {"match": match, "action": action, **more})

    def contacts(self, provider):
        return self.control("GET", f"{provider}/contacts?account={self.account}")

    def events(self, provider):
        found = self.control("GET", f"{provider}/events?account={self.account}")
        return [event["kind"] for event in found]

    def act(self, provider, email, act, **options):
        """What a person does; returns their report."""
        return self.control("POST", f"{provider}/people",
                            {"account": self.account, "email": email, "act": act, **options})

    def person(self, provider, email="a@b.co"):
        """(may be mailed, by whose word, what reaches them), and the kinds of events in their order."""
        found, = self.control("GET", f"{provider}/mailable?account={self.account}&email={email}")
        return ((found["mailable"], found["by"], found["reach"]),
                [event["kind"] for event in found["events"]])

    def journal(self, provider):
        return self.control("GET", f"{provider}/journal?account={self.account}")

    def advance(self, seconds):
        self.control("POST", "clock", {"advance": seconds})


class AtMailingCore(SandboxTest):
    def setUp(self):
        super().setUp()
        self.key = f"mc_test_{self.account}"
        self.configure("mailingcore", keys={self.key: {
            "scopes": ["contacts:read", "contacts:write", "campaigns:read"]}})

    def call(self, method, path, body=None, **headers):
        return self.http(method, "/mailingcore" + path, body, {
            "Authorization": f"Bearer {self.key}", "X-Tenant-Id": self.account,
            "Content-Type": "application/json", **headers})

    def bulk(self, *rows):
        return self.call("POST", "/contacts/bulk", {"contacts": list(rows)})


class AtCampaignLark(SandboxTest):
    def setUp(self):
        super().setUp()
        self.key = f"cl_{self.account}"
        self.configure("campaignlark", keys={self.key: {}})

    def call(self, method, path, body=None, **headers):
        return self.http(method, "/campaignlark/v1" + path, body, {
            "Authorization": f"Bearer {self.key}", "Content-Type": "application/json",
            **headers})

    def upsert(self, **body):
        return self.call("POST", "/contacts/upsert", {"email_address": "a@b.co", **body})

    def assert_refused(self, message, **body):
        reply = self.upsert(**body)
        self.assertEqual((reply.status, reply.json), (400, {"error": {"message": message}}))


class AtCaramel(SandboxTest):
    def setUp(self):
        super().setUp()
        self.token = f"tok_{self.account}"
        self.configure("caramel", limits={"ip": None}, refresh_tokens={f"rt_{self.account}": {}},
                       keys={self.token: {"scopes": ["forms:write", "audience:write"]}})

    def rpc(self, document, **headers):
        return self.http("POST", "/caramel/mcp", document, {
            "Authorization": f"Bearer {self.token}", "Content-Type": "application/json",
            **headers})

    def tool(self, name, **arguments):
        return self.rpc({"jsonrpc": "2.0", "method": "tools/call", "id": 7, "params": {
            "name": f"caramel.v1.{name}", "arguments": {"business_id": BUSINESS, **arguments}}})

    def upsert(self, **arguments):
        return self.tool("contact.upsert", **arguments)

    def refresh(self, token, **values):
        body = urlencode({"grant_type": "refresh_token", "refresh_token": token,
                          "client_id": "client_sandbox", **values})
        return self.http("POST", "/caramel/token", body,
                         {"Content-Type": "application/x-www-form-urlencoded"})


class AtOwlat(SandboxTest):
    def setUp(self):
        super().setUp()
        self.key = f"lm_live_{self.account:x<32}"
        self.configure("owlat", keys={self.key: {
            "scopes": ["contacts:read", "contacts:write", "topics:write"]}})

    def call(self, method, path, body=None, **headers):
        return self.http(method, "/owlat/api/v1" + path, body, {
            "Authorization": f"Bearer {self.key}", "Content-Type": "application/json",
            **headers})

    def create(self, **body):
        return self.call("POST", "/contacts", {"email": "a@b.co", **body})

    def assert_error(self, reply, status, category):
        self.assertEqual((reply.status, reply.json["error"]["category"]), (status, category))


class AtSpotzee(SandboxTest):
    def setUp(self):
        super().setUp()
        self.key = f"sk_{self.account}"
        self.configure("spotzee", keys={self.key: {"role": "editor"}})

    def call(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http(method, "/spotzee/api/client" + path, body, {
            "Authorization": f"Bearer {self.key}", "Content-Type": "application/json",
            **headers})

    def contacts_batch(self, *items, **headers):
        return self.call("POST", "/contacts/batch", {"contacts": list(items)}, **headers)
