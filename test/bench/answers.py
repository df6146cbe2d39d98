"""A provider that answers in hostile ways, for resources.py: https where a kind is about that, http otherwise.

The first part of the path names the kind; one that is about https has a port of its own. Each fourth request over http is
answered well. It prints for each kind the URL, the file with the certificate of its authority, and whether its calls last for their whole timeout.
"""

import asyncio
import gzip
import json
import logging
import os
import socket
import ssl
import struct
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "sandbox"))

from tls import Certificates  # noqa: E402

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GOOD_EACH = 4
ENDLESS = 64 * 1024 * 1024      # bytes, after which somebody who is still listening is cut off
FAILED = {"index": 0, "email": "nobody@example.com", "code": "x", "message": "y" * 40}


def whole(body, head=OK):
    """An answer with that body, which is text, bytes, or what becomes JSON."""
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def status(number, *headers, body="{}"):
    return whole(body, b"HTTP/1.1 %d Made up\r\nContent-Type: application/json\r\n" % number + b"".join(line + b"\r\n" for line in headers))


def zipped(content, layers=1):
    for _ in range(layers):
        content = gzip.compress(content, 9)
    return whole(content, OK + b"Content-Encoding: " + b", ".join([b"gzip"] * layers) + b"\r\n")


def frame(kind, flags, stream, payload):
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


SETTINGS = frame(4, 0, 0, b"")
HALF = OK + b'Content-Length: 1000\r\n\r\n{"created": '

