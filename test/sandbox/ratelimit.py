"""Rate limits: fixed windows, sliding windows and token buckets behind one interface.

look(now) of a limiter does not count, and use(now) counts one request. Refused requests are not
counted. A limit is configured as data, for instance
{"kind": "sliding", "limit": 600, "seconds": 60} or {"kind": "bucket", "limit": 10, "burst": 15}.
"""

from collections import deque
from typing import NamedTuple


class Verdict(NamedTuple):
    allowed: bool
    limit: int
    remaining: int
    reset: float        # when the full limit is available again, in seconds since 1970
    retry_after: float  # seconds until a request is allowed; 0 if it is allowed now


class FixedWindow:
    """A number of requests in a window that begins with the first of them."""

    def __init__(self, limit, seconds):
        self.limit = limit
        self.seconds = seconds
        self._ends = 0.0
        self._used = 0

    def look(self, now):
        if now >= self._ends:
            return Verdict(self.limit > 0, self.limit, self.limit, now + self.seconds, 0.0)
        left = self.limit - self._used
        wait = 0.0 if left > 0 else self._ends - now
        return Verdict(left > 0, self.limit, left, self._ends, wait)

    def use(self, now):
        if now >= self._ends:
            self._ends = now + self.seconds
            self._used = 0
        self._used += 1


class SlidingWindow:
    """A number of requests in any period of that length; exceeding it blocks for `block` seconds."""

    def __init__(self, limit, seconds, block=None):
        self.limit = limit
        self.seconds = seconds
        self.block = block
        self._times = deque()
        self._blocked_until = 0.0

    def look(self, now):
        if now < self._blocked_until:
            return Verdict(False, self.limit, 0, self._blocked_until, self._blocked_until - now)
        while self._times and self._times[0] <= now - self.seconds:
            self._times.popleft()
        left = self.limit - len(self._times)
        oldest_leaves = (self._times[0] if self._times else now) + self.seconds
        wait = 0.0 if left > 0 else oldest_leaves - now
        return Verdict(left > 0, self.limit, max(left, 0), oldest_leaves, wait)

    def refuse(self, now):
        if self.block and now >= self._blocked_until and not self.look(now).allowed:
            self._blocked_until = now + self.block

    def use(self, now):
        self._times.append(now)


class TokenBucket:
    """A steady rate per second, and a burst that accumulates while nothing is sent."""

    def __init__(self, limit, burst):
        self.limit = limit
        self.burst = burst
        self._tokens = float(burst)
        self._filled_at = None

    def look(self, now):
        self._fill(now)
        wait = max(0.0, (1 - self._tokens) / self.limit)
        full_at = now + (self.burst - self._tokens) / self.limit
        return Verdict(self._tokens >= 1, self.limit, int(self._tokens), full_at, wait)

    def use(self, now):
        self._fill(now)
        self._tokens -= 1

    def _fill(self, now):
        if self._filled_at is not None:
            gained = (now - self._filled_at) * self.limit
            self._tokens = min(float(self.burst), self._tokens + gained)
        self._filled_at = now


KINDS = {"fixed": FixedWindow, "sliding": SlidingWindow, "bucket": TokenBucket}


def make(spec):
    """Return the limiter for a configured limit; raise ValueError if the limit is invalid."""
    arguments = dict(spec)
    try:
        return KINDS[arguments.pop("kind")](**arguments)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a rate limit: {spec!r}") from error


class RateLimits:
    """The limiters of one provider, by the unit that they count: an account, a key, an address."""

    def __init__(self, clock):
        self._clock = clock
        self._limiters = {}

    def pass_through(self, limits):
        """Count one request against all of `limits`, pairs of (what is counted, limit or None).

        Return the most restrictive verdict, or None when nothing is limited. The request is
        counted only if all limits allow it.
        """
        now = self._clock.now()
        limiters = [self._limiter(counted, spec) for counted, spec in limits if spec is not None]
        for limiter in limiters:
            if isinstance(limiter, SlidingWindow):
                limiter.refuse(now)
        refusals = [v for v in (limiter.look(now) for limiter in limiters) if not v.allowed]
        if refusals:
            return max(refusals, key=lambda verdict: verdict.retry_after)
        for limiter in limiters:
            limiter.use(now)
        verdicts = [limiter.look(now)._replace(allowed=True) for limiter in limiters]
        return min(verdicts, key=lambda verdict: verdict.remaining, default=None)

    def forget(self, account_name):
        """Reset all counts of one account."""
        for counted in [key for key in self._limiters if key[0] == account_name]:
            del self._limiters[counted]

    def _limiter(self, counted, spec):
        known = self._limiters.get(counted)
        if known is None or known[0] != spec:
            known = self._limiters[counted] = (dict(spec), make(spec))
        return known[1]
