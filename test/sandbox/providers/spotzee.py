"""Spotzee, from its pages "Sync contacts" (POST /contacts/batch) and, as that page was renamed,
"Sync users" (POST /users/batch), "Subscriptions", "Idempotency", "Errors", "Pagination",
"Versioning" and "Rate limits".

A user without a recorded opt-out for a subscription type counts as subscribed, so creating a user
subscribes them. Where the documents are silent a setting chooses; its default stands in defaults() with a note.
"""

import hashlib
import math
import re

from exchange import Answer, Refusal
from providers.base import (Provider, make_cursor, parse_cursor, query_parameters, route,
                            whole_number)
from schema import Field, describe, find_problems, is_email

BATCH_MAX = 100
LIST_MAX = 100
KEY_MAX = 255
IDEMPOTENCY_SECONDS = 24 * 3600
UNCACHED = (408, 425, 429)                            # and 5xx, and whatever has Retry-After
WRITING_ROLES = ("editor", "publisher", "admin")      # not support and smtpproxy
SORTS = ("id", "external_id", "email", "created_at", "updated_at")

# Errors: the catalogue's code for a rule that is broken
RULE_CODES = {"unknown": "parameter_unknown", "missing": "parameter_missing",
              "null": "parameter_missing", "short": "parameter_invalid_empty"}
STATUS_CODES = {400: "parameter_invalid_format", 401: "authentication_required",
                402: "quota_exceeded", 403: "permission_denied", 404: "resource_missing",
                409: "state_conflict", 422: "validation_failed", 429: "rate_limited",
                503: "service_unavailable"}


def is_phone(text):
    """Types: E.164 preferred, otherwise normalised when possible."""
    return 7 <= len(re.sub(r"[ ()./-]", "", text.lstrip("+"))) <= 15 and bool(
        re.fullmatch(r"\+?[\d ()./-]+", text))


EXTERNAL_ID = Field("string", required=True, shortest=1, longest=255)
COMMON = {
    "email": Field("string", nullable=True, check=is_email, what="an email address"),
    "phone": Field("string", nullable=True, check=is_phone, what="a phone number"),
    "timezone": Field("string", nullable=True, longest=50),
    "locale": Field("string", nullable=True, longest=255),
    "data": Field("object", nullable=True),
}
CONTACT = {"external_id": EXTERNAL_ID, **COMMON,
           "first_name": Field("string", nullable=True),
           "last_name": Field("string", nullable=True)}
USER = {"external_id": Field("string", shortest=1, longest=255),
        "anonymous_id": Field("string", shortest=1, longest=255), **COMMON}
SUBSCRIPTION = {"external_id": EXTERNAL_ID, "subscription_id": Field("integer", required=True),
                "state": Field("integer", required=True, choices=(0, 1, 2))}


