"""Helpers for the tests of the sandbox: one running sandbox, and an account for each test."""

import http.client
import itertools
import json
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent


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

    def journal(self, provider):
        return self.control("GET", f"{provider}/journal?account={self.account}")

    def advance(self, seconds):
        self.control("POST", "clock", {"advance": seconds})
