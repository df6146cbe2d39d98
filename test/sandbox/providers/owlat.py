"""Owlat, from its page "Contact Sync" and its reference pages "Contacts API", "Topics" and
"Authentication", and from running its own server code, which counts where the two differ.

A global opt-out is stored on the contact (unsubscribedAt); segment campaigns mail every contact
without one, whatever its topics. Where neither source tells, a setting chooses; its default stands
in defaults() with a note.
"""

import json
import math
import re

from exchange import Answer, Refusal
from providers.base import (Provider, limit_headers, make_cursor, parse_cursor,
                            query_parameters, route, whole_number)
from schema import is_email

KEY_FORMAT = re.compile(r"lm_live_[a-zA-Z0-9]{32,}")    # Authentication: 40 characters or more
ID_FORMAT = re.compile(r"[a-z0-9]{32}")
LIST_MAX = 100
NAME_MAX = 200                                          # UTF-16 units, and of a create only
EMAIL_MAX = 200
NAMES = ("firstName", "lastName")
CONTACTS = "/api/v1/contacts"
MEMBERS = "/api/v1/topics/{topicId}/contacts"
SHOWN = ("id", "email", "firstName", "lastName", "source", "createdAt", "updatedAt")
# what JavaScript's trim() removes: no-break spaces and byte order marks too
BLANK = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"

CATEGORIES = {400: "invalid_input", 401: "unauthenticated", 402: "limit_reached",
              403: "forbidden", 404: "not_found", 409: "conflict", 422: "invalid_state",
              429: "rate_limited"}

BAD_REFERENCE = "Invalid contact ID or email format"
TAKEN = "A contact with this email already exists"


