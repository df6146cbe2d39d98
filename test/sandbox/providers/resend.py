"""Resend, from its pages "Create Contact", "Update Contact", "Retrieve Contact", "Delete Contact", "List Contacts" and "Errors".

    POST /audiences/{audience}/contacts                {"email", "first_name", "last_name", "unsubscribed"}: 201 {"object", "id"}
    PATCH, GET, DELETE /audiences/{audience}/contacts/{id or address}
    GET /audiences/{audience}/contacts                 {"object": "list", "data": [...]}
    2 calls a second: 429, with ratelimit-reset and retry-after
    errors: {"statusCode", "name", "message"}

A contact that is not unsubscribed gets the broadcasts of its audience.
"""

import math

from exchange import Answer, Refusal
from providers.base import Provider, route
from providers.flag import ConsentFlag
from schema import Field, describe, find_problems, is_email

CREATE = {"email": Field("string", required=True), "first_name": Field("string", nullable=True), "last_name": Field("string", nullable=True), "unsubscribed": Field("boolean")}
CHANGE = {name: Field(field.kind, nullable=field.nullable) for name, field in CREATE.items() if name != "email"}


class Resend(ConsentFlag, Provider):
    name = "resend"
    default_account = "resend_sandbox"
    unique_fields = ("id", "email")
    flag, wanted, mailing = "unsubscribed", False, "broadcasts"
    updated_field = "updated_at"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {"keys": {"re_sandbox": {}}, "audiences": ["78261eea"], "limits": {"team": {"kind": "fixed", "limit": 2, "seconds": 1}}}

    def admit(self, request, found):
        if request.account is None:
            raise Refusal(403, "API key is invalid", code="invalid_api_key")
        verdict = self.throttle(request, [(("team",), request.config["limits"]["team"])])
        if verdict is not None:
            request.reply_headers.update({"ratelimit-limit": str(verdict.limit), "ratelimit-remaining": str(verdict.remaining), "ratelimit-reset": str(math.ceil(verdict.retry_after))})
            if not verdict.allowed:
                raise Refusal(429, "Too many requests. You can only make 2 requests per second.", code="rate_limit_exceeded", headers={"retry-after": str(math.ceil(verdict.retry_after))})

    def refuse(self, request, refusal):
        return Answer(refusal.status, {"statusCode": refusal.status, "name": refusal.code or "validation_error", "message": refusal.message}, headers=refusal.headers)

    def check_audience(self, request):
        if request.parameters["audience"] not in request.config["audiences"]:
            raise Refusal(404, "Audience not found", code="not_found")

    def one(self, request):
        self.check_audience(request)
        name = request.parameters["contact"]
        contact = request.account.contacts.find("email" if "@" in name else "id", name)
        if contact is None:
            raise Refusal(404, "Contact not found", code="not_found")
        return contact

    def fields(self, request, schema):
        body = self.json_object(request)
        if problems := find_problems(schema, body):
            raise Refusal(422, describe(problems[0]))
        return body

    @route("POST", "/audiences/{audience}/contacts")
    def create(self, request):
        self.check_audience(request)
        body = self.fields(request, CREATE)
        if not is_email(body["email"]):
            raise Refusal(422, "Invalid `email` field.")
        self.reject_as_scripted(request, body["email"], status=422)
        contact = request.account.contacts.find("email", body["email"])
        if contact is None:
            contact = self.insert(request.account, {**self.blank_contact(request.account), **body})
            self.felt(request.account, contact["email"], "created" if contact["unsubscribed"] else "claimed", request, new=contact["id"])
        return Answer(201, {"object": "contact", "id": contact["id"]})

    @route("PATCH", "/audiences/{audience}/contacts/{contact}")
    def change(self, request):
        contact = self.one(request)
        body = self.fields(request, CHANGE)
        self.reject_as_scripted(request, contact["email"], status=422)
        self.touch(request.account, contact, **body)
        self.felt(request.account, contact["email"], {True: "withdrawn", False: "claimed"}.get(body.get("unsubscribed"), "changed"), request)
        return Answer(200, {"object": "contact", "id": contact["id"]})

    @staticmethod
    def present(contact):
        return {name: contact[name] for name in ("id", "email", "first_name", "last_name", "created_at", "unsubscribed")}

    @route("GET", "/audiences/{audience}/contacts/{contact}")
    def get(self, request):
        return Answer(200, {"object": "contact", **self.present(self.one(request))})

    @route("DELETE", "/audiences/{audience}/contacts/{contact}")
    def delete(self, request):
        contact = self.one(request)
        self.drop_contact(request.account, contact, request)
        return Answer(200, {"object": "contact", "contact": contact["id"], "deleted": True})

    @route("GET", "/audiences/{audience}/contacts")
    def list(self, request):
        self.check_audience(request)
        return Answer(200, {"object": "list", "data": [self.present(contact) for contact in request.account.contacts]})

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"479e3145-{next(self.serial)}", "email": None, "first_name": None, "last_name": None, "unsubscribed": False, "created_at": now, "updated_at": now}
