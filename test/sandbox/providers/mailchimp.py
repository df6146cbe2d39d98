"""Mailchimp, from the pages "Add or update list member", "Get member info" and "Archive list member" of its Marketing API 3.0.

    PUT /lists/{list_id}/members/{subscriber_hash}    the MD5 of the address in lower case; status_if_new is required if the
                                                      member is new; status changes an existing one as well
    errors: {"type", "title", "status", "detail", "instance", "errors": [{"field", "message"}]}
    at most 10 calls at a time: 429

A member who unsubscribed by himself can be subscribed again by the API only to "pending", as the page on compliance says:
"Member In Compliance State". An archived member keeps that.
"""

import base64
import hashlib

from exchange import Answer, Refusal
from providers.base import Provider, route
from schema import Field, describe, find_problems, is_email

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
MEMBER = {
    "email_address": Field("string", required=True), "status": Field("string", choices=STATUSES),
    "status_if_new": Field("string", choices=STATUSES), "merge_fields": Field("object"),
    "language": Field("string"),
}


class Mailchimp(Provider):
    name = "mailchimp"
    default_account = "mailchimp_sandbox"
    unique_fields = ("id", "email_address")
    updated_field = "last_changed"
    address_field = "email_address"
    acts = ("opt_out", "opt_in", "complain", "confirm")

    def defaults(self):
        return {
            "keys": {"key_sandbox-us1": {}},
            "lists": {"list1": {}},
            "merge_fields": ["FNAME", "LNAME", "PHONE", "PLAN"],
            "required": [],
            "limits": {"calls": None},
        }

    def identify(self, request):
        """HTTP Basic with any user name, or Bearer."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            token = base64.b64decode(token).decode().partition(":")[2]
        request.account, request.grant = self.accounts.by_key(token)

    def admit(self, request, found):
        if request.account is None or request.grant.get("revoked"):
            raise Refusal(401, "Your API key may be invalid, or you've attempted to access the wrong datacenter.", code="API Key Invalid")
        verdict = self.throttle(request, [(("calls",), request.config["limits"]["calls"])])
        if verdict is not None and not verdict.allowed:
            raise Refusal(429, "You have exceeded the limit of simultaneous connections.", code="Too Many Requests")

    def refuse(self, request, refusal):
        return Answer(refusal.status, {"type": "https://mailchimp.com/developer/marketing/docs/errors/", "title": refusal.code or "Invalid Resource",
                                       "status": refusal.status, "detail": refusal.message, "instance": "sandbox",
                                       **({"errors": refusal.details["errors"]} if "errors" in refusal.details else {})},
                      headers=refusal.headers, media_type="application/problem+json")

    def missing(self):
        return Refusal(404, "The requested resource could not be found.", code="Resource Not Found")

    def find(self, request):
        if request.parameters["list"] not in request.config["lists"]:
            raise self.missing()
        return next((member for member in request.account.contacts if member["id"] == request.parameters["hash"]), None)

    @route("PUT", "/3.0/lists/{list}/members/{hash}")
    def put(self, request):
        member = self.find(request)
        body = self.json_object(request)
        problems = find_problems(MEMBER, body)
        if problems:
            raise Refusal(400, "The resource submitted could not be validated.", errors=[{"field": problems[0].path, "message": describe(problems[0])}])
        email = body["email_address"]
        self.reject_as_scripted(request, email)
        if not is_email(email):
            raise Refusal(400, f"{email} looks fake or invalid, please enter a real email address.")
        if hashlib.md5(email.lower().encode()).hexdigest() != request.parameters["hash"]:
            raise Refusal(400, "The subscriber hash is not that of the address.")
        for name in body.get("merge_fields", {}):
            if name not in request.config["merge_fields"]:
                raise Refusal(400, f"Merge field {name} does not exist.")
        if member is None and "status_if_new" not in body:
            raise Refusal(400, "The resource submitted could not be validated.", errors=[{"field": "status_if_new", "message": "This value should not be blank."}])
        status = body.get("status") or (member["status"] if member else body["status_if_new"])
        if status == "subscribed" and (member and member["left"] or email.lower() in request.account.recall("left", set)):
            raise Refusal(400, f"{email} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed.",
                          code="Member In Compliance State")
        return Answer(200, self.present(self.store(request, member, body, status)))

    def store(self, request, member, body, status):
        account, known = request.account, member is not None
        changes = {"status": status, "left": bool(member and member["left"]) and status != "subscribed",
                   "merge_fields": {**(member["merge_fields"] if member else {}), **body.get("merge_fields", {})}}
        if "language" in body:
            changes["language"] = body["language"]
        if known:
            self.touch(account, member, **changes)
        else:
            member = self.insert(account, {**self.blank_contact(account), "email_address": body["email_address"], **changes})
        said = body.get("status") if known else status
        kind = {None: "changed", "subscribed": "claimed", "pending": "asked"}.get(said, "withdrawn")
        self.felt(account, member["email_address"], kind, request, **({} if known else {"new": member["id"]}))
        return member

    @route("GET", "/3.0/lists/{list}/members/{hash}")
    def get(self, request):
        member = self.find(request)
        if member is None:
            raise self.missing()
        return Answer(200, self.present(member))

    @route("DELETE", "/3.0/lists/{list}/members/{hash}")
    def archive(self, request):
        member = self.find(request)
        if member is None:
            raise self.missing()
        if member["left"]:
            request.account.recall("left", set).add(member["email_address"].lower())
        self.drop_contact(request.account, member, request)
        return Answer(204)

    def present(self, member):
        return {**{name: value for name, value in member.items() if name != "left"}, "unique_email_id": "u", "list_id": "list1"}

    def insert(self, account, contact):
        """A member is found by the MD5 of the address, also one who came by a form."""
        return super().insert(account, {**contact, "id": hashlib.md5(contact["email_address"].lower().encode()).hexdigest()})

    def blank_contact(self, account):
        return {"id": None, "email_address": None, "status": "subscribed", "merge_fields": {}, "language": "",
                "left": False, "last_changed": self.clock.iso()}

    # People

    def reach(self, account, address):
        return {"campaigns" for member in self.contacts_of(account, address) if member["status"] == "subscribed"}

    def says_no(self, fields):
        return fields.get("status") in ("unsubscribed", "cleaned")

    def opt_out(self, account, address):
        for member in self.contacts_of(account, address):
            self.touch(account, member, status="unsubscribed", left=True)

    complain = opt_out

    def opt_in(self, account, address):
        for member in self.signed_up(account, address):
            account.recall("left", set).discard(address.lower())
            self.touch(account, member, status="subscribed", left=False)

    def confirm(self, account, address):
        for member in self.contacts_of(account, address):
            if member["status"] == "pending":
                self.touch(account, member, status="subscribed")
