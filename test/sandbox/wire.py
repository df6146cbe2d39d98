"""Send an answer on the connection, complete or damaged according to the action of a fault.

Complete answers are sent by aiohttp; damaged ones are written directly to the transport. "Reset" is
a TCP RST: the socket is closed with SO_LINGER 0, so that the client sees ECONNRESET.
"""

import asyncio
import socket
import struct

from aiohttp import web

from exchange import phrase

NOTHING_MORE = web.Response()   # returned after the connection is closed; aiohttp drops it
LINGER_ZERO = struct.pack("ii", 1, 0)
TIME_TO_READ = 0.02             # real seconds before a reset that follows a complete answer


async def send(http_request, answer, fault=None, clock=None):
    """Send an answer; return the result for the aiohttp handler."""
    action = fault.action if fault else {}
    content = answer.content()
    if action.get("invalid_json"):
        content = content[:-1] + b",,"
    if "reset" in action:
        return await reset(http_request.transport, answer, content, action["reset"])
    if action.get("truncate"):
        return truncate(http_request.transport, answer, content)
    if action.get("stall_at") == "inside":
        return await stall_inside(http_request.transport, answer, content, fault, clock)
    response = whole(answer, content)
    if clock is not None:
        response.headers["Date"] = clock.http_date()    # times in the answer are relative to it
    return response


def whole(answer, content):
    response = web.Response(status=answer.status, body=content, headers=answer.headers)
    if answer.body is not None:
        response.headers.setdefault("Content-Type", answer.media_type)
    return response


async def reset(transport, answer, content, where):
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    if where == "inside":
        transport.write(half(head(answer, len(content)) + content))
    elif where == "after":
        transport.write(head(answer, len(content)) + content)
    if where != "before":
        await asyncio.sleep(TIME_TO_READ)
    transport.abort()
    return NOTHING_MORE


def truncate(transport, answer, content):
    """Announce the whole body, send half of it, and close the connection."""
    transport.write(head(answer, len(content)) + half(content))
    transport.close()
    return NOTHING_MORE


async def stall_inside(transport, answer, content, fault, clock):
    transport.write(head(answer, len(content)) + half(content))
    await fault.stall(clock)
    if not transport.is_closing():
        transport.write(content[len(half(content)):])
        transport.close()
    return NOTHING_MORE


def head(answer, length):
    headers = {"Content-Type": answer.media_type, **answer.headers,
               "Content-Length": str(length)}
    lines = [f"HTTP/1.1 {answer.status} {phrase(answer.status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def half(data):
    return data[:(len(data) + 1) // 2]
