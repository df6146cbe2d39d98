"""The journal: all requests in the order of arrival, from the time of their arrival.

An entry exists while its request is still held, so that a test can see calls in flight.
Tallies are updated as requests arrive and end, so that reading them is cheap.
"""

import hashlib
import time
from collections import deque

from exchange import contact_keys


class Tally:
    """Counters of one account, or of a whole provider."""

    def __init__(self):
        self.requests = 0
        self.answered = 0
        self.rate_limited = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.connections = set()

    def arrive(self, entry):
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.connections.add(entry["connection"])

    def finish(self, entry):
        self.in_flight -= 1
        self.answered += entry["answered"]
        self.rate_limited += entry["status"] == 429

    def report(self):
        return {**vars(self), "connections": len(self.connections)}


class Journal:
    def __init__(self, clock, limit=100_000):
        self._clock = clock
        self._limit = limit
        self.clear()

    def clear(self):
        self._entries = deque(maxlen=self._limit)
        self._in_flight = {}
        self._seq = 0
        self._total = Tally()
        self._by_account = {}

    def arrive(self, method, path, headers, account, connection):
        self._seq += 1
        entry = {
            "seq": self._seq,
            "account": account,
            "connection": connection,
            "method": method,
            "path": path,
            "headers": redact(headers),
            "body": None,
            "keys": [],
            "wall": time.time(),
            "monotonic": time.monotonic(),
            "clock": self._clock.now(),
            "in_flight": True,
            "answered": False,
            "status": None,
            "fault": None,
            "duration": None,
        }
        self._entries.append(entry)
        self._in_flight[self._seq] = entry
        for tally in self._tallies(account):
            tally.arrive(entry)
        return entry

    def received(self, entry, body):
        entry["body"] = body.decode("utf-8", "replace")
        entry["keys"] = contact_keys(entry["path"].partition("?")[0], body)

    def finish(self, entry):
        entry["in_flight"] = False
        self._in_flight.pop(entry["seq"], None)
        entry["duration"] = time.monotonic() - entry["monotonic"]
        for tally in self._tallies(entry["account"]):
            tally.finish(entry)

    def attribute(self, entry, account):
        """Move an entry to the account that its body names, if the headers did not name it."""
        self._tally(entry["account"]).in_flight -= 1
        self._tally(entry["account"]).requests -= 1
        entry["account"] = account
        self._tally(account).arrive(entry)

    def entries(self, since=0, account=None):
        """Return the entries after number `since`, of one account or of all."""
        skip = max(0, since - (self._seq - len(self._entries)))
        return [entry for number, entry in enumerate(self._entries)
                if number >= skip and account in (None, entry["account"])]

    def last(self):
        """The number of the newest request."""
        return self._seq

    def earlier_in_flight(self, entry):
        """Return the earlier requests of the same account that are unfinished."""
        return [other for other in self._in_flight.values()
                if other["seq"] < entry["seq"] and other["account"] == entry["account"]]

    def counts(self, account=None):
        tally = self._total if account is None else self._tally(account)
        return tally.report()

    def _tallies(self, account):
        return self._total, self._tally(account)

    def _tally(self, account):
        return self._by_account.setdefault(account, Tally())


SECRET_HEADERS = ("authorization", "x-api-key", "api-key")


def redact(headers):
    """Return headers as [name, value] pairs in their order, with credentials hashed."""
    return [[name, redact_credentials(value) if name.lower() in SECRET_HEADERS else value]
            for name, value in headers.items()]


def redact_credentials(value):
    scheme, _, token = value.rpartition(" ")
    return f"{scheme} sha256:{hashlib.sha256(token.encode()).hexdigest()[:12]}"