# What a kind sends: bytes, then what it does with the connection: keep it, close it, reset it, or stall until the client goes;
# or bytes that it repeats without end, or slowly.
ANSWERS = {
    "reset_before": (b"", "reset"),
    "reset_in_head": (OK, "reset"),
    "reset_in_body": (HALF, "reset"),
    "close_before": (b"", "close"),
    "close_in_head": (OK, "close"),
    "truncated": (HALF, "close"),
    "truncated_chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{", "close"),
    "stall_before": (b"", "stall"),
    "stall_in_head": (OK, "stall"),
    "stall_in_body": (HALF, "stall"),
    "drip_head": (b"HTTP/1.1 200 OK\r\nX-Slow: ", "drip"),
    "drip_body": (HALF, "drip"),
    "not_http": (b"\x00\x01\x02 220 smtp.example.com ready\r\n", "close"),
    "no_head": (b'{"created": 1}', "close"),
    "bad_status_line": (b"HTTP/1.1 abc def\r\n\r\n", "close"),
    "status_999": (status(999), "keep"),
    "flood_of_1xx": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "endless"),
    "endless_headers": (OK + b"X-A: ", b"b\r\nX-A: "),
    "endless_header_line": (OK + b"X-A: ", b"b"),
    "large_headers": (whole("{}", OK + b"".join(b"X-%d: %s\r\n" % (i, b"b" * 100) for i in range(500))), "keep"),
    "too_long": (OK + b"Content-Length: 9000000\r\n\r\n", b"x"),
    "endless_chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    "endless_body": (OK + b"\r\n", b"x"),
    "almost_8_mb": (whole({"padding": "x" * 8_300_000}), "keep"),
    "gzip_bomb": (zipped(b" " * 200_000_000), "keep"),
    "gzip_bomb_in_gzip": (zipped(b" " * 200_000_000, 2), "keep"),
    "gzip_of_nothing": (whole(os.urandom(1000), OK + b"Content-Encoding: gzip\r\n"), "keep"),
    "many_encodings": (zipped(b"{}", 40), "keep"),
    "length_too_small": (OK + b'Content-Length: 2\r\n\r\n{"created": 1, "updated": 0, "failed": 0}', "keep"),
    "two_lengths": (OK + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}", "stall"),
    "negative_length": (OK + b"Content-Length: -5\r\n\r\n{}", "close"),
    "huge_chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}", "stall"),
    "endless_trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X-A: b\r\n"),
    "redirect": (status(302, b"Location: https://elsewhere.example/"), "keep"),
    "no_content": (b"HTTP/1.1 204 No Content\r\n\r\n", "keep"),
    "unauthorized": (status(401, b"WWW-Authenticate: Basic realm=" + b"x" * 10_000), "keep"),
    "retry_after": (status(429, b"Retry-After: 99999999999999999999"), "keep"),
    "retry_after_past": (status(429, b"Retry-After: -1", b"X-RateLimit-Reset: 1e400"), "keep"),
    "page": (status(503, body="<html>" + "x" * 1_000_000), "keep"),
    "refusal": (status(400, body={"message": "m" * 1_000_000}), "keep"),
    "nothing": (whole(""), "keep"),
    "no_json": (whole("OK"), "keep"),
    "deep_json": (whole("[" * 1_000_000), "keep"),
    "wide_json": (whole([1] * 1_000_000), "keep"),
    "many_names": (whole({f"name{i}": i for i in range(200_000)}), "keep"),
    "same_name": (whole("{" + ", ".join(['"created": 1'] * 200_000) + "}"), "keep"),
    "invalid_text": (whole(b'{"created": "\xff\xfe\x00\xc0\x80"}'), "keep"),
    "large_numbers": (whole('{"created": 1e308, "updated": -1e999, "failed": ' + "9" * 100_000 + "}"), "keep"),
    "wrong_types": (whole({"created": "a", "updated": [], "failed": {}, "errors": {}}), "keep"),
    "many_errors": (whole({"created": 0, "updated": 0, "failed": 60_000, "errors": [FAILED] * 60_000}), "keep"),
}
# The same after a handshake with this certificate.
TLS_ANSWERS = {
    "tls_expired": (whole("{}"), "keep"),
    "tls_other_host": (whole("{}"), "keep"),
    "tls_reset_in_body": (HALF, "reset"),
    "h2_garbage": (b"x" * 1000, "stall"),
    "h2_pings": (SETTINGS, frame(6, 0, 0, b"12345678")),
    "h2_settings": (SETTINGS, frame(4, 0, 0, struct.pack(">HI", 1, 4096) * 10)),
    "h2_endless_head": (SETTINGS + frame(1, 0, 1, b"\x88"), frame(9, 0, 1, b"\x40\x01a\x01b" * 100)),
    "h2_large_frame": (SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", b"x"),
}
# Before, or instead of, a handshake; the first two never come here.
NO_TLS = {"no_such_host": None, "refused": None, "tls_unknown_authority": (whole("{}"), "keep"),
          "tls_plain": (status(400), "close"), "tls_garbage": (b"\x16\x03\x01\xff\xff" + b"x" * 5000, "close"),
          "tls_stall": (b"", "stall"), "tls_close": (b"", "close")}
# Those whose calls last for their whole timeout.
STALLING = {kind for kind, (_, then) in [*ANSWERS.items(), *TLS_ANSWERS.items()] if then in ("stall", "drip")} | {"tls_stall", "no_such_host"}
KINDS = [*ANSWERS, *TLS_ANSWERS, *NO_TLS]


class Provider:
    def __init__(self):
        self.counts = dict.fromkeys(KINDS, 0)

    async def serve(self, kind, reader, writer):
        """One connection; the kind is in the path unless it is given."""
        try:
            while await self.answer(kind, reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def answer(self, kind, reader, writer):
        """Answer one request; return whether there may be another."""
        contacts = 0
        if kind in NO_TLS or (kind or "").startswith("h2"):
            await reader.read(100)
        else:
            path, contacts = await self.read_request(reader)
            kind = kind or path
        self.counts[kind] += 1
        answer, then = {**ANSWERS, **TLS_ANSWERS, **NO_TLS}[kind]
        if self.counts[kind] % GOOD_EACH == 0 and kind in ANSWERS:
            answer, then = whole({"created": contacts, "updated": 0, "failed": 0}), "keep"
        writer.write(answer)
        await writer.drain()
        await self.go_on(answer, then, reader, writer)
        return then == "keep"

    @staticmethod
    async def read_request(reader):
        """The first part of the path, and the number of contacts."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        body = await reader.readexactly(length[0] if length else 0)
        return head.split(b" ")[1].split(b"/")[1].decode(), body.count(b'"email"')

    @staticmethod
    async def go_on(answer, then, reader, writer):
        if then == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif then == "stall":
            await reader.read()
        elif then == "drip":
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        elif then not in ("keep", "close"):
            unit = answer if then == "endless" else then
            block = unit * (65536 // len(unit) + 1)
            for _ in range(ENDLESS // len(block)):
                writer.write(block)
                await writer.drain()


async def listen(provider, kind=None, context=None):
    """Listen on a free port, which is returned."""
    server = await asyncio.start_server(lambda reader, writer: provider.serve(kind, reader, writer), "127.0.0.1", 0,
                                        ssl=context, backlog=1024, limit=1 << 20)
    return server, server.sockets[0].getsockname()[1]


def certify(directory, kind):
    """A TLS context for a kind, and the certificate of the authority that signed it."""
    path = os.path.join(directory, kind)
    os.mkdir(path)
    certificates = Certificates(path)
    certificates.serve("elsewhere.example" if kind == "tls_other_host" else None, kind == "tls_expired")
    if kind.startswith("h2"):
        certificates.context.set_alpn_protocols(["h2"])
    return certificates.context, str(certificates.authority)


async def main():
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)     # it tells when somebody has gone
    provider = Provider()
    servers = []
    with tempfile.TemporaryDirectory() as directory:
        server, port = await listen(provider)
        servers.append(server)
        places = {kind: (f"http://127.0.0.1:{port}/{kind}", None) for kind in ANSWERS}
        for kind in [*TLS_ANSWERS, *NO_TLS]:
            has_context = kind in TLS_ANSWERS or kind == "tls_unknown_authority"
            context, authority = certify(directory, kind) if has_context else (None, None)
            server, other = await listen(provider, kind, context)
            servers.append(server)
            places[kind] = (f"https://127.0.0.1:{other}", None if kind == "tls_unknown_authority" else authority)
        servers.pop(list(places).index("refused") - len(ANSWERS) + 1).close()
        places["no_such_host"] = ("https://nowhere.invalid", None)
        print(json.dumps({kind: (*place, kind in STALLING) for kind, place in places.items()}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