class Owlat(Provider):
    name = "owlat"
    default_account = "team_sandbox"
    unique_fields = ("id",)
    shared_fields = ("email",)      # a change of address can bring two contacts to one
    updated_field = "updatedAt"
    acts = ("opt_out", "opt_in", "complain", "confirm")

    def defaults(self):
        return {
            "keys": {"lm_live_sandbox0000000000000000000000000": {
                "scopes": ["contacts:read", "contacts:write", "topics:write"]}},
            "limits": {"key": {"kind": "bucket", "limit": 10, "burst": 15}},
            "topics": {"topicsingle000000000000000000000": {"double_opt_in": False},
                       "topicdouble000000000000000000000": {"double_opt_in": True}},
            "topic_double_opt_in": True,    # for a topic without double_opt_in: the server's preset
            "contact_limit": None,          # a create beyond it is a 402
            "unknown_fields": "drop",       # or "refuse", to find out who sends them
            "error_shape": "category",      # or "code", as older documents show
            "retry_after_in": "header",     # or "data", "both"
            # when an opt-out moves updatedAt: some versions only do if a membership ends
            "opt_out_moves": "always",      # or "with memberships"
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
        """Contacts API: 201, or 409 already_exists if a contact was created with this address.
        An empty name is stored as absent."""
        body, account = self.json_object(request), request.account
        if not body.get("email"):
            raise Refusal(400, "Email is required")
        email = self.checked_email(body["email"], "Email")
        names = self.checked_names(body)
        for name, value in names.items():
            if units(value) > NAME_MAX:
                raise Refusal(400, f"{name} must be at most {NAME_MAX} characters")
        self.drop_unknown(request, body, ("email", *NAMES))
        self.reject_as_scripted(request, email)
        if email in account.recall("identities"):
            raise Refusal(409, TAKEN, "already_exists")
        if len(email) > EMAIL_MAX:
            raise Refusal(400, "Failed to create contact")
        limit = request.config["contact_limit"]
        if limit is not None and len(account.contacts) >= limit:
            raise Refusal(402, "Contact limit reached")
        contact = self.insert(account, {
            **self.blank_contact(account), "email": email,
            **{name: value or None for name, value in names.items()}})
        self.record(account, "contact_created", contact)
        self.felt(account, email, "created", request, new=contact["id"])
        return Answer(201, {"data": present(contact)})

    @route("PUT", CONTACTS + "/{idOrEmail}", scope="contacts:write")
    def update(self, request):
        """Contacts API: partial; an empty name clears; updatedAt moves even if nothing did. A new
        address changes where the contact is found, but not the identity that a create checks."""
        body, account = self.json_object(request), request.account
        changes = self.checked_names(body)
        if "email" in body:
            changes["email"] = self.checked_email(body["email"], "email")
        contact = self.contact_in_path(request)
        self.drop_unknown(request, body, ("email", *NAMES))
        self.reject_as_scripted(request, contact["email"])
        before = contact["email"]
        if changes.get("email", before) != before:
            if account.contacts.find_all("email", changes["email"]):
                raise Refusal(409, TAKEN, "already_exists")
        for name, value in changes.items():
            if contact[name] != value:
                self.record(account, "contact_updated", contact, property=name)
        self.touch(account, contact, **changes)
        if contact["email"] != before:
            self.felt(account, before, "changed", request, left=True)
        self.felt(account, contact["email"], "changed", request)
        return Answer(200, {"data": present(contact)})

    @route("GET", CONTACTS + "/{idOrEmail}", scope="contacts:read")
    def get(self, request):
        return Answer(200, {"data": present(self.contact_in_path(request))})

    @route("DELETE", CONTACTS + "/{idOrEmail}", scope="contacts:write")
    def delete(self, request):
        """A hard delete: it forgets the opt-out and frees the contact's identities."""
        contact = self.contact_in_path(request)
        self.drop_contact(request.account, contact, request)
        return Answer(200, {"data": {"id": contact["id"], "deleted": True}})

    @route("GET", CONTACTS, scope="contacts:read")
    def list(self, request):
        """Contacts API: limit 1 to 100, default 25; cursor; search."""
        options = query_parameters(request, ("limit", "cursor", "search"))
        limit = whole_number(options.get("limit", "25"), "limit", 1, LIST_MAX)
        start, = parse_cursor(options["cursor"], int) if "cursor" in options else [0]
        search = options.get("search", "").lower()
        found = [contact for contact in request.account.contacts
                 if any(search in (contact[name] or "").lower() for name in ("email", *NAMES))]
        end = start + limit
        return Answer(200, {
            "data": [present(contact) for contact in found[start:end]],
            "pagination": {"limit": limit, "totalItems": len(found),
                           "cursor": make_cursor([end]) if end < len(found) else None,
                           "isDone": end >= len(found)}})

    def json_body(self, request):
        """Invalid UTF-8 becomes U+FFFD, and the last of two equal names counts."""
        if request.media_type() != "application/json":
            raise Refusal(400, "Content-Type must be application/json")
        try:
            return json.loads(request.body.decode("utf-8", "replace"))
        except ValueError as error:
            raise Refusal(400, "Invalid JSON in request body") from error

    def checked_email(self, email, what):
        """The address as it is stored. The format check runs on the raw value."""
        if not isinstance(email, str):
            raise Refusal(400, f"{what} must be a string")
        if not is_email(email):
            raise Refusal(400, "Invalid email format")
        return email.lower()

    def checked_names(self, body):
        """The names that a body has, trimmed."""
        names = {name: body[name] for name in NAMES if name in body}
        for name, value in names.items():
            if not isinstance(value, str):
                raise Refusal(400, f"{name} must be a string")
        return {name: value.strip(BLANK) for name, value in names.items()}

    def drop_unknown(self, request, body, known):
        """Contacts API: unknown fields are ignored; the journal lists them under `dropped`."""
        unknown = sorted(set(body) - set(known))
        if unknown and request.config["unknown_fields"] == "refuse":
            raise Refusal(400, f"{unknown[0]} is not a known field")
        if unknown:
            request.entry["dropped"] = unknown

    def contact_in_path(self, request):
        return self.find_member(request, request.parameters["idOrEmail"])

    def find_member(self, request, reference):
        """The contact of an address or an id, the oldest if two have the address."""
        account = request.account
        if is_email(reference):
            for contact in account.contacts.find_all("email", reference.lower()):
                return contact
            raise Refusal(404, f'Contact with email "{reference}" not found')
        if not ID_FORMAT.fullmatch(reference):
            raise Refusal(400, BAD_REFERENCE)
        contact = account.contacts.find("id", reference)
        if contact is None and reference in account.recall("erased", set):
            raise Refusal(404, "Contact not found")
        if contact is None:
            raise Refusal(500, "Internal error", "internal")    # not an id of this table
        return contact

    def insert(self, account, contact):
        account.recall("identities").setdefault(contact["email"], contact["id"])
        return super().insert(account, contact)

    def drop_contact(self, account, contact, request=None):
        identities = account.recall("identities")
        for email in [email for email, owner in identities.items() if owner == contact["id"]]:
            del identities[email]
        account.recall("erased", set).add(contact["id"])
        super().drop_contact(account, contact, request)

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"contact{next(self.serial):025d}", "email": None, "firstName": None,
                "lastName": None, "source": "api", "createdAt": now, "updatedAt": now,
                "unsubscribedAt": None, "doiStatus": "not_required", "topics": {}}

    def record(self, account, kind, contact, **details):
        account.record(kind, self.clock.iso(), contact=contact["id"], email=contact["email"],
                       **details)

    # Topics

    @route("POST", MEMBERS, scope="topics:write")
    def add_to_topic(self, request):
        """Topics: 201 and idempotent. A new membership lifts a global opt-out, unless it needs a
        confirmation; a contact that confirmed before needs none."""
        topic = self.topic_in_path(request)
        body = self.json_object(request)
        email, contact_id = body.get("email"), body.get("contactId")
        if not email and not contact_id:
            raise Refusal(400, "Either email or contactId is required")
        if email and not (isinstance(email, str) and is_email(email)):
            raise Refusal(400, "Invalid email format")
        if contact_id and not (isinstance(contact_id, str) and ID_FORMAT.fullmatch(contact_id)):
            raise Refusal(400, "Invalid contactId format")
        self.drop_unknown(request, body, ("email", "contactId"))
        contact = self.find_member(request, contact_id or email)
        self.reject_as_scripted(request, contact["email"])
        topic_id = request.parameters["topicId"]
        status = contact["doiStatus"]
        if topic_id not in contact["topics"]:
            status = self.join(request, contact, topic_id, topic)
        return Answer(201, {"data": {"success": True, "contactId": contact["id"],
                                     "topicId": topic_id, "doiStatus": status}})

    def join(self, request, contact, topic_id, topic):
        """Create a membership; return the double opt-in status for the answer."""
        account = request.account
        if self.asks(account, topic) and contact["doiStatus"] != "confirmed":
            contact["topics"][topic_id] = "pending"
            self.felt(account, contact["email"], "asked", request, topic=topic_id)
            if contact["doiStatus"] != "pending":
                self.touch(account, contact, doiStatus="pending")
                self.record(account, "confirmation_mail_sent", contact)
                self.mailed(account, contact["email"], "confirmation", request)
            return "pending"
        contact["topics"][topic_id] = contact["doiStatus"]
        account.contacts.change(contact, {"unsubscribedAt": None})
        self.felt(account, contact["email"], "claimed", request, topic=topic_id)
        return contact["doiStatus"]

    def asks(self, account, topic):
        """Whether the members of a topic have to confirm."""
        return topic.get("double_opt_in", account.config["topic_double_opt_in"])

    @route("DELETE", MEMBERS + "/{idOrEmail}", scope="topics:write")
    def remove_from_topic(self, request):
        """Topics: idempotent; `removed` is false if the contact was not a member, or has left."""
        self.topic_in_path(request)
        contact, topic_id = self.contact_in_path(request), request.parameters["topicId"]
        removed = contact["topics"].pop(topic_id, None) is not None
        if removed:
            self.touch(request.account, contact)
            self.felt(request.account, contact["email"], "withdrawn", request, topic=topic_id)
        return Answer(200, {"data": {"success": True, "removed": removed}})

    def topic_in_path(self, request):
        """A deleted topic (null in the settings) is a 404, an id of another table a 500."""
        topic_id, topics = request.parameters["topicId"], request.config["topics"]
        if not ID_FORMAT.fullmatch(topic_id):
            raise Refusal(400, "Invalid topic ID format")
        if topic_id not in topics:
            raise Refusal(500, "Internal error", "internal")
        if topics[topic_id] is None:
            raise Refusal(404, "Topic not found")
        return topics[topic_id]

    # People

    def reach(self, account, address):
        """Segment campaigns go to all who have not opted out; a topic's to its members."""
        reached = [contact for contact in account.contacts.find_all("email", address)
                   if contact["unsubscribedAt"] is None]
        topics = {f"topic {topic}" for contact in reached
                  for topic, status in contact["topics"].items() if status != "pending"}
        return topics | ({"segments"} if reached else set())

    def says_no(self, fields):
        return fields.get("unsubscribedAt") is not None

    def opt_out(self, account, address, topic=None):
        """The link in a mail: for one topic, or for all, which is a global opt-out."""
        for contact in self.contacts_of(account, address):
            left = [topic] if topic else list(contact["topics"])
            ended = [contact["topics"].pop(one) for one in left if one in contact["topics"]]
            if not topic:
                now = contact["unsubscribedAt"] or self.clock.iso()
                account.contacts.change(contact, {"unsubscribedAt": now})
            if ended or not topic and account.config["opt_out_moves"] == "always":
                self.touch(account, contact)

    complain = opt_out

    def opt_in(self, account, address, topic=None):
        """A form of Owlat's, with the confirmation where one is required."""
        contact = self.signed_up(account, address)[0]
        changes = {"unsubscribedAt": None}
        if topic:
            if self.asks(account, account.config["topics"][topic]):
                changes["doiStatus"] = "confirmed"
            contact["topics"][topic] = changes.get("doiStatus", contact["doiStatus"])
        self.touch(account, contact, **changes)

    def confirm(self, account, address):
        """The link in a confirmation mail: completes all memberships and lifts the opt-out."""
        for contact in self.contacts_of(account, address):
            if contact["doiStatus"] == "pending":
                for topic in contact["topics"]:
                    contact["topics"][topic] = "confirmed"
                self.touch(account, contact, doiStatus="confirmed", unsubscribedAt=None)

    @route("GET", "/api/v1/health")
    def health(self, request):
        """Health: without authentication."""
        return Answer(200, {"status": "ok", "timestamp": self.clock.iso()})


def present(contact):
    """A contact as the API shows it: no opt-out and no topics; a name that is absent is null."""
    return {name: contact[name] for name in SHOWN}


def units(text):
    """The length of a text as JavaScript counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
