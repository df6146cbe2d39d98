"""The clock of the sandbox: real time that can run faster and be moved forward.

Everything that depends on time (rate limit windows, expiry, caches, faults) uses this clock, so
that a minute can pass in a moment. It starts at the real time and never goes back.
"""

import asyncio
import time
from datetime import datetime, timezone
from email.utils import formatdate


class Clock:
    def __init__(self, speed=1.0):
        if speed <= 0:
            raise ValueError("clock speed must be positive")
        self.speed = speed
        self._started = time.monotonic()
        self._origin = time.time()

    def now(self):
        """Return the seconds since 1970 on this clock."""
        return self._origin + (time.monotonic() - self._started) * self.speed

    def advance(self, seconds):
        """Jump forward. This does not shorten a sleep in progress."""
        if seconds < 0:
            raise ValueError("the clock cannot go back")
        self._origin += seconds

    async def sleep(self, seconds):
        await asyncio.sleep(seconds / self.speed)

    def http_date(self, offset=0):
        return formatdate(self.now() + offset, usegmt=True)

    def iso(self):
        """Return the time in the format of the providers: UTC with milliseconds."""
        return iso(self.now())


def iso(seconds):
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_iso(text):
    """Convert an ISO 8601 timestamp with a zone to seconds since 1970, or raise ValueError."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError("a timestamp without a zone")
    return moment.timestamp()
