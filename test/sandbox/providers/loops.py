"""Loops, from the pages "Update contact", "Find a contact", "Delete a contact" and "Rate limits" of its API reference.

    PUT /v1/contacts/update      creates a contact that does not exist; found by email or userId: {"success": true, "id"}
    GET /v1/contacts/find        ?email= or ?userId=: an array with the contact, or an empty one
    POST /v1/contacts/delete     {"email"} or {"userId"}: {"success": true, "message"}; 404 if there is none
    10 calls a second: 429, with x-ratelimit-limit and x-ratelimit-remaining

A new contact is subscribed unless the request says otherwise. Custom properties have to exist.
"""

from exchange import Answer, Refusal
from providers.base import Provider, query_parameters, route
from providers.flag import ConsentFlag
from schema import Field, describe, find_problems, is_email

KNOWN = {
    "email": Field("string"), "userId": Field("string"), "firstName": Field("string", nullable=True),
    "lastName": Field("string", nullable=True), "source": Field("string"), "userGroup": Field("string", nullable=True),
    "subscribed": Field("boolean"), "mailingLists": Field("object"),
}


class Loops(ConsentFlag, Provider):
    name = "loops"
    default_account = "loops_sandbox"
    unique_fields = ("id", "email", "userId")
    flag = "subscribed"
    updated_field = "updated_at"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {
            "keys": {"loops_sandbox": {}},
            "properties": ["plan", "age"],
            "limits": {"team": {"kind": "sliding", "limit": 10, "seconds": 1}},
        }

    def admit(self, request, found):
        if request.account is None or request.grant.get("revoked"):
            raise Refusal(401, "Invalid API key")
        verdict = self.throttle(request, [(("team",), request.config["limits"]["team"])])
        if verdict is not None:
            request.reply_headers.update({"x-ratelimit-limit": str(verdict.limit), "x-ratelimit-remaining": str(verdict.remaining)})
            if not verdict.allowed:
                raise Refusal(429, "Too many requests")

    def refuse(self, request, refusal):
        return Answer(refusal.status, {"success": False, "message": refusal.message}, headers=refusal.headers)

    @route("PUT", "/v1/contacts/update")
    def update(self, request):
        body = self.json_object(request)
        problems = [problem for problem in find_problems(KNOWN, body)
                    if problem.rule != "unknown" or problem.path not in request.config["properties"]]
        if problems:
            raise Refusal(400, describe(problems[0]))
        if "email" not in body and "userId" not in body:
            raise Refusal(400, "An email or userId is required")
        if "email" in body and not is_email(body["email"]):
            raise Refusal(400, "Invalid email address")
        self.reject_as_scripted(request, body.get("email"), body.get("userId"))
        account = request.account
        found = {contact["id"]: contact for field in ("email", "userId") if body.get(field)
                 for contact in [account.contacts.find(field, body[field])] if contact}
        if len(found) > 1:
            raise Refusal(409, "A contact with this email or userId already exists")
        contact = next(iter(found.values()), None)
        known = contact is not None
        if known:
            self.touch(account, contact, **body)
        else:
            contact = self.insert(account, {**self.blank_contact(account), **body})
        kind = {True: "claimed", False: "withdrawn"}.get(body.get("subscribed"), "changed" if known else "created")
        self.felt(account, contact["email"], kind, request, **({} if known else {"new": contact["id"]}))
        return Answer(200, {"success": True, "id": contact["id"]})

    @route("GET", "/v1/contacts/find")
    def find(self, request):
        options = query_parameters(request, ("email", "userId"))
        if len(options) != 1:
            raise Refusal(400, "Either email or userId is required")
        (field, value), = options.items()
        contact = request.account.contacts.find(field, value)
        return Answer(200, [{**contact, "optInStatus": None}] if contact else [])

    @route("POST", "/v1/contacts/delete")
    def delete(self, request):
        body = self.json_object(request)
        contact = self.find_contact(request.account, {name: body[name] for name in ("email", "userId") if name in body})
        if contact is None:
            raise Refusal(404, "Contact not found.")
        self.drop_contact(request.account, contact, request)
        return Answer(200, {"success": True, "message": "Contact deleted."})

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"cll{next(self.serial)}", "email": None, "userId": None, "firstName": None, "lastName": None,
                "source": "API", "subscribed": True, "userGroup": "", "mailingLists": {}, "updated_at": now}
