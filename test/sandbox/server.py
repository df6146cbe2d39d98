"""The server: connections, journal and faults around the answers of the providers."""

import itertools

from aiohttp import web

import faults
import wire
from control import Control
from exchange import Answer, Request
from providers import PROVIDERS


class Sandbox(web.Server):
    """An aiohttp server for all providers, each under its name, and for /control."""

    def __init__(self, clock, journal_limit=100_000, certificates=None):
        super().__init__(self.serve)
        self.clock = clock
        self.journal_limit = journal_limit
        self.certificates = certificates
        self._connection_numbers = {}
        self._numbers = itertools.count(1)
        self.reset()
        self.control = Control(self)

    def reset(self):
        """Forget everything: contacts, journals, faults and configuration."""
        self.release()
        self.providers = {cls.name: cls(self.clock, self.journal_limit) for cls in PROVIDERS}

    def release(self):
        """Release all requests that a fault holds."""
        for provider in getattr(self, "providers", {}).values():
            provider.faults.clear()

    def connection_made(self, handler, transport):
        super().connection_made(handler, transport)
        self._connection_numbers[handler] = next(self._numbers)

    def connection_lost(self, handler, exc=None):
        super().connection_lost(handler, exc)
        self._connection_numbers.pop(handler, None)

    async def serve(self, http_request):
        path, _, query = http_request.raw_path.partition("?")
        _, prefix, *rest = path.split("/", 2)
        rest = "/" + "".join(rest)
        if prefix == "control":
            body = await read_body(http_request)
            answer = self.control.answer(http_request.method, rest, query, body)
            return await wire.send(http_request, answer)
        provider = self.providers.get(prefix)
        if provider is None:
            return await wire.send(http_request, Answer(404, {"error": f"no provider {prefix}"}))
        return await self.exchange(provider, http_request, rest, query)

    async def exchange(self, provider, http_request, path, query):
        """Handle one request to a provider, from its arrival to the end of its answer."""
        request = Request(http_request.method, path, query, http_request.headers, b"",
                          http_request.remote, http_request.scheme)
        provider.identify(request)
        request.entry = entry = provider.journal.arrive(
            request.method, path + ("?" + query if query else ""), request.headers,
            request.account.name if request.account else None,
            self._connection_numbers.get(http_request.protocol))
        try:
            request.body = await read_body(http_request)
            provider.journal.received(entry, request.body)
            provider.received(request)
            fault = provider.faults.take(request)
            answer = await self.conclude(provider, http_request, request, fault)
            entry["status"] = answer and answer.status
            if is_gone(http_request):
                return wire.NOTHING_MORE
            entry["answered"] = True
            return await wire.send(http_request, answer, fault, self.clock)
        finally:
            provider.journal.finish(entry)

    async def conclude(self, provider, http_request, request, fault):
        """Return the answer of the provider or of the fault; None if the client has left."""
        if fault is None:
            return provider.answer(request)
        request.entry["fault"] = fault.report()
        request.rejected_items = fault.action.get("reject_items", {})
        answer = provider.answer(request) if fault.effect == "after" else None
        await fault.hold(self.clock)
        if fault.makes_answer():
            answer = faults.made_up_answer(fault.action, provider, request)
        elif answer is None and is_gone(http_request):
            return None
        elif answer is None:
            answer = provider.answer(request)
        answer = provider.faults.alter(fault, answer)
        provider.answered(request, answer)
        return answer


async def read_body(http_request):
    if http_request.headers.get("Expect", "").lower() == "100-continue":
        await http_request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await http_request.content.read()


def is_gone(http_request):
    """Return whether the client has closed the connection meanwhile."""
    transport = http_request.transport
    return transport is None or transport.is_closing()
