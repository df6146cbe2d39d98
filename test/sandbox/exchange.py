"""Data exchanged between the server and a provider: a request, an answer, a refusal.

Providers do not know about sockets: they turn a Request into an Answer, synchronously.
"""

import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

CONTACT_KEY_NAMES = ("email", "email_address", "external_id", "externalId", "ext_id", "userId", "subscriberIdString")


@dataclass
class Request:
    method: str
    path: str            # below the provider's prefix, still percent-encoded
    query_string: str
    headers: Any         # case-insensitive mapping
    body: bytes
    remote: str          # the client's address
    scheme: str          # http or https
    account: Any = None  # owner of the credentials, even if they are refused later
    grant: Any = None    # privileges of these credentials
    entry: Any = None    # journal entry of this request
    parameters: dict = field(default_factory=dict)
    rejected_items: dict = field(default_factory=dict)
    reply_headers: dict = field(default_factory=dict)

    @property
    def config(self):
        return self.account.config

    def query(self):
        return parse_qsl(self.query_string, keep_blank_values=True)

    def media_type(self):
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()

    def bearer(self):
        """Return the token of the Authorization header, or None."""
        match = re.fullmatch(r"Bearer ([^\s]+)", self.headers.get("Authorization", ""))
        return match and match.group(1)

    def rejection(self, *keys):
        """Return the scripted partial failure of a contact with one of these keys."""
        return next((self.rejected_items[k] for k in keys if k in self.rejected_items), None)


@dataclass
class Answer:
    status: int
    body: Any = None     # JSON value, or bytes to send unchanged; None for no body
    headers: dict = field(default_factory=dict)
    media_type: str = "application/json"

    def content(self):
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False).encode()


# Python 3.13 renamed these; the providers use the names of Node.js.
PHRASES = {413: "Payload Too Large", 414: "URI Too Long", 422: "Unprocessable Entity"}


def phrase(status):
    """The reason phrase of an HTTP status."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


class Refusal(Exception):
    """A request that the provider refuses; each provider formats it as its own errors."""

    def __init__(self, status, message, code=None, headers=None, **details):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}
        self.details = details


def parse_json(body):
    """Parse strict JSON: valid UTF-8, no duplicate names, no NaN. Raise ValueError otherwise."""
    return json.loads(body.decode("utf-8"), object_pairs_hook=_unique_names,
                      parse_constant=_refuse_constant)


def _unique_names(pairs):
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"duplicate name {', '.join(twice)}")
    return value


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def decode_segment(segment):
    """Decode a percent-encoded path segment; raise ValueError if the encoding is malformed."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", segment):
        raise ValueError("malformed percent-encoding")
    return unquote_to_bytes(segment).decode("utf-8")


def contact_keys(path, body):
    """Return all e-mail addresses and external ids in a request, for journal and faults."""
    keys = []
    segment = unquote_to_bytes(path.rsplit("/", 1)[-1]).decode("utf-8", "replace")
    if "@" in segment:
        keys.append(segment)
    try:
        _collect_keys(json.loads(body), keys)
    except ValueError:
        pass
    return keys


def _collect_keys(value, keys):
    if isinstance(value, list):
        for item in value:
            _collect_keys(item, keys)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in CONTACT_KEY_NAMES and isinstance(item, str):
                keys.append(item)
            else:
                _collect_keys(item, keys)
