"""Scripted faults: which requests they affect, when, and how they change the answer.

A fault is {"match": {...}, "times": n or null, "effect": "before" or "after", "action": {...}}.
With effect "before" a request that the fault answers is not processed; with "after" it is, and
then the answer is replaced or damaged. Latency and stall alone only delay.
"""

import asyncio
import codecs
import gzip
import itertools
from fnmatch import fnmatchcase

from exchange import Answer, Refusal, phrase

MATCHES = {"method", "path", "email", "key", "account", "nth"}
REPLACING = {"status", "body", "html", "huge", "redirect"}  # replace the answer
MANGLING = {"reset", "truncate", "invalid_json"}            # damage the answer in transit
DELAYING = {"latency", "stall", "stall_at"}
ADDING = {"headers", "retry_after", "reject_items"}
ENCODING = {"gzip", "brotli", "byte_order_mark"}            # the same answer in other bytes
ACTIONS = REPLACING | MANGLING | DELAYING | ADDING | ENCODING


class Fault:
    def __init__(self, number, script):
        check_script(script)
        self.number = number
        self.match = script.get("match", {})
        self.left = script.get("times", 1)
        self.effect = script.get("effect", "before")
        self.action = script["action"]
        self.seen = 0
        self.hits = 0
        self.released = asyncio.Event()

    def wants(self, request):
        """Return whether the fault affects this request; count matching requests, for `nth`."""
        if self.left == 0 or not self._matches(request):
            return False
        self.seen += 1
        return self.seen == self.match.get("nth", self.seen)

    def hit(self):
        self.hits += 1
        if self.left is not None:
            self.left -= 1

    def answers_before_processing(self):
        return self.effect == "before" and bool((REPLACING | MANGLING) & set(self.action))

    def makes_answer(self):
        return self.answers_before_processing() or bool(REPLACING & set(self.action))

    async def hold(self, clock):
        """Delay as scripted, or until the fault is cleared."""
        if "latency" in self.action:
            await clock.sleep(self.action["latency"])
        if self.action.get("stall_at") != "inside":
            await self.stall(clock)

    async def stall(self, clock):
        stall = self.action.get("stall")
        if stall is True:
            await self.released.wait()
        elif stall:
            sleeping = asyncio.ensure_future(clock.sleep(stall))
            releasing = asyncio.ensure_future(self.released.wait())
            _, pending = await asyncio.wait({sleeping, releasing},
                                            return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()

    def report(self):
        return {"id": self.number, "match": self.match, "times_left": self.left,
                "effect": self.effect, "action": self.action, "hits": self.hits}

    def _matches(self, request):
        match, keys = self.match, request.entry["keys"]
        account = request.account.name if request.account else None
        rejected = self.action.get("reject_items")
        return (match.get("method", request.method) == request.method
                and fnmatchcase(request.path, match.get("path", "*"))
                and match.get("account", account) == account
                and ("email" not in match or match["email"] in keys)
                and ("key" not in match or match["key"] in keys)
                and (rejected is None or any(key in rejected for key in keys)))


def check_script(script):
    """Raise ValueError for a script that would not do what its author meant."""
    if not isinstance(script, dict) or not isinstance(script.get("action"), dict):
        raise ValueError("a fault needs an action")
    unknown = (set(script) - {"match", "times", "effect", "action"}
               | set(script.get("match", {})) - MATCHES | set(script["action"]) - ACTIONS)
    if unknown:
        raise ValueError(f"unknown name in a fault: {', '.join(sorted(unknown))}")
    if script.get("effect", "before") not in ("before", "after"):
        raise ValueError("effect is before or after")
    if script["action"].get("reset", "before") not in ("before", "inside", "after"):
        raise ValueError("reset is before, inside or after")


class Faults:
    """The scripted faults of one provider: those with limited times first, in their order."""

    def __init__(self, clock):
        self._clock = clock
        self._faults = []
        self._numbers = itertools.count(1)

    def add(self, script):
        fault = Fault(next(self._numbers), script)
        self._faults.append(fault)
        return fault.report()

    def take(self, request):
        """Return the fault that affects this request, or None."""
        wanting = [fault for fault in self._faults if fault.wants(request)]
        fault = min(wanting, key=lambda fault: fault.left is None, default=None)
        if fault is not None:
            fault.hit()
        return fault

    def clear(self, account=None):
        """Remove the faults (of one account, or all) and release the requests that they hold."""
        for fault in list(self._faults):
            if account in (None, fault.match.get("account")):
                fault.released.set()
                self._faults.remove(fault)

    def report(self):
        return [fault.report() for fault in self._faults]

    def alter(self, fault, answer):
        """Return the answer with the headers that the fault adds."""
        headers = {**answer.headers, **fault.action.get("headers", {})}
        if "retry_after" in fault.action:
            headers["Retry-After"] = self._retry_after(fault.action["retry_after"])
        body = answer.body
        if ENCODING & set(fault.action):
            body = encode(fault.action, answer.content(), headers)
        return Answer(answer.status, body, headers, answer.media_type)

    def _retry_after(self, value):
        """Return Retry-After: seconds, or an HTTP date for date:+N."""
        text = str(value)
        if text.startswith("date:"):
            return self._clock.http_date(float(text[len("date:"):]))
        return text


BLOCK = 1 << 16


def encode(action, content, headers):
    """Return the bytes of an answer with a byte order mark, or compressed, whether asked for or not."""
    if "byte_order_mark" in action:
        content = codecs.BOM_UTF8 + content
    if "gzip" in action:
        content = gzip.compress(content)
        headers["Content-Encoding"] = "gzip"
    if "brotli" in action:
        content = brotli(content)
        headers["Content-Encoding"] = "br"
    return content


def brotli(content):
    """Return a brotli stream (RFC 7932) of blocks that are not compressed, since Python has no encoder."""
    stream = bytearray()
    for start in range(0, len(content), BLOCK):
        block = content[start:start + BLOCK]
        # bits: WBITS 0 at the beginning, ISLAST 0, MNIBBLES 00, MLEN - 1 in 16 bits, ISUNCOMPRESSED 1
        header = (len(block) - 1) << 3 | 1 << 19
        stream += (header if stream else header << 1).to_bytes(3, "little") + block
    # ISLAST and ISLASTEMPTY, after WBITS if there was no block
    return bytes(stream + (b"\x03" if stream else b"\x06"))


def made_up_answer(action, provider, request):
    """Return the answer that a fault gives instead of the provider."""
    status = action.get("status", 200)
    if "redirect" in action:
        return Answer(action.get("status", 302), headers={"Location": action["redirect"]})
    if "html" in action:
        page = action["html"] if isinstance(action["html"], str) else "<html>Bad gateway</html>"
        return Answer(status, page.encode(), media_type="text/html")
    if "huge" in action:
        return Answer(status, b'{"padding": "' + b"x" * action["huge"] + b'"}')
    if "body" in action:
        body = action["body"]
        return Answer(status, body.encode() if isinstance(body, str) else body)
    if status >= 400:
        answer = provider.refuse(request, Refusal(status, phrase(status)))
        answer.status = status
        return answer
    return Answer(status, {"data": {"message": "a made-up answer"}})
