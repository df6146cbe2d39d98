"""Brevo, from the pages "Create a contact", "Get a contact's details", "Get all the contacts", "Delete a contact", "Rate limits" and
"Status and error codes" of its API v3.

    POST /v3/contacts                  201 {"id"}; with updateEnabled, 204 for a contact that exists, else 400 duplicate_parameter
    GET /v3/contacts/{identifier}      the contact; 404 document_not_found
    GET /v3/contacts                   limit up to 1000, offset, modifiedSince: {"contacts", "count"}
    DELETE /v3/contacts/{identifier}   204; 404
    429 with x-sib-ratelimit-limit, -remaining and -reset (seconds)

Attributes that do not exist are ignored. Whoever is in a list and not in emailBlacklisted is mailed by campaigns to the list.
"""

import math
import re

from clock import parse_iso
from exchange import Answer, Refusal
from providers.base import Provider, query_parameters, route, whole_number
from providers.flag import ConsentFlag
from schema import Field, describe, find_problems, is_email

CONTACT = {
    "email": Field("string"), "ext_id": Field("string"), "attributes": Field("object"), "emailBlacklisted": Field("boolean"),
    "smsBlacklisted": Field("boolean"), "updateEnabled": Field("boolean"),
    "listIds": Field("array", check=lambda ids: all(type(number) is int for number in ids), what="an array of integers"),
}


class Brevo(ConsentFlag, Provider):
    name = "brevo"
    default_account = "brevo_sandbox"
    unique_fields = ("id", "email", "ext_id")
    flag, wanted = "emailBlacklisted", False
    updated_field = "modifiedAt"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {
            "keys": {"xkeysib-sandbox": {}},
            "attributes": ["FIRSTNAME", "LASTNAME", "SMS", "PLAN"],
            "lists": [2],
            "limits": {"contacts": {"kind": "fixed", "limit": 10, "seconds": 1}},
        }

    def identify(self, request):
        request.account, request.grant = self.accounts.by_key(request.headers.get("api-key", ""))

    def admit(self, request, found):
        if request.account is None or request.grant.get("revoked"):
            raise Refusal(401, "Key not found", code="unauthorized")
        verdict = self.throttle(request, [(("contacts",), request.config["limits"]["contacts"])])
        if verdict is not None:
            request.reply_headers.update({"x-sib-ratelimit-limit": str(verdict.limit), "x-sib-ratelimit-remaining": str(verdict.remaining),
                                          "x-sib-ratelimit-reset": str(math.ceil(verdict.retry_after))})
            if not verdict.allowed:
                raise Refusal(429, "Too many requests have been sent", code="too_many_requests")

    def refuse(self, request, refusal):
        return Answer(refusal.status, {"code": refusal.code or "invalid_parameter", "message": refusal.message}, headers=refusal.headers)

    @route("POST", "/v3/contacts")
    def create(self, request):
        body = self.json_object(request)
        problems = find_problems(CONTACT, body)
        if problems:
            raise Refusal(400, describe(problems[0]))
        if "email" not in body or not is_email(body["email"]):
            raise Refusal(400, "Invalid email address")
        for number in body.get("listIds", ()):
            if number not in request.config["lists"]:
                raise Refusal(400, "List ID does not exist", code="invalid_parameter")
        self.reject_as_scripted(request, body["email"], body.get("ext_id"))
        account = request.account
        contact = account.contacts.find("email", body["email"])
        other = body.get("ext_id") and account.contacts.find("ext_id", body["ext_id"])
        if other and other is not contact:
            raise Refusal(400, "ext_id is already associated with another Contact", code="duplicate_parameter")
        if contact and not body.get("updateEnabled"):
            raise Refusal(400, "Contact already exist", code="duplicate_parameter")
        known = contact is not None
        changes = {name: body[name] for name in ("ext_id", "emailBlacklisted") if name in body}
        changes["attributes"] = {**(contact["attributes"] if known else {}),
                                 **{name: value for name, value in body.get("attributes", {}).items() if name in request.config["attributes"]}}
        changes["listIds"] = sorted({*(contact["listIds"] if known else ()), *body.get("listIds", ())})
        if known:
            self.touch(account, contact, **changes)
        else:
            contact = self.insert(account, {**self.blank_contact(account), "email": body["email"], **changes})
        blocked = body.get("emailBlacklisted")
        kind = ("withdrawn" if blocked else "claimed" if blocked is False or body.get("listIds") else "changed" if known else "created")
        self.felt(account, contact["email"], kind, request, **({} if known else {"new": contact["id"]}))
        return Answer(204) if known else Answer(201, {"id": contact["id"]})

    def one(self, request):
        contact = request.account.contacts.find("email", request.parameters["identifier"])
        if contact is None:
            raise Refusal(404, "Contact does not exist", code="document_not_found")
        return contact

    @route("GET", "/v3/contacts/{identifier}")
    def get(self, request):
        return Answer(200, {**self.one(request), "statistics": {}})

    @route("DELETE", "/v3/contacts/{identifier}")
    def delete(self, request):
        self.drop_contact(request.account, self.one(request), request)
        return Answer(204)

    @route("GET", "/v3/contacts")
    def list(self, request):
        options = query_parameters(request, ("limit", "offset", "modifiedSince", "createdSince", "sort"))
        limit = whole_number(options.get("limit", "50"), "limit", 0, 1000)
        offset = whole_number(options.get("offset", "0"), "offset", 0, 10**9)
        since = options.get("modifiedSince")
        if since is not None and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", since):
            raise Refusal(400, "modifiedSince is not a date and time", code="invalid_parameter")
        start = parse_iso(re.sub(r"\.\d+", "", since)) if since else 0
        found = [contact for contact in request.account.contacts if parse_iso(contact["modifiedAt"]) >= start]
        return Answer(200, {"contacts": found[offset:offset + limit], "count": len(found)})

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": next(self.serial), "email": None, "ext_id": None, "emailBlacklisted": False, "smsBlacklisted": False, "attributes": {},
                "listIds": [], "createdAt": now, "modifiedAt": now}

    # People

    def reach(self, account, address):
        return {f"list {number}" for contact in self.contacts_of(account, address) if not contact["emailBlacklisted"]
                for number in contact["listIds"]}

    def opt_in(self, account, address):
        for contact in self.signed_up(account, address):
            self.touch(account, contact, emailBlacklisted=False, listIds=[2])
