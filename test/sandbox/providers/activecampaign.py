"""ActiveCampaign, from its pages "Sync a contact's data", "Update list status for a contact", "List all contacts", "Delete a contact" and
"Rate limits".

    POST /api/3/contact/sync        {"contact": {"email", "firstName", "lastName", "phone", "fieldValues": [{"field", "value"}]}}: 201 or 200
    POST /api/3/contactLists        {"contactList": {"list", "contact", "status"}}: 1 subscribes, again as well; 2 unsubscribes
    GET /api/3/contacts             ?email, ?limit, ?offset, ?include=contactLists, ?status: -1 any, 0 unconfirmed, 1 active, 2 unsubscribed, 3 bounced
    DELETE /api/3/contacts/{id}
    5 calls a second: 429 with Retry-After; errors: {"errors": [{"title", "detail", "code", "source": {"pointer"}}]}

A contact gets the campaigns of the lists in which its status is 1.
"""

from exchange import Answer, Refusal
from providers.base import Provider, query_parameters, route, whole_number
from schema import Field, describe, find_problems, is_email

CONTACT = {"email": Field("string", required=True), "firstName": Field("string", nullable=True), "lastName": Field("string", nullable=True), "phone": Field("string", nullable=True), "fieldValues": Field("array")}
MEMBERSHIP = {"list": Field("integer", required=True), "contact": Field("integer", required=True), "status": Field("integer", required=True, choices=(1, 2))}


class ActiveCampaign(Provider):
    name = "activecampaign"
    default_account = "activecampaign_sandbox"
    unique_fields = ("id", "email")
    updated_field = "udate"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {"keys": {"ac_sandbox": {}}, "lists": [2], "fields": ["7"], "limits": {"account": {"kind": "fixed", "limit": 5, "seconds": 1}},
                "default_status": "-1"}     # which contacts are listed without ?status: the pages leave it open

    def identify(self, request):
        request.account, request.grant = self.accounts.by_key(request.headers.get("Api-Token"))

    def admit(self, request, found):
        if request.account is None:
            raise Refusal(403, "You do not have permission to access this resource.")
        verdict = self.throttle(request, [(("account",), request.config["limits"]["account"])])
        if verdict is not None and not verdict.allowed:
            raise Refusal(429, "Too many requests", headers={"Retry-After": "1"})

    def refuse(self, request, refusal):
        if refusal.status in (403, 404):
            return Answer(refusal.status, {"message": refusal.message}, headers=refusal.headers)
        return Answer(refusal.status, {"errors": [{"title": refusal.message, "detail": "", "code": refusal.code or "invalid", "source": {"pointer": refusal.details.get("pointer", "/data")}}]}, headers=refusal.headers)

    def inner(self, request, name, schema):
        body = self.json_object(request)
        if set(body) != {name} or not isinstance(body[name], dict):
            raise Refusal(400, f"The request must have {name}")
        if problems := find_problems(schema, body[name]):
            raise Refusal(422, describe(problems[0]), code=f"{problems[0].name}_{problems[0].rule}")
        return body[name]

    @route("POST", "/api/3/contact/sync")
    def sync(self, request):
        item = self.inner(request, "contact", CONTACT)
        if not is_email(item["email"]):
            raise Refusal(422, "Contact Email Address is not valid.", code="email_invalid", pointer="/data/attributes/email")
        self.reject_as_scripted(request, item["email"], status=422)
        values = item.pop("fieldValues", [])
        for value in values:
            if set(value) != {"field", "value"} or str(value["field"]) not in request.config["fields"]:
                raise Refusal(422, "The custom field does not exist.", code="field_missing")
        account = request.account
        contact = account.contacts.find("email", item["email"])
        known = contact is not None
        fields = {**(contact["fields"] if known else {}), **{str(value["field"]): value["value"] for value in values}}
        if known:
            self.touch(account, contact, **item, fields=fields)
        else:
            contact = self.insert(account, {**self.blank_contact(account), **item, "fields": fields})
        self.felt(account, contact["email"], "changed" if known else "created", request, **({} if known else {"new": contact["id"]}))
        return Answer(200 if known else 201, {"fieldValues": values, "contact": self.present(contact)})

    @staticmethod
    def present(contact):
        return {name: contact[name] for name in ("id", "email", "firstName", "lastName", "phone", "cdate", "udate")}

    @route("POST", "/api/3/contactLists")
    def change_list(self, request):
        item = self.inner(request, "contactList", MEMBERSHIP)
        account = request.account
        contact = account.contacts.find("id", str(item["contact"]))
        if contact is None:
            raise Refusal(404, f"No Result found for Subscriber with id {item['contact']}")
        if item["list"] not in request.config["lists"]:
            raise Refusal(422, "The related list does not exist.", code="related_missing")
        self.touch(account, contact, lists={**contact["lists"], str(item["list"]): item["status"]})
        self.felt(account, contact["email"], "claimed" if item["status"] == 1 else "withdrawn", request)
        return Answer(200, {"contacts": [self.present(contact)], "contactList": {"contact": contact["id"], "list": str(item["list"]), "status": item["status"]}})

    @route("GET", "/api/3/contacts")
    def list(self, request):
        options = query_parameters(request, ("email", "limit", "offset", "include", "status", "listid"))
        limit = whole_number(options.get("limit", "20"), "limit", 1, 100)
        offset = whole_number(options.get("offset", "0"), "offset", 0, 10**9)
        status = whole_number(options.get("status", request.config["default_status"]).replace("-1", "4"), "status", 0, 4)
        found = [contact for contact in request.account.contacts
                 if options.get("email") in (None, contact["email"]) and (status == 4 or status in contact["lists"].values())]
        page = found[offset:offset + limit]
        extra = {"contactLists": [{"contact": contact["id"], "list": number, "status": str(status)} for contact in page for number, status in contact["lists"].items()]} if options.get("include") == "contactLists" else {}
        return Answer(200, {**extra, "contacts": [self.present(contact) for contact in page], "meta": {"total": str(len(found))}})

    @route("DELETE", "/api/3/contacts/{id}")
    def delete(self, request):
        contact = request.account.contacts.find("id", request.parameters["id"])
        if contact is None:
            raise Refusal(404, f"No Result found for Subscriber with id {request.parameters['id']}")
        self.drop_contact(request.account, contact, request)
        return Answer(200, {})

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": str(next(self.serial)), "email": None, "firstName": "", "lastName": "", "phone": "", "fields": {}, "lists": {}, "cdate": now, "udate": now}

    # People

    def reach(self, account, address):
        return {f"list {number}" for contact in self.contacts_of(account, address) for number, status in contact["lists"].items() if status == 1}

    def says_no(self, fields):
        return 2 in fields.get("lists", {}).values()

    def opt_out(self, account, address):
        for contact in self.contacts_of(account, address):
            self.touch(account, contact, lists={**dict.fromkeys(contact["lists"], 2), "2": 2})

    complain = opt_out

    def opt_in(self, account, address):
        for contact in self.signed_up(account, address):
            self.touch(account, contact, lists={"2": 1})
