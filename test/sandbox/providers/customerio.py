"""Customer.io, from the page "Journeys Track API", version 2.

    POST /api/v2/batch    {"batch": [{"type": "person", "identifiers": {"id"} or {"email"}, "action": "identify" or "delete", "attributes"}]}
                          at most 500 kB, 32 kB for each: 200 {}, or 207 {"errors": [{"batch_index", "reason", "field", "message"}]}
    at most 300 attributes of a person, names of 150 bytes, and values of 1000
    authorized by HTTP Basic, with site ID and API key

A person who is not unsubscribed gets campaigns; so does a new one. An address of another person is accepted, but not set: it becomes a
failure of the attribute, which no answer shows.
"""

import base64
import json

from exchange import Answer, Refusal
from providers.base import Provider, route
from providers.flag import ConsentFlag
from schema import Field, describe, find_problems, is_email

ENTRY = {"type": Field("string", required=True, choices=("person",)), "identifiers": Field("object", required=True),
         "action": Field("string", required=True, choices=("identify", "delete")), "attributes": Field("object")}


class CustomerIo(ConsentFlag, Provider):
    name = "customerio"
    default_account = "customerio_sandbox"
    unique_fields = ("cio_id", "id", "email")
    flag, wanted = "unsubscribed", False
    updated_field = "updated_at"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {"keys": {"site:track": {}}, "limits": {"workspace": {"kind": "fixed", "limit": 100, "seconds": 1}}}

    def identify(self, request):
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        request.account, request.grant = self.accounts.by_key(base64.b64decode(text).decode() if scheme == "Basic" else None)

    def admit(self, request, found):
        if request.account is None:
            raise Refusal(401, "Unauthorized")
        verdict = self.throttle(request, [(("workspace",), request.config["limits"]["workspace"])])
        if verdict is not None and not verdict.allowed:
            raise Refusal(429, "Too many requests")

    def refuse(self, request, refusal):
        if refusal.status == 401:
            return Answer(401, {"meta": {"error": refusal.message}})
        return Answer(refusal.status, {"errors": [self.error(refusal)]}, headers=refusal.headers)

    @staticmethod
    def error(refusal):
        return {"reason": refusal.code or "invalid", "field": refusal.details.get("field", ""), "message": refusal.message}

    @route("POST", "/api/v2/batch")
    def batch(self, request):
        if len(request.body) > 500_000:
            raise Refusal(413, "The batch is too large", code="too_large")
        entries = self.json_object(request).get("batch")
        if not isinstance(entries, list) or not entries:
            raise Refusal(400, "batch is required", code="required", field="batch")
        errors = []
        for index, entry in enumerate(entries):
            try:
                self.run(request, entry)
            except Refusal as refusal:
                errors.append({**self.error(refusal), "batch_index": index})
        return Answer(207, {"errors": errors}) if errors else Answer(200, {})

    def run(self, request, entry):
        if problems := find_problems(ENTRY, entry):
            raise Refusal(400, describe(problems[0]), field=problems[0].path)
        if len(json.dumps(entry)) > 32_000:
            raise Refusal(400, "The entry is too large", code="too_large")
        identifiers, attributes = entry["identifiers"], entry.get("attributes", {})
        if len(identifiers) != 1 or not set(identifiers) <= {"id", "email", "cio_id"}:
            raise Refusal(400, "exactly one identifier is required", field="identifiers")
        if {"id", "cio_id"} & set(attributes):
            raise Refusal(400, "an identifier is no attribute", field="attributes")
        self.reject_as_scripted(request, identifiers.get("id"), attributes.get("email"), identifiers.get("email"))
        account = request.account
        person = self.find_contact(account, identifiers)
        if entry["action"] == "delete":
            if person:
                self.drop_contact(account, person, request)
            return
        email = attributes.get("email", identifiers.get("email"))
        if email is not None and not is_email(email):
            raise Refusal(400, "email address is not valid", field="email")
        self.check_sizes(attributes)
        other = account.contacts.find("email", email) if email else None
        if other is not None and other is not person:
            if person is None and other["id"] is None:
                person = other
            else:
                email = person and person["email"]
        known = person is not None
        changes = {"email": email, "attributes": {**(person["attributes"] if known else {}), **{name: value for name, value in attributes.items() if name not in ("email", "unsubscribed")}}}
        changes |= {name: value for name, value in identifiers.items() if name == "id"}
        if "unsubscribed" in attributes:
            changes["unsubscribed"] = attributes["unsubscribed"]
        if known:
            self.touch(account, person, **changes)
        else:
            person = self.insert(account, {**self.blank_contact(account), **changes})
        kind = {True: "withdrawn", False: "claimed"}.get(attributes.get("unsubscribed"), "changed" if known else "created")
        self.felt(account, person["email"], kind, request, **({} if known else {"new": person["cio_id"]}))

    @staticmethod
    def check_sizes(attributes):
        if len(attributes) > 300:
            raise Refusal(400, "cannot identify more than 300 attributes in one request", field="attributes")
        for name, value in attributes.items():
            if len(name.encode()) > 150:
                raise Refusal(400, "attribute name cannot be longer than 150 bytes", field="attributes")
            if len((value if isinstance(value, str) else json.dumps(value)).encode()) > 1000:
                raise Refusal(400, f"value for attribute '{name}' cannot be longer than 1000 bytes", field=name)

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"cio_id": f"cio{next(self.serial)}", "id": None, "email": None, "unsubscribed": False, "attributes": {}, "created_at": now, "updated_at": now}
