"""HubSpot, from its pages on contacts ("Create or update a batch of contacts by unique property values"), on error handling
("Multi-status errors"), on the subscription preferences API v4, and on usage limits.

    POST /crm/v3/objects/contacts/batch/upsert       up to 100 inputs {"id", "idProperty": "email", "properties", "objectWriteTraceId"}:
                                                     200, or 207 if inputs with an objectWriteTraceId failed
    GET, DELETE /crm/v3/objects/contacts/{id}        the GET also with ?idProperty=email
    GET /crm/v3/objects/contacts                     ?limit, ?after, ?properties: pages with paging.next.after
    POST /communication-preferences/v4/statuses/batch/read, .../batch/write    the statuses of addresses, which need no contact
    errors: {"status": "error", "message", "correlationId", "category"}; 429 has a policyName

A contact can be mailed if it is subscribed; of one without a status, see the setting requires_consent.
"""

from exchange import Answer, Refusal
from providers.base import Provider, query_parameters, route, whole_number
from schema import Field, describe, find_problems, is_email

INPUT = {"id": Field("string", required=True), "idProperty": Field("string", required=True), "properties": Field("object", required=True),
         "objectWriteTraceId": Field("string")}
BASES = ("CONSENT_WITH_NOTICE", "LEGITIMATE_INTEREST_CLIENT", "LEGITIMATE_INTEREST_OTHER", "LEGITIMATE_INTEREST_PQL", "NON_GDPR",
         "PERFORMANCE_OF_CONTRACT", "PROCESS_AND_STORE")
STATUS = {"subscriberIdString": Field("string", required=True), "channel": Field("string", required=True, choices=("EMAIL",)),
          "subscriptionId": Field("integer", required=True), "legalBasis": Field("string", choices=BASES),
          "statusState": Field("string", required=True, choices=("SUBSCRIBED", "UNSUBSCRIBED", "NOT_SPECIFIED")),
          "legalBasisExplanation": Field("string")}
READ_ONLY = ("hs_marketable_status", "hs_email_optout", "hs_object_id")


