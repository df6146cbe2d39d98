"""Owlat, from its page "Contact Sync" and its reference pages "Contacts API", "Topics" and
"Authentication", with what its running server was seen to do.

Where the documents are silent a setting chooses; its default stands in defaults() with a note.
"""

import math
import re

from exchange import Answer, Refusal
from providers.base import (Provider, limit_headers, make_cursor, parse_cursor,
                            query_parameters, route, whole_number)
from schema import Field, describe, find_problems, is_email

KEY_FORMAT = re.compile(r"lm_live_[a-zA-Z0-9]{32,}")    # Authentication: 40 characters or more
ID_FORMAT = re.compile(r"[a-z0-9]{32}")
LIST_MAX = 100
CONTACTS = "/api/v1/contacts"
MEMBERS = "/api/v1/topics/{topicId}/contacts"
HIDDEN = ("unsubscribedAt", "topics")

CATEGORIES = {400: "invalid_input", 401: "unauthenticated", 402: "limit_reached",
              403: "forbidden", 404: "not_found", 409: "conflict", 422: "invalid_state",
              429: "rate_limited"}

EMAIL = Field("string", required=True, longest=200, check=is_email, what="a valid email")
# Contacts API: names are bounded when a contact is created, and not when it is updated
CREATE = {"email": EMAIL, "firstName": Field("string", longest=200),
          "lastName": Field("string", longest=200)}
UPDATE = {"email": Field("string", longest=254, check=is_email, what="a valid email"),
          "firstName": Field("string"), "lastName": Field("string")}
ADD = {"email": Field("string"), "contactId": Field("string")}


