"""The fast responder: answer every request with success, for benchmarks of the sender.

It reads only the request line and Content-Length, so that benchmarks measure the sender and not the
sandbox. It counts requests, and contacts by the occurrences of "email" in a body.
GET /control/fast/journal returns the arrival times of the last requests.
"""

import asyncio
import json
import re
import time
from collections import deque
from urllib.parse import parse_qs, urlsplit

KEPT_REQUESTS = 100_000
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
EXPECTS_CONTINUE = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
EMAIL = re.compile(rb'"email(?:_address)?" *: *"([^"]*)"')
EMAIL_NAMES = (b'"email"', b'"email_address"')
HEAD_END = b"\r\n\r\n"


STATUS = re.compile(rb'"status": *"([^"]*)"')
# by the first part of the path, with the status that was sent, or this one
ANSWERS = {
    b"campaignlark": ("SUBSCRIBED", lambda status: {"data": {"id": "1", "status": status}}),
    b"mailchimp": ("subscribed", lambda status: {"id": "1", "status": status}),
    b"brevo": ("", lambda status: {"id": 1}),
    b"loops": ("", lambda status: {"success": True, "id": "1"}),
    b"webhook": ("", lambda status: {"failed": []}),
}


def answer_of(provider, body, document):
    """Return the answer of a provider that the first part of the path names, or else this one."""
    if provider not in ANSWERS:
        return document
    status, make = ANSWERS[provider]
    sent = STATUS.search(body)
    return make(sent[1].decode() if sent else status)


class Statistics:
    def __init__(self, note_email):
        self.note_email = note_email
        self.requests = 0
        self.contacts = 0
        self.arrivals = deque(maxlen=KEPT_REQUESTS)

    def add(self, arrived, body):
        """Count one request; return the number of its contacts."""
        contacts = sum(body.count(name) for name in EMAIL_NAMES)
        email = EMAIL.search(body) if self.note_email else None
        self.requests += 1
        self.contacts += contacts
        self.arrivals.append((self.requests, arrived, contacts,
                              email and email.group(1).decode("utf-8", "replace")))
        return contacts

    def report(self, since):
        return {"requests": self.requests, "contacts": self.contacts,
                "journal": [{"seq": seq, "wall": arrived, "contacts": contacts, "email": email}
                            for seq, arrived, contacts, email in self.arrivals if seq > since]}


class Responder(asyncio.Protocol):
    """One connection: requests one after the other, pipelined or not."""

    def __init__(self, statistics):
        self._statistics = statistics
        self._transport = None
        self._received = bytearray()
        self._target = None     # (request line, length of the body) once the head is read
        self._arrived = None

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        if self._arrived is None:
            self._arrived = time.time()
        self._received += data
        while self._read_head() and self._read_body():
            pass

    def _read_head(self):
        if self._target is None:
            end = self._received.find(HEAD_END)
            if end < 0:
                return False
            head = bytes(self._received[:end])
            del self._received[:end + len(HEAD_END)]
            length = LENGTH.search(head)
            self._target = head.split(b"\r\n", 1)[0], int(length.group(1)) if length else 0
            if EXPECTS_CONTINUE.search(head):
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_body(self):
        line, length = self._target
        if len(self._received) < length:
            return False
        body = bytes(self._received[:length])
        del self._received[:length]
        self._answer(line, body)
        self._target = None
        self._arrived = time.time() if self._received else None
        return True

    def _answer(self, line, body):
        if b" /control/fast/" in line:
            query = parse_qs(urlsplit(line.split(b" ")[1].decode()).query)
            document = self._statistics.report(int(query.get("since", ["0"])[0]))
        else:
            created = self._statistics.add(self._arrived, body)
            document = {"created": created, "updated": 0, "failed": 0}
            if line.startswith(b"GET "):
                document = {"data": []}     # it never has contacts to list
            document = answer_of(line.split(b" ")[1].split(b"/")[1], body, document)
        content = json.dumps(document).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                              b"Content-Length: %d\r\n\r\n%b" % (len(content), content))


async def start(host, port, ssl_context=None, note_email=False):
    """Listen; return the asyncio server."""
    statistics = Statistics(note_email)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Responder(statistics), host, port, ssl=ssl_context,
                                    backlog=1024)