class Spotzee(Provider):
    name = "spotzee"
    default_account = "prj_sandbox"
    unique_fields = ("id", "external_id", "anonymous_id")
    shared_fields = ("email",)      # two external ids can have one address
    updated_field = "updated_at"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {
            "keys": {"sk_sandbox": {"role": "editor"}},
            # a later page allows 4,000 in 10 s; it documents the blocks
            "limits": {"edge": {"kind": "sliding", "limit": 1000, "seconds": 10, "block": 10},
                       "client": {"kind": "sliding", "limit": 8000, "seconds": 60, "block": 120}},
            "versions": ["2026-04-28"],
            "subscriptions": {"5": "Newsletter"},   # the types
            "paths": "both",                # or "contacts", as on the page; "users", as in the API
            "path_404": "problem",          # the answer for an unknown path, or "text"
            # undocumented or contradictory, so each may be set
            "require_version": False,       # 400 version_required without the header
            "idempotency": True,            # False: the header has no effect
            "require_idempotency": False,
            "partial_status": 200,          # of a batch with failed items
            "invalid_items": "item",        # or "request": 422 for all
            "data": "merge",                # or "replace"
            "rate_headers": False,          # X-RateLimit-*, Reset in seconds left
            "retry_after": False,           # with a 429; an older sample has it, today's has not
        }

    # Rules for every request

    def route_path(self, request):
        """The sync page names no prefix, the reference has /api/client."""
        path = request.path.removeprefix("/api/client")
        paths = request.config["paths"] if request.account else "both"
        missing = {"users": "/contacts", "contacts": "/users"}.get(paths)
        return None if missing and path.split("/")[1:2] == [missing[1:]] else path

    def find_route(self, request):
        return super().find_route(request) if self.route_path(request) is not None else None

    def admit(self, request, found):
        """Rate limits at the edge, per address; then the key and its role; then the version."""
        request.reply_headers["X-Request-Id"] = f"req_{next(self.serial):08d}"
        self.enforce_limits(request)
        self.authenticate(request)
        if request.method != "GET" and request.grant.get("role", "admin") not in WRITING_ROLES:
            raise Refusal(403, "This key's role cannot write")
        self.check_version(request)

    def enforce_limits(self, request):
        """Rate limits: 429 until the block has passed."""
        config = self.settings(request)
        verdict = self.throttle(request, [((name, request.remote), spec)
                                          for name, spec in config["limits"].items()])
        if verdict is None:
            return
        if config["rate_headers"]:
            left = math.ceil(verdict.reset - self.clock.now())
            request.reply_headers.update({"X-RateLimit-Limit": str(verdict.limit),
                                          "X-RateLimit-Remaining": str(verdict.remaining),
                                          "X-RateLimit-Reset": str(left)})
        if not verdict.allowed:
            seconds = str(max(1, math.ceil(verdict.retry_after)))
            raise Refusal(429, "Too many requests",
                          headers={"Retry-After": seconds} if config["retry_after"] else {})

    def authenticate(self, request):
        """Authentication: an sk_ key on this surface, else 401."""
        token = request.bearer() or ""
        known = request.account is not None and not request.grant.get("revoked")
        if not known or not token.startswith("sk_") or request.path.startswith("/api/admin"):
            raise Refusal(401, "A valid project key is required")

    def check_version(self, request):
        """Versioning: an ISO date that is supported; echoed."""
        versions, asked = request.config["versions"], request.headers.get("Spotzee-Version")
        if asked is None and request.config["require_version"]:
            raise Refusal(400, "Spotzee-Version is required", "version_required")
        if asked is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", asked):
            raise Refusal(400, "Spotzee-Version must be a date", param="Spotzee-Version")
        if asked is not None and asked not in versions:
            raise Refusal(400, "This version is not supported", "version_unsupported")
        request.reply_headers["Spotzee-Version"] = asked or versions[-1]

    def refuse(self, request, refusal):
        """Errors: RFC 7807, with the message mirrored under its old name."""
        if refusal.code == "text":
            return Answer(refusal.status, refusal.message.encode(), media_type="text/plain")
        code = refusal.code or STATUS_CODES.get(refusal.status, "internal_error")
        return Answer(refusal.status, {
            "status": "error", "code": code, "title": code.replace("_", " ").capitalize(),
            "message": refusal.message, "error": refusal.message,
            "type": f"https://docs.spotzee.com/errors/{code}",
            "request_id": request.reply_headers.get("X-Request-Id"), **refusal.details},
            headers=refusal.headers, media_type="application/problem+json")

    # Idempotency

    def perform(self, request, found):
        """Idempotency: POST and PATCH, per key, 24 h; 2xx and 4xx are kept, 429 and 5xx not."""
        if found is None and request.config["path_404"] == "text":
            raise Refusal(404, "Not Found", code="text")
        key = request.headers.get("Idempotency-Key")
        if request.method not in ("POST", "PATCH") or not request.config["idempotency"]:
            return super().perform(request, found)
        if key is None and request.config["require_idempotency"]:
            raise Refusal(400, "Idempotency-Key is required", "parameter_missing")
        if key is None:
            return super().perform(request, found)
        if not 1 <= len(key) <= KEY_MAX:
            raise Refusal(400, "Idempotency-Key must have 1 to 255 characters",
                          "idempotency_key_invalid")
        return self.perform_once(request, found, (request.bearer(), key))

    def perform_once(self, request, found, scope):
        cache, now = request.account.recall("idempotency"), self.clock.now()
        fingerprint = hashlib.sha256(
            b"\n".join([request.method.encode(), request.path.encode(), request.body])).digest()
        kept = cache.get(scope)
        if kept is not None and kept["until"] > now:
            return self.replay(kept, fingerprint)
        if any(same_key(request.entry, entry)
               for entry in self.journal.earlier_in_flight(request.entry)):
            raise Refusal(409, "A request with this key is in progress",
                          "idempotency_in_progress", headers={"Retry-After": "1"})
        try:
            answer = super().perform(request, found)
        except Refusal as refusal:
            answer = self.refuse(request, refusal)
        if is_kept(answer):
            cache[scope] = {"until": now + IDEMPOTENCY_SECONDS, "fingerprint": fingerprint,
                            "answer": answer}
        return answer

    def answered(self, request, answer):
        """Idempotency: if a fault answers with what is not kept, forget our own answer."""
        if request.account is not None and not is_kept(answer):
            scope = (request.bearer(), request.headers.get("Idempotency-Key"))
            request.account.recall("idempotency").pop(scope, None)

    def replay(self, kept, fingerprint):
        if kept["fingerprint"] != fingerprint:
            raise Refusal(409, "This key was used with another request",
                          "idempotency_key_mismatch")
        first = kept["answer"]
        return Answer(first.status, first.body, {**first.headers, "Idempotent-Replayed": "true"},
                      first.media_type)

    # Writing contacts, the older form

    @route("POST", "/contacts/batch")
    def contacts_batch(self, request):
        """Sync contacts: {"contacts": [...]} of 1 to 100; failed items are named in errors[]."""
        body = self.json_object(request)
        items = self.batch(request, CONTACT, body.get("contacts"), "contacts", set(body))
        outcomes = [self.try_upsert(request, CONTACT, item) for item in items]
        errors = [{"index": index, "external_id": item["external_id"], **outcome["error"]}
                  for index, (item, outcome) in enumerate(zip(items, outcomes))
                  if "error" in outcome]
        contacts = [{"id": outcome["user"]["id"], "external_id": outcome["user"]["external_id"]}
                    for outcome in outcomes if "user" in outcome]
        return Answer(self.batch_status(request, errors), {
            "contacts": contacts, "succeeded": len(contacts), "failed": len(errors),
            "errors": errors})

    @route("POST", "/contacts")
    def contact(self, request):
        """Sync contacts, Pitfalls: a single contact works, but burns the rate budget."""
        item = self.json_object(request)
        self.refuse_problems(find_problems(CONTACT, item))
        return Answer(200, self.present(request, self.upsert(request, item)))

    # Writing users, today's form

    @route("POST", "/users/batch")
    def users_batch(self, request):
        """Sync users: a bare array of 1 to 100; results[] in the order of the request."""
        items = self.batch(request, USER, self.json_body(request))
        outcomes = [self.try_upsert(request, USER, item) for item in items]
        failed = sum("error" in outcome for outcome in outcomes)
        results = [{"index": index, "external_id": item.get("external_id"),
                    "anonymous_id": item.get("anonymous_id"), **outcome}
                   for index, (item, outcome) in enumerate(zip(items, outcomes))]
        return Answer(self.batch_status(request, failed), {
            "results": results, "succeeded": len(items) - failed, "failed": failed})

    @route("PATCH", "/users")
    def patch_users(self, request):
        """Sync users: asynchronous, 204, no errors per item."""
        for item in self.batch(request, USER, self.json_body(request)):
            self.try_upsert(request, USER, item)
        return Answer(204)

    def batch(self, request, schema, items, param="", names=frozenset()):
        """The items of a batch; the request as a whole is refused for their shape only."""
        for name in names - {param}:
            raise Refusal(400, f"{name} is not a known parameter", "parameter_unknown",
                          param=name)
        if items is None:
            raise Refusal(400, "A batch is required", "parameter_missing", param=param)
        if not isinstance(items, list):
            raise Refusal(400, f"{param or 'The body'} must be an array", param=param)
        if not items:
            raise Refusal(400, "The batch is empty", "parameter_invalid_empty", param=param)
        if len(items) > BATCH_MAX:
            raise Refusal(422, f"A batch holds at most {BATCH_MAX} items", param=param)
        per_item = request.config["invalid_items"] == "item"
        self.refuse_problems([problem for index, item in enumerate(items)
                              for problem in item_problems(schema, item, f"{param}[{index}]")
                              if not (per_item and problem.rule == "format")])
        return items

    def refuse_problems(self, problems):
        """Errors: validation_failed, with one entry per field."""
        if problems:
            raise Refusal(422, describe(problems[0]), param=problems[0].path,
                          errors=[{"param": problem.path, "message": describe(problem),
                                   "code": code_of(problem.rule)} for problem in problems])

    def batch_status(self, request, failed):
        return request.config["partial_status"] if failed else 200

    def try_upsert(self, request, schema, item):
        """{"user": ...} or {"error": {code, message}} of one item."""
        try:
            for problem in find_problems(schema, item):
                raise Refusal(400, describe(problem), code_of(problem.rule))
            return {"user": self.present(request, self.upsert(request, item))}
        except Refusal as refusal:
            return {"error": {"code": refusal.code or STATUS_CODES.get(refusal.status),
                              "message": refusal.message}}

    def upsert(self, request, item):
        """Sync contacts: external_id is the upsert key; what was omitted stays."""
        self.reject_as_scripted(request, item.get("external_id"), item.get("email"))
        account, contacts = request.account, request.account.contacts
        contact = contacts.find_any({name: item.get(name)
                                     for name in ("external_id", "anonymous_id")})
        kind, before = "changed", contact and contact["email"]
        if contact is None:
            kind, contact = "created", contacts.insert(self.blank_contact(account))
        changes = {**item, "updated_at": self.clock.iso()}
        if request.config["data"] == "merge" and item.get("data") is not None:
            changes["data"] = {**(contact["data"] or {}), **item["data"]}
        contacts.change(contact, changes)
        for address in {before, contact["email"]} - {None}:
            self.felt(account, address, kind, request, external_id=contact["external_id"],
                      **({"new": contact["id"]} if kind == "created" else {}))
        return contact

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": next(self.serial), "external_id": None, "anonymous_id": None,
                "email": None, "phone": None, "timezone": None, "locale": None,
                "first_name": None, "last_name": None, "data": {}, "subscriptions": {},
                "created_at": now, "updated_at": now}

    def present(self, request, contact):
        """Users have no names of their own: these are in data."""
        shown = {"project_id": request.account.name, **contact}
        del shown["subscriptions"]
        if "/users" in request.path:
            del shown["first_name"], shown["last_name"]
        return shown

    # Reading and deleting, alike for both forms

    @route("GET", "/users")
    @route("GET", "/contacts")
    def list(self, request):
        """Pagination: cursor, page next or prev, limit 1 to 100 with 25 as default, q."""
        options = query_parameters(request, ("cursor", "page", "limit", "sort", "direction", "q"))
        limit = whole_number(options.get("limit", "25"), "limit", 1, LIST_MAX)
        sort = chosen(options, "sort", ("id", *SORTS))
        descending = chosen(options, "direction", ("asc", "desc")) == "desc"
        wanted = options.get("q", "").lower()
        found = [contact for contact in request.account.contacts
                 if any(wanted in str(contact[name] or "").lower()
                        for name in ("email", "external_id", "phone"))]
        found.sort(key=lambda contact: list_order(contact, sort), reverse=descending)
        order = [list_order(contact, sort) for contact in found]
        start, end = page_bounds(options, order, descending, limit)
        return Answer(200, {
            "results": [self.present(request, contact) for contact in found[start:end]],
            "nextCursor": make_cursor(order[end - 1]) if 0 < end < len(found) else None,
            "prevCursor": make_cursor(order[start]) if 0 < start < len(found) else None,
            "limit": limit}, headers={"X-Total-Count": str(len(found))})

    @route("GET", "/users/{external_id}")
    @route("GET", "/contacts/{external_id}")
    def get(self, request):
        contact = request.account.contacts.find("external_id", request.parameters["external_id"])
        if contact is None:
            raise Refusal(404, "No such user")
        return Answer(200, self.present(request, contact))

    @route("DELETE", "/users/{external_id}")
    @route("DELETE", "/contacts/{external_id}")
    def delete(self, request):
        """Users: 204, asynchronous, whether or not there was one."""
        self.remove(request, [request.parameters["external_id"]])
        return Answer(204)

    @route("DELETE", "/users")
    def delete_many(self, request):
        """Users: user_id may be repeated."""
        names = {name for name, _ in request.query()}
        if names != {"user_id"}:
            raise Refusal(400, "user_id is required", "parameter_missing", param="user_id")
        self.remove(request, [value for _, value in request.query()])
        return Answer(204)

    def remove(self, request, external_ids):
        for external_id in external_ids:
            contact = request.account.contacts.find("external_id", external_id)
            if contact is not None:
                self.drop_contact(request.account, contact, request)

    @route("POST", "/subscriptions/batch")
    def subscriptions_batch(self, request):
        """Subscriptions: an array of 1 to 100 of {external_id, subscription_id, state}."""
        items = self.batch(request, SUBSCRIPTION, self.json_body(request))
        results = [{"index": index, "external_id": item["external_id"],
                    **self.try_subscribe(request, item["external_id"], item)}
                   for index, item in enumerate(items)]
        failed = sum("error" in result for result in results)
        return Answer(self.batch_status(request, failed), {
            "results": results, "succeeded": len(items) - failed, "failed": failed})

    @route("PATCH", "/users/{external_id}/subscriptions")
    def patch_subscriptions(self, request):
        """Subscriptions: an array of {subscription_id, state} of one user."""
        schema = {name: field for name, field in SUBSCRIPTION.items() if name != "external_id"}
        for item in self.batch(request, schema, self.json_body(request)):
            outcome = self.try_subscribe(request, request.parameters["external_id"], item)
            if "error" in outcome:
                raise Refusal(404, outcome["error"]["message"])
        return Answer(204)

    def try_subscribe(self, request, external_id, item):
        contact = request.account.contacts.find("external_id", external_id)
        if contact is None:
            return {"error": {"code": "resource_missing", "message": "No such user"}}
        subscription, state = str(item["subscription_id"]), item["state"]
        if subscription not in request.config["subscriptions"]:
            return {"error": {"code": "resource_missing", "message": "No such subscription"}}
        before = contact["subscriptions"].get(subscription)
        contact["subscriptions"][subscription] = state
        if before != state:
            request.account.record("subscription_changed", self.clock.iso(),
                                   contact=contact["id"], email=contact["email"],
                                   subscription=subscription, before=before, after=state)
        self.felt(request.account, contact["email"], "claimed" if state else "withdrawn", request,
                  subscription=subscription, external_id=external_id)
        return {"subscription": {"subscription_id": item["subscription_id"], "state": state}}

    # People

    def reach(self, account, address):
        """Subscriptions: who has no recorded opt-out counts as subscribed."""
        return {f"subscription {subscription}" for subscription in account.config["subscriptions"]
                for contact in account.contacts.find_all("email", address)
                if contact["subscriptions"].get(subscription) != 0}

    def says_no(self, fields):
        return 0 in fields.get("subscriptions", {}).values()

    def set_state(self, account, address, subscription, state):
        """The state of a subscription, or of all, in all contacts of an address."""
        for contact in self.signed_up(account, address) if state else self.contacts_of(account, address):
            self.touch(account, contact, subscriptions={
                **contact["subscriptions"],
                **{one: state for one in ([subscription] if subscription else
                                          account.config["subscriptions"])}})

    def opt_out(self, account, address, subscription=None):
        self.set_state(account, address, subscription, 0)

    complain = opt_out

    def opt_in(self, account, address, subscription=None):
        self.set_state(account, address, subscription, 1)

    @route("GET", "/me")
    def me(self, request):
        """Authentication: the project that a key belongs to."""
        return Answer(200, {"id": request.account.name, "name": request.account.name})


