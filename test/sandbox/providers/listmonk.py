"""listmonk, from its pages "API" and "API / Subscribers".

    GET /api/subscribers            ?query (SQL), page, per_page: {"data": {"results", "total", "page", "per_page"}}
    POST /api/subscribers           email, name, status, lists, attribs, preconfirm_subscriptions; 409 if the address exists
    PATCH /api/subscribers/{id}     changes what is given; attribs are merged, lists are kept if they are not given
    PUT /api/subscribers/lists      ids, action (add, remove, unsubscribe), target_list_ids, status
    DELETE /api/subscribers/{id}
    errors: {"message"}; users are authorized by HTTP Basic

Of SQL it knows the two expressions that are needed, with texts as PostgreSQL reads them. The pages leave open how a user is
refused who is not known: with 403, here.
"""

import base64
import re

from clock import parse_iso
from exchange import Answer, Refusal
from providers.base import Provider, query_parameters, route, whole_number
from schema import Field, describe, find_problems, is_email

CREATE = {"email": Field("string", required=True), "name": Field("string", required=True, shortest=1), "status": Field("string", required=True, choices=("enabled", "blocklisted")),
          "lists": Field("array"), "attribs": Field("object"), "preconfirm_subscriptions": Field("boolean")}
CHANGE = {name: Field(field.kind, choices=("enabled", "disabled", "blocklisted") if name == "status" else None) for name, field in CREATE.items()}
LISTS = {"ids": Field("array", required=True), "action": Field("string", required=True, choices=("add", "remove", "unsubscribe")), "target_list_ids": Field("array", required=True),
         "status": Field("string", choices=("confirmed", "unconfirmed", "unsubscribed"))}
BY_EMAIL = re.compile(r"subscribers\.email = '((?:[^']|'')*)'")
NEWER = re.compile(r"subscribers\.updated_at >= '([^']*)'")


