"""The receiver of the webhook that contactsync ships: a service of one's own, as the notes of its definition describe it.

The account is the path below /webhook. A request must have a signature in the manner of Standard Webhooks.
"""

import base64
import hashlib
import hmac

from exchange import Answer, Refusal
from providers.base import Provider, route
from providers.flag import ConsentFlag
from schema import Field, describe, find_problems

CONTACT = {
    "email": Field("string"), "external_id": Field("string"), "first_name": Field("string", nullable=True),
    "last_name": Field("string", nullable=True), "phone": Field("string", nullable=True),
    "locale": Field("string", nullable=True), "timezone": Field("string", nullable=True), "opt_in": Field("boolean"), "opt_in_if_new": Field("boolean"),
    "tags": Field("array", nullable=True), "topics": Field("array", nullable=True), "attributes": Field("object"),
}
ACTIONS = ("upsert", "unsubscribe", "delete")


class Webhook(ConsentFlag, Provider):
    name = "webhook"
    default_account = "hook"
    unique_fields = ("id", "external_id")
    flag, mailing = "opt_in", "mail"
    shared_fields = ("email",)
    updated_field = "updated_at"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {
            "keys": {},
            "secret": "sandbox secret",
            "query_key": None,          # a key that is required as the parameter "key", and as nothing else
            "signed": True,             # false: requests need no signature
            "polls": 2,                 # how often a job of /{account}/jobs is asked for until it is done
            "tolerance": 300,           # seconds by which a timestamp may differ; null: any
            "batch": 100,
            "blocked": [],              # addresses that are refused
            "limits": {"calls": None},
        }

    def identify(self, request):
        request.account = self.accounts.get(request.path.strip("/").split("/")[0] or None)
        request.grant = {}

    def admit(self, request, found):
        config = self.settings(request)
        if config["query_key"] is not None and dict(request.query()).get("key") != config["query_key"]:
            raise Refusal(401, "the key is wrong")
        if not config["signed"]:
            return
        identifier, timestamp = (request.headers.get(name, "") for name in ("webhook-id", "webhook-timestamp"))
        if not identifier or not timestamp.isdigit():
            raise Refusal(400, "webhook-id and webhook-timestamp are required")
        signed = f"{identifier}.{timestamp}.".encode() + request.body
        expected = base64.b64encode(hmac.new(config["secret"].encode(), signed, hashlib.sha256).digest()).decode()
        if request.headers.get("webhook-signature") != f"v1,{expected}":
            raise Refusal(401, "the signature is wrong")
        if config["tolerance"] is not None and abs(self.clock.now() - int(timestamp)) > config["tolerance"]:
            raise Refusal(401, "the timestamp is too old")
        verdict = self.throttle(request, [(("calls",), config["limits"]["calls"])])
        if verdict is not None and not verdict.allowed:
            raise Refusal(429, "too many calls", headers={"Retry-After": "1"})

    def refuse(self, request, refusal):
        return Answer(refusal.status, {"message": refusal.message}, headers=refusal.headers)

    @route("POST", "/{account}")
    def receive(self, request):
        """The whole batch, of which some can fail. The same ID has the same answer, and no effect."""
        body = self.json_object(request)
        if set(body) != {"action", "contacts"} or body["action"] not in ACTIONS:
            raise Refusal(400, "the body must have action and contacts")
        if not 1 <= len(body["contacts"]) <= request.config["batch"]:
            raise Refusal(413, "too many contacts")
        done = request.account.recall("done")
        identifier = request.headers.get("webhook-id", request.entry["seq"])
        if identifier in done and done[identifier][0] != request.body:
            raise Refusal(400, "webhook-id stands for another body")
        if identifier not in done:
            done[identifier] = request.body, self.perform_all(request, body)
        failed = done[identifier][1]
        return Answer(200, {"failed": failed}) if failed else Answer(204)

    @route("POST", "/{account}/jobs")
    def begin_job(self, request):
        """The same, later: 202 with the job."""
        body = self.json_object(request)
        job = f"job/{next(self.serial)}"
        request.account.recall("jobs")[job] = [request.config["polls"], body]
        return Answer(202, {"job": job})

    @route("GET", "/{account}/jobs/{job}")
    def job(self, request):
        jobs = request.account.recall("jobs")
        if request.parameters["job"] not in jobs:
            raise Refusal(404, "there is no such job")
        job = jobs[request.parameters["job"]]
        if job[0] > 0:
            job[0] -= 1
            return Answer(200, {"state": "running"})
        return Answer(200, {"state": "done", "failed": self.perform_all(request, job[1])})

    def perform_all(self, request, body):
        failed = []
        for index, item in enumerate(body["contacts"]):
            try:
                self.perform_one(request, body["action"], item)
            except Refusal as refusal:
                failed.append({"index": index, "code": refusal.code or "invalid", "message": refusal.message})
        return failed

    def perform_one(self, request, action, item):
        problems = find_problems(CONTACT, item)
        if problems:
            raise Refusal(400, describe(problems[0]))
        if "email" not in item and "external_id" not in item:
            raise Refusal(400, "email or external_id is required")
        if item.get("email") in request.config["blocked"]:
            raise Refusal(400, "the address is blocked", code="blocked")
        self.reject_as_scripted(request, item.get("email"), item.get("external_id"))
        account = request.account
        contact = self.find_one(account, item)
        if action == "delete":
            if contact:
                self.drop_contact(account, contact, request)
            return
        if action == "unsubscribe":
            item = {"opt_in": False}
            if contact is None:
                return
        known, before = contact is not None, contact and contact["email"]
        if_new = item.pop("opt_in_if_new", None)
        if not known and if_new and not self.contacts_of(account, item.get("email")):
            item["opt_in"] = True
        if contact is None:
            contact = self.insert(account, {**self.blank_contact(account), **item})
        else:
            self.touch(account, contact, **item)
        kind = {True: "claimed", False: "withdrawn"}.get(item.get("opt_in"), "changed" if known else "created")
        self.felt(account, contact["email"], kind, request, external_id=contact["external_id"], **({} if known else {"new": contact["id"]}))
        if before not in (None, contact["email"]):
            self.felt(account, before, "changed", request, external_id=contact["external_id"])

    def find_one(self, account, item):
        if item.get("external_id"):
            return account.contacts.find("external_id", item["external_id"])
        found = [contact for contact in account.contacts.find_all("email", item["email"]) if not contact.get("external_id")]
        return found[0] if found else None

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"w{next(self.serial)}", "email": None, "external_id": None, "opt_in": None, "created_at": now, "updated_at": now}