def is_kept(answer):
    """Whether the answer to an idempotency key is kept."""
    return answer.status < 500 and answer.status not in UNCACHED and (
        "Retry-After" not in answer.headers)


def item_problems(schema, item, path):
    if not isinstance(item, dict):
        raise Refusal(422, f"{path} must be an object", param=path)
    if schema is USER and not item.get("external_id") and not item.get("anonymous_id"):
        raise Refusal(422, f"{path} needs external_id or anonymous_id", param=path)
    return find_problems(schema, item, path)


def code_of(rule):
    return RULE_CODES.get(rule, "parameter_invalid_format")


def same_key(entry, other):
    """Whether two journal entries carry the same Idempotency-Key under the same credentials."""
    def scope(one):
        headers = {name.lower(): value for name, value in one["headers"]}
        return headers.get("idempotency-key"), headers.get("authorization")
    return scope(entry) == scope(other)


def chosen(options, name, choices):
    """A query option that has a few values, the first of them by default."""
    value = options.get(name, choices[0])
    if value not in choices:
        raise Refusal(400, f"{name} must be one of {', '.join(choices)}", param=name)
    return value


def list_order(contact, sort):
    value = f"{contact['id']:020d}" if sort == "id" else contact[sort] or ""
    return [value, contact["id"]]


def page_bounds(options, order, descending, limit):
    """Where the page after (or before) the cursor starts and ends in the sorted list."""
    if "cursor" not in options:
        return 0, limit
    cursor = parse_cursor(options["cursor"], str, int)
    if chosen(options, "page", ("next", "prev")) == "prev":
        end = sum(place > cursor if descending else place < cursor for place in order)
        return max(0, end - limit), end
    start = sum(place >= cursor if descending else place <= cursor for place in order)
    return start, start + limit
