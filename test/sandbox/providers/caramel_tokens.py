"""Caramel's OAuth tokens, from its page "Authentication": who holds which, and until when.

An access token lives for an hour. A refresh token lives for 30 days from its last use and is
replaced at every use, so one that was used before is worth nothing.
"""

import math

from clock import iso
from exchange import Refusal


class Tokens:
    def __init__(self, clock, serial):
        self._clock = clock
        self._serial = serial

    def grant(self, account, access_token):
        """What an access token issued to this account may do, or None."""
        return account.recall("access_tokens").get(access_token)

    def is_expired(self, grant):
        return grant.get("revoked") or grant.get("expires_at", math.inf) <= self._clock.now()

    def knows(self, account, refresh_token):
        """Whether this refresh token was ever the account's."""
        return self._state(account, refresh_token) is not None

    def refresh(self, account, refresh_token):
        """New tokens for a refresh token, as the token endpoint answers; or invalid_grant."""
        state = account and self._state(account, refresh_token)
        if state is None or not self._is_usable(account, state):
            raise Refusal(400, "The refresh token is unknown, expired or was rotated",
                          "invalid_grant")
        config, now, number = account.config, self._clock.now(), next(self._serial)
        if config["rotate"]:
            state["rotated"] = True
            refresh_token = f"rt_{account.name}_{number}"
        account.recall("refresh_tokens")[refresh_token] = {"rotated": False, "last_used": now}
        access_token = f"eyJ_{account.name}_{number}"
        account.recall("access_tokens")[access_token] = {
            "scopes": config["scopes"], "expires_at": now + config["access_seconds"]}
        account.record("TOKEN_REFRESHED", iso(now), access_token=access_token,
                       refresh_token=refresh_token)
        return {"access_token": access_token, "refresh_token": refresh_token,
                "expires_in": config["access_seconds"], "token_type": "Bearer"}

    def _state(self, account, refresh_token):
        states = account.recall("refresh_tokens")
        configured = account.config["refresh_tokens"].get(refresh_token) is not None
        if configured and refresh_token not in states:
            states[refresh_token] = {"rotated": False, "last_used": self._clock.now()}
        return states.get(refresh_token)

    def _is_usable(self, account, state):
        idle = self._clock.now() - state["last_used"]
        return not state["rotated"] and idle <= account.config["refresh_seconds"]