class Owlat(Provider):
    name = "owlat"
    default_account = "team_sandbox"
    unique_fields = ("id", "email")
    updated_field = "updatedAt"

    def defaults(self):
        return {
            "keys": {"lm_live_sandbox0000000000000000000000000": {
                "scopes": ["contacts:read", "contacts:write", "topics:write"]}},
            "limits": {"key": {"kind": "bucket", "limit": 10, "burst": 15}},
            "topics": {"topicsingle000000000000000000000": {"double_opt_in": False},
                       "topicdouble000000000000000000000": {"double_opt_in": True}},
            "contact_limit": None,          # a create beyond it is a 402
            "unknown_fields": "refuse",     # or "drop", as the running server does
            "error_shape": "category",      # or "code", as older documents show
            "retry_after_in": "header",     # or "data", "both"
        }

    # Rules for every request

    def admit(self, request, found):
        """Authentication: format, then the key, then its token bucket, then the scope."""
        if found is None:
            raise Refusal(404, "No matching routes found", code="text")
        if found.action == "health":
            return
        token = request.bearer()
        if token is None or not KEY_FORMAT.fullmatch(token):
            raise Refusal(401, "Invalid API key format")
        if request.account is None or request.grant.get("revoked"):
            raise Refusal(401, "Invalid API key")
        verdict = self.throttle(request, [(("key", token), request.config["limits"]["key"])])
        request.reply_headers.update(limit_headers(verdict))
        if verdict is not None and not verdict.allowed:
            self.refuse_rate(request, verdict)

    def refuse_rate(self, request, verdict):
        """Authentication: 429 with Retry-After in whole seconds, at least 1."""
        seconds, where = max(1, math.ceil(verdict.retry_after)), request.config["retry_after_in"]
        raise Refusal(
            429, f"Rate limit exceeded. Maximum {verdict.limit} requests per second.",
            headers={} if where == "data" else {"Retry-After": str(seconds)},
            **({} if where == "header" else {"retryAfter": seconds}))

    def missing_scope(self, scope):
        return Refusal(403, f"This API key is missing the required scope: {scope}")

    def malformed_path(self, error):
        """Seen on the running server: malformed percent-encoding raises a 500."""
        return Refusal(500, f"URI malformed: {error}")

    def refuse(self, request, refusal):
        """Errors: {"error": {category, message, data?}}; an unknown path is plain text."""
        if refusal.code == "text":
            return Answer(refusal.status, refusal.message.encode(), media_type="text/plain")
        category = refusal.code or CATEGORIES.get(refusal.status, "internal")
        error = {"category": category, "message": refusal.message}
        if self.settings(request)["error_shape"] == "code":
            error = {"message": refusal.message, "code": category}
        if refusal.details:
            error["data"] = refusal.details
        return Answer(refusal.status, {"error": error}, headers=refusal.headers)

    # Contacts

    @route("POST", CONTACTS, scope="contacts:write")
    def create(self, request):
        """Contacts API: 201, or 409 already_exists. An empty name is stored as absent."""
        fields = self.checked_body(request, CREATE)
        email, account = fields["email"].strip().lower(), request.account
        self.reject_as_scripted(request, email)
        if account.contacts.find("email", email) is not None:
            raise Refusal(409, "A contact with this email already exists", "already_exists")
        limit = request.config["contact_limit"]
        if limit is not None and len(account.contacts) >= limit:
            raise Refusal(402, "Contact limit reached")
        contact = account.contacts.insert({
            **self.blank_contact(account), "email": email,
            "firstName": fields.get("firstName") or None,
            "lastName": fields.get("lastName") or None})
        self.record(account, "contact_created", contact)
        return Answer(201, {"data": present(contact)})

    @route("PUT", CONTACTS + "/{idOrEmail}", scope="contacts:write")
    def update(self, request):
        """Contacts API: partial; an empty name clears; updatedAt moves even if nothing did."""
        contact = self.contact_in_path(request)
        fields = self.checked_body(request, UPDATE)
        self.reject_as_scripted(request, contact["email"])
        if "email" in fields:
            fields["email"] = fields["email"].strip().lower()
            if request.account.contacts.find("email", fields["email"]) not in (None, contact):
                raise Refusal(409, "A contact with this email already exists", "already_exists")
        for name, value in fields.items():
            if contact[name] != value:
                self.record(request.account, "contact_updated", contact, property=name)
        request.account.contacts.change(contact, {**fields, "updatedAt": self.clock.iso()})
        return Answer(200, {"data": present(contact)})

    @route("GET", CONTACTS + "/{idOrEmail}", scope="contacts:read")
    def get(self, request):
        return Answer(200, {"data": present(self.contact_in_path(request))})

    @route("DELETE", CONTACTS + "/{idOrEmail}", scope="contacts:write")
    def delete(self, request):
        contact = self.contact_in_path(request)
        request.account.contacts.remove(contact)
        return Answer(200, {"data": {"id": contact["id"], "deleted": True}})

    @route("GET", CONTACTS, scope="contacts:read")
    def list(self, request):
        """Contacts API: limit 1 to 100, default 25; cursor; search."""
        options = query_parameters(request, ("limit", "cursor", "search"))
        limit = whole_number(options.get("limit", "25"), "limit", 1, LIST_MAX)
        start, = parse_cursor(options["cursor"], int) if "cursor" in options else [0]
        search = options.get("search", "").lower()
        found = [contact for contact in request.account.contacts
                 if any(search in (contact[name] or "").lower()
                        for name in ("email", "firstName", "lastName"))]
        end = start + limit
        return Answer(200, {
            "data": [present(contact) for contact in found[start:end]],
            "pagination": {"limit": limit, "totalItems": len(found),
                           "cursor": make_cursor([end]) if end < len(found) else None,
                           "isDone": end >= len(found)}})

    def checked_body(self, request, schema):
        """The body by its schema. The format check of an email runs on the raw value."""
        body = self.json_object(request)
        problems = find_problems(schema, body)
        if request.config["unknown_fields"] == "drop":
            problems = [problem for problem in problems if problem.rule != "unknown"]
        if problems:
            raise Refusal(400, describe(problems[0]))
        return {name: value for name, value in body.items() if name in schema}

    def contact_in_path(self, request):
        return self.find_member(request, request.parameters["idOrEmail"])

    def find_member(self, request, id_or_email):
        contacts = request.account.contacts
        if "@" in id_or_email:
            if not is_email(id_or_email):
                raise Refusal(400, "Invalid email format")
            contact = contacts.find("email", id_or_email.lower())
        else:
            contact = contacts.find("id", id_or_email)
            if contact is None and not ID_FORMAT.fullmatch(id_or_email):
                raise Refusal(400, "Invalid contact id")
        if contact is None:
            raise Refusal(404, "Contact not found")
        return contact

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"contact{next(self.serial):025d}", "email": None, "firstName": None,
                "lastName": None, "source": "api", "createdAt": now, "updatedAt": now,
                "unsubscribedAt": None, "topics": {}}

    def record(self, account, kind, contact, **details):
        account.record(kind, self.clock.iso(), contact=contact["id"], email=contact["email"],
                       **details)

    # Topics

    @route("POST", MEMBERS, scope="topics:write")
    def add_to_topic(self, request):
        """Topics: 201 and idempotent; a new membership without double opt-in lifts a global
        opt-out, one with it is pending and sends a mail."""
        topic = self.topic_in_path(request)
        body = self.checked_body(request, ADD)
        if len(body) != 1:
            raise Refusal(400, "Either email or contactId is required")
        contact = self.find_member(request, *body.values())
        self.reject_as_scripted(request, contact["email"])
        memberships, topic_id = contact["topics"], request.parameters["topicId"]
        if topic_id not in memberships:
            memberships[topic_id] = self.join(request.account, contact, topic)
        return Answer(201, {"data": {"success": True, "contactId": contact["id"],
                                     "topicId": topic_id, "doiStatus": memberships[topic_id]}})

    def join(self, account, contact, topic):
        """Make a new membership; returns its double opt-in status."""
        if topic["double_opt_in"]:
            self.record(account, "confirmation_mail_sent", contact)
            return "pending"
        if contact["unsubscribedAt"] is not None:
            account.contacts.change(contact, {"unsubscribedAt": None})
            self.record(account, "resubscribed", contact)
        return "not_required"

    @route("DELETE", MEMBERS + "/{idOrEmail}", scope="topics:write")
    def remove_from_topic(self, request):
        self.topic_in_path(request)
        contact = self.contact_in_path(request)
        removed = contact["topics"].pop(request.parameters["topicId"], None) is not None
        return Answer(200, {"data": {"success": True, "removed": removed}})

    def topic_in_path(self, request):
        topic_id = request.parameters["topicId"]
        topic = request.config["topics"].get(topic_id)
        if topic is None and not ID_FORMAT.fullmatch(topic_id):
            raise Refusal(400, "Invalid topic id")
        if topic is None:
            raise Refusal(404, "Topic not found")
        return topic

    @route("GET", "/api/v1/health")
    def health(self, request):
        """Health: without authentication."""
        return Answer(200, {"status": "ok", "timestamp": self.clock.iso()})


def present(contact):
    """A contact as the API shows it: no opt-out, no topics, no name that is absent."""
    return {name: value for name, value in contact.items()
            if name not in HIDDEN and value is not None}
