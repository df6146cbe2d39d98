"""Provider simulator: five e-mail marketing providers in one process, for tests.

Each provider answers under its own prefix of http://HOST:PORT. Defaults that work at once:

  mailingcore   base_url /mailingcore         key mc_test_sandbox, tenant clx_sandbox
  campaignlark  base_url /campaignlark/v1     key cl_sandbox
  caramel       base_url /caramel/mcp         token caramel_sandbox, refresh token rt_sandbox
  owlat         base_url /owlat               key lm_live_sandbox0000000000000000000000000
  spotzee       base_url /spotzee/api/client  key sk_sandbox

Tests arrange and inspect it under /control; see README.md.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import threading

from aiohttp import web

import responder
from clock import Clock
from server import Sandbox
from tls import Certificates


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="sandbox", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--clock-speed", type=float, default=1.0, metavar="X",
                        help="run everything that depends on time X times faster")
    parser.add_argument("--tls", action="store_true",
                        help="serve https; the second line names the certificate of the authority to trust")
    parser.add_argument("--exit-with-stdin", action="store_true",
                        help="exit when standard input ends")
    parser.add_argument("--journal-limit", type=int, default=100_000, metavar="N",
                        help="requests that the journal keeps")
    parser.add_argument("--fast", action="store_true",
                        help="answer every request with success, for benchmarks")
    parser.add_argument("--fast-email", action="store_true",
                        help="with --fast, note the first e-mail address of every request")
    return parser.parse_args()


def stop_event(with_stdin):
    """Return an event set by SIGTERM, SIGINT or, if requested, the end of standard input."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_stdin:
        threading.Thread(target=await_stdin, args=(loop, stop), daemon=True).start()
    return stop


def await_stdin(loop, stop):
    while sys.stdin.buffer.raw.read(4096):
        pass
    with contextlib.suppress(RuntimeError):     # the loop may have ended already
        loop.call_soon_threadsafe(stop.set)


def announce(host, port, certificates):
    print(f"listening on {host}:{port}", flush=True)
    if certificates:
        print(f"certificate {certificates.authority}", flush=True)


async def serve_sandbox(arguments, certificates):
    stop = stop_event(arguments.exit_with_stdin)
    sandbox = Sandbox(Clock(arguments.clock_speed), arguments.journal_limit, certificates)
    runner = web.ServerRunner(sandbox)
    await runner.setup()
    site = web.TCPSite(runner, arguments.host, arguments.port, shutdown_timeout=0.2,
                       ssl_context=certificates and certificates.context)
    await site.start()
    announce(arguments.host, runner.addresses[0][1], certificates)
    await stop.wait()
    sandbox.release()
    await runner.cleanup()


async def serve_fast(arguments, certificates):
    stop = stop_event(arguments.exit_with_stdin)
    server = await responder.start(arguments.host, arguments.port, certificates and certificates.context,
                                   note_email=arguments.fast_email)
    announce(arguments.host, server.sockets[0].getsockname()[1], certificates)
    await stop.wait()
    server.close()


def main():
    arguments = parse_arguments()
    serve = serve_fast if arguments.fast else serve_sandbox
    with tempfile.TemporaryDirectory(prefix="sandbox-") as directory:
        asyncio.run(serve(arguments, Certificates(directory) if arguments.tls else None))


if __name__ == "__main__":
    main()