class Listmonk(Provider):
    name = "listmonk"
    default_account = "listmonk_sandbox"
    unique_fields = ("id", "email")
    updated_field = "updated_at"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {"keys": {"api:token": {}}, "lists": {"1": {"double": False}}, "limits": {"calls": None}}

    def identify(self, request):
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        request.account, request.grant = self.accounts.by_key(base64.b64decode(text).decode() if scheme == "Basic" else None)

    def admit(self, request, found):
        if request.account is None:
            raise Refusal(403, "invalid API credentials")

    def refuse(self, request, refusal):
        return Answer(refusal.status, {"message": refusal.message}, headers=refusal.headers)

    def check_lists(self, request, numbers):
        for number in numbers:
            if not isinstance(number, int) or str(number) not in request.config["lists"]:
                raise Refusal(400, f"list {number} not found")

    @route("GET", "/api/subscribers")
    def list(self, request):
        options = query_parameters(request, ("query", "list_id", "subscription_status", "order_by", "order", "page", "per_page"))
        size = whole_number(options.get("per_page", "20"), "per_page", 1, 1000)
        page = whole_number(options.get("page", "1"), "page", 1, 10**6)
        found = self.query_sql(request.account, options.get("query"))
        return Answer(200, {"data": {"results": [self.present(item) for item in found[(page - 1) * size:page * size]], "query": options.get("query", ""), "total": len(found), "per_page": size, "page": page}})

    @staticmethod
    def query_sql(account, text):
        if text is None:
            return list(account.contacts)
        if match := BY_EMAIL.fullmatch(text):
            item = account.contacts.find("email", match.group(1).replace("''", "'"))
            return [item] if item else []
        if match := NEWER.fullmatch(text):
            start = parse_iso(re.sub(r"\.\d+", "", match.group(1)))
            return [item for item in account.contacts if parse_iso(re.sub(r"\.\d+", "", item["updated_at"])) >= start]
        raise Refusal(400, "Error running query: syntax error")

    def one(self, request):
        number = request.parameters["id"]
        item = request.account.contacts.find("id", int(number)) if number.isdigit() else None
        if item is None:
            raise Refusal(400, "Subscriber not found.")
        return item

    @route("POST", "/api/subscribers")
    def create(self, request):
        body = self.json_object(request)
        if problems := find_problems(CREATE, body):
            raise Refusal(400, describe(problems[0]))
        if not is_email(body["email"]):
            raise Refusal(400, "Invalid email.")
        self.reject_as_scripted(request, body["email"])
        self.check_lists(request, body.get("lists", ()))
        account = request.account
        if account.contacts.find("email", body["email"]):
            raise Refusal(409, "E-mail already exists.")
        status = "confirmed" if body.get("preconfirm_subscriptions") else "unconfirmed"
        item = self.insert(account, {**self.blank_contact(account), **{name: body[name] for name in ("email", "name", "status", "attribs") if name in body},
                                     "lists": {str(number): status for number in body.get("lists", ())}})
        self.felt(account, item["email"], "claimed" if body.get("lists") else "created", request, new=item["id"])
        return Answer(200, {"data": {**self.present(item), "lists": body.get("lists", [])}})

    @route("PATCH", "/api/subscribers/{id}")
    def change(self, request):
        item = self.one(request)
        body = self.json_object(request)
        if problems := find_problems(CHANGE, body):
            raise Refusal(400, describe(problems[0]))
        self.reject_as_scripted(request, item["email"])
        if "lists" in body:
            self.check_lists(request, body["lists"])
        changes = {name: body[name] for name in ("email", "name", "status") if name in body}
        changes["attribs"] = {**item["attribs"], **body.get("attribs", {})}
        if "lists" in body:
            changes["lists"] = {str(number): item["lists"].get(str(number), "unconfirmed") for number in body["lists"]}
        self.touch(request.account, item, **changes)
        self.felt(request.account, item["email"], "claimed" if body.get("lists") else "changed", request)
        return Answer(200, {"data": self.present(item)})

    @route("PUT", "/api/subscribers/lists")
    def change_lists(self, request):
        body = self.json_object(request)
        if problems := find_problems(LISTS, body):
            raise Refusal(400, describe(problems[0]))
        if body["action"] == "add" and "status" not in body:
            raise Refusal(400, "status is required")
        self.check_lists(request, body["target_list_ids"])
        for number in body["ids"]:
            item = request.account.contacts.find("id", number)
            if item is None:
                continue
            lists = dict(item["lists"])
            for target in map(str, body["target_list_ids"]):
                if body["action"] == "add":
                    lists[target] = body["status"]
                elif body["action"] == "remove":
                    lists.pop(target, None)
                elif target in lists:
                    lists[target] = "unsubscribed"
            self.touch(request.account, item, lists=lists)
            self.felt(request.account, item["email"], "claimed" if body["action"] == "add" else "withdrawn", request)
        return Answer(200, {"data": True})

    @route("DELETE", "/api/subscribers/{id}")
    def delete(self, request):
        self.drop_contact(request.account, self.one(request), request)
        return Answer(200, {"data": True})

    @staticmethod
    def present(item):
        return {**item, "uuid": f"u{item['id']}", "lists": [{"id": int(number), "subscription_status": status, "name": number, "type": "private"} for number, status in item["lists"].items()]}

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": next(self.serial), "email": None, "name": "", "status": "enabled", "attribs": {}, "lists": {}, "created_at": now, "updated_at": now}

    # People

    def reach(self, account, address):
        return {f"list {number}" for item in self.contacts_of(account, address) if item["status"] == "enabled"
                for number, status in item["lists"].items()
                if status == "confirmed" or status == "unconfirmed" and not account.config["lists"].get(number, {}).get("double")}

    def says_no(self, fields):
        return fields.get("status") == "blocklisted"

    def opt_out(self, account, address):
        for item in self.contacts_of(account, address):
            self.touch(account, item, lists={**dict.fromkeys(item["lists"], "unsubscribed"), "1": "unsubscribed"})

    def complain(self, account, address):
        for item in self.contacts_of(account, address):
            self.touch(account, item, status="blocklisted")

    def opt_in(self, account, address):
        for item in self.signed_up(account, address):
            self.touch(account, item, lists={"1": "confirmed"})