class HubSpot(Provider):
    name = "hubspot"
    default_account = "hubspot_sandbox"
    unique_fields = ("id", "email")
    updated_field = "updatedAt"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {
            "keys": {"pat-sandbox": {}},
            "properties": ["email", "firstname", "lastname", "phone", "plan"],
            "subscriptions": [7, 8],
            "requires_basis": False,
            "requires_consent": False,      # the pages leave open what most accounts do
            "limits": {"app": {"kind": "sliding", "limit": 100, "seconds": 10}},
        }

    def admit(self, request, found):
        if request.account is None:
            raise Refusal(401, "Authentication credentials not found.", code="INVALID_AUTHENTICATION")
        verdict = self.throttle(request, [(("app",), request.config["limits"]["app"])])
        if verdict is not None and not verdict.allowed:
            raise Refusal(429, "You have reached your ten_secondly_rolling limit.", code="RATE_LIMITS", policy="TEN_SECONDLY_ROLLING")

    def refuse(self, request, refusal):
        limit = {"errorType": "RATE_LIMIT", "policyName": refusal.details.get("policy", "TEN_SECONDLY_ROLLING")} if refusal.status == 429 else {}
        return Answer(refusal.status, {"status": "error", "message": refusal.message, "correlationId": f"c-{next(self.serial)}",
                                       "category": refusal.code or "VALIDATION_ERROR", **limit}, headers=refusal.headers)

    def inputs(self, request):
        inputs = self.json_object(request).get("inputs")
        if not isinstance(inputs, list) or not 1 <= len(inputs) <= 100:
            raise Refusal(400, "inputs must have from 1 to 100 elements")
        return inputs

    # Contacts

    @route("POST", "/crm/v3/objects/contacts/batch/upsert")
    def upsert(self, request):
        inputs = self.inputs(request)
        if any(problems := [find_problems(INPUT, item) for item in inputs]):
            raise Refusal(400, describe(next(found[0] for found in problems if found)))
        if len({item["id"] for item in inputs}) < len(inputs):
            raise Refusal(400, "Duplicate IDs found in batch input")
        traced = all("objectWriteTraceId" in item for item in inputs)
        results, errors = [], []
        for item in inputs:
            try:
                results.append(self.write(request, item))
            except Refusal as refusal:
                if not traced:
                    raise
                errors.append({"status": "error", "category": refusal.code or "VALIDATION_ERROR", "message": refusal.message,
                               "context": {"objectWriteTraceId": [item["objectWriteTraceId"]]}})
        return self.complete(results, errors)

    def complete(self, results, errors):
        now = self.clock.iso()
        return Answer(207 if errors else 200, {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now,
                                               **({"numErrors": len(errors), "errors": errors} if errors else {})})

    def check(self, request, item):
        properties = item["properties"]
        if item["idProperty"] != "email" or properties.get("email") != item["id"]:
            raise Refusal(400, "idProperty is not that of the id")
        for name, value in properties.items():
            if name in READ_ONLY or name not in request.config["properties"]:
                raise Refusal(400, f'Property values were not valid: [{{"isValid":false,"message":"Property \\"{name}\\" does not exist",'
                                   f'"error":"PROPERTY_DOESNT_EXIST","name":"{name}"}}]')
            if not isinstance(value, (str, int, float, bool)):
                raise Refusal(400, f"{name} is not a value")
        if not is_email(item["id"]):
            raise Refusal(400, f'Property values were not valid: [{{"isValid":false,"message":"Email address {item["id"]} is invalid","error":"INVALID_EMAIL"}}]')

    def write(self, request, item):
        account = request.account
        self.reject_as_scripted(request, item["id"])
        self.check(request, item)
        contact = account.contacts.find("email", item["id"])
        known = contact is not None
        properties = {name: value if isinstance(value, str) else str(value) for name, value in item["properties"].items()}
        if known:
            self.touch(account, contact, properties={**contact["properties"], **properties})
        else:
            contact = self.insert(account, {**self.blank_contact(account), "email": item["id"], "properties": properties})
        self.felt(account, item["id"], "changed" if known else "created", request, **({} if known else {"new": contact["id"]}))
        return {**self.present(account, contact), "new": not known, "objectWriteTraceId": item.get("objectWriteTraceId")}

    def present(self, account, contact, names=None):
        properties = {**contact["properties"], "hs_object_id": contact["id"], "hs_email_optout": "true" if self.statuses(account, contact["email"]).get("all") else None}
        return {"id": contact["id"], "createdAt": contact["createdAt"], "updatedAt": contact["updatedAt"], "archived": False,
                "properties": properties if names is None else {name: properties.get(name) for name in names}}

    @route("GET", "/crm/v3/objects/contacts/{id}")
    def get(self, request):
        options = query_parameters(request, ("idProperty", "properties"))
        field = {None: "id", "email": "email"}.get(options.get("idProperty"))
        contact = field and request.account.contacts.find(field, request.parameters["id"])
        if not contact:
            raise Refusal(404, "resource not found", code="OBJECT_NOT_FOUND")
        return Answer(200, self.present(request.account, contact, options.get("properties", "email").split(",")))

    @route("DELETE", "/crm/v3/objects/contacts/{id}")
    def archive(self, request):
        contact = request.account.contacts.find("id", request.parameters["id"])
        if contact:
            self.drop_contact(request.account, contact, request)
        return Answer(204)

    @route("GET", "/crm/v3/objects/contacts")
    def list(self, request):
        options = query_parameters(request, ("limit", "after", "properties", "archived"))
        limit = whole_number(options.get("limit", "10"), "limit", 1, 100)
        after = whole_number(options.get("after", "0"), "after", 0, 10**9)
        found = [contact for contact in request.account.contacts if int(contact["id"]) > after]
        names = options.get("properties", "email").split(",")
        more = {"paging": {"next": {"after": found[limit - 1]["id"], "link": "?"}}} if len(found) > limit else {}
        return Answer(200, {"results": [self.present(request.account, contact, names) for contact in found[:limit]], **more})

    # Subscriptions, which belong to addresses

    def statuses(self, account, address):
        """By subscription type: SUBSCRIBED or UNSUBSCRIBED; "all" if the person left everything."""
        return account.recall("statuses", dict).setdefault(address, {})

    def listed(self, request, address):
        stored = self.statuses(request.account, address)
        return [{"channel": "EMAIL", "subscriberIdString": address, "subscriptionId": number, "source": "SUBSCRIPTION_STATUS", "timestamp": self.clock.iso(),
                 "status": "UNSUBSCRIBED" if stored.get("all") else stored.get(number, "NOT_SPECIFIED")} for number in request.config["subscriptions"]]

    @route("POST", "/communication-preferences/v4/statuses/batch/read")
    def read_statuses(self, request):
        if query_parameters(request, ("channel", "businessUnitId")).get("channel") != "EMAIL":
            raise Refusal(400, "channel is required")
        return self.complete([{"subscriberIdString": address, "statuses": self.listed(request, address)} for address in self.inputs(request)], [])

    @route("POST", "/communication-preferences/v4/statuses/batch/write")
    def write_statuses(self, request):
        inputs = self.inputs(request)
        results, errors = [], []
        for item in inputs:
            problems = find_problems(STATUS, item)
            if problems:
                raise Refusal(400, describe(problems[0]))
            if item["subscriptionId"] not in request.config["subscriptions"]:
                raise Refusal(400, f"Subscription type {item['subscriptionId']} does not exist")
            if request.config["requires_basis"] and "legalBasis" not in item:
                raise Refusal(400, "A legal basis is required")
        for item in inputs:
            try:
                self.reject_as_scripted(request, item["subscriberIdString"])
                results.append(self.write_status(request, item))
            except Refusal as refusal:
                errors.append({"status": "error", "category": "VALIDATION_ERROR", "message": refusal.message,
                               "context": {"subscriberIdString": [item["subscriberIdString"]]}})
        return self.complete(results, errors)

    def write_status(self, request, item):
        account, address, state = request.account, item["subscriberIdString"], item["statusState"]
        stored = self.statuses(account, address)
        if state == "SUBSCRIBED":
            stored.pop("all", None)
        stored[item["subscriptionId"]] = state
        self.felt(account, address, "claimed" if state == "SUBSCRIBED" else "withdrawn", request)
        return {"channel": "EMAIL", "subscriberIdString": address, "subscriptionId": item["subscriptionId"], "status": state, "source": "API", "timestamp": self.clock.iso()}

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": str(next(self.serial)), "email": None, "properties": {}, "createdAt": now, "updatedAt": now}

    # People

    def reach(self, account, address):
        stored = self.statuses(account, address)
        if not self.contacts_of(account, address) or stored.get("all"):
            return set()
        reach = {f"subscription {number}" for number, state in stored.items() if state == "SUBSCRIBED"}
        return reach if account.config["requires_consent"] or stored else {"campaigns"}

    def says_no(self, fields):
        return False

    def opt_out(self, account, address):
        self.statuses(account, address)["all"] = True
        for contact in self.contacts_of(account, address):
            self.touch(account, contact)

    complain = opt_out

    def opt_in(self, account, address):
        self.signed_up(account, address)
        stored = self.statuses(account, address)
        stored.pop("all", None)
        stored[7] = "SUBSCRIBED"
