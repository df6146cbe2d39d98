"""CampaignLark, from its pages "Create or Update Contact", "Introduction", "Fields",
"Retrieve contact by email" and "Tags", and from its help pages on confirmations and automations.

Where the documents are silent a setting chooses; its default stands in defaults() with a note.
"""

import re

from clock import parse_iso
from exchange import Answer, Refusal
from providers.base import Provider, query_parameters, route, whole_number
from schema import Field, describe, find_problems, is_email

STATUSES = ("SUBSCRIBED", "UNSUBSCRIBED", "UNCONFIRMED", "CLEANED", "COMPLAINED")
NO_MAIL = ("UNSUBSCRIBED", "CLEANED", "COMPLAINED")
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)

EMAIL_REQUIRED = "Email address is required for upsert operation."
UNKNOWN_MERGE_TAG = "We were unable to find a field with the merge_tag {}"
INVALID_STATUS = "The status you provided is not valid."
FIELD_REQUIRED = "Field '{}' is required."
IMPORTING = "An import or export is currently in progress."
NO_KEY = "Please provide a valid API key in the Authorization header."
BAD_KEY = "The API key you provided is invalid or has been revoked."
BAD_ADDRESS = "Your IP address is not authorized to use this API key."
NOT_FOUND = "We couldn't find a contact with that email address."
UNKNOWN_TAG = "Tag ID {} does not exist in this workspace"

# email_address and status are judged apart: the document words their errors itself
UPSERT = {
    "email_address": Field("string"),
    "fields": Field("object"),
    "tags": Field("array", check=lambda tags: all(type(tag) is int for tag in tags),
                  what="an array of integers"),
    "status": Field("string"),
    "partial_update": Field("boolean"),
}


def is_date(value):
    """Fields: DATE is a date and a time of RFC 3339."""
    if not DATE_TIME.fullmatch(value):
        return False
    try:
        return parse_iso(re.sub(r"\.\d+", "", value)) is not None
    except ValueError:
        return False


FIELD_TYPES = {
    "TEXT": Field("string"),
    "NUMBER": Field("number"),
    "BOOL": Field("boolean"),
    "DATE": Field("string", check=is_date, what="an RFC 3339 date-time"),
    "MULTI": Field("array"),
}
# the page on creating fields names others
FIELD_TYPES.update(BOOLEAN=FIELD_TYPES["BOOL"], DROPDOWN_SINGLE=FIELD_TYPES["TEXT"],
                   COUNTRY=FIELD_TYPES["TEXT"], DROPDOWN_MULTIPLE=FIELD_TYPES["MULTI"])


def workspace_field(number, label, merge_tag, kind="TEXT", **more):
    return {"id": number, "label": label, "merge_tag": merge_tag, "type": kind,
            "definition": None, "default_value": None, "order": number, "immutable": False,
            "required": False, "tracked": True, **more}


class CampaignLark(Provider):
    name = "campaignlark"
    default_account = "ws_sandbox"
    unique_fields = ("id", "email_address")
    updated_field = "updated_at"
    address_field = "email_address"
    acts = ("opt_out", "opt_in", "complain", "confirm")

    def defaults(self):
        return {
            "keys": {"cl_sandbox": {"addresses": None}},    # or the IP allow-list of the key
            "limits": {"workspace": {"kind": "sliding", "limit": 100, "seconds": 1}},
            "fields": {
                "email_address": workspace_field(1, "Email", "email_address", immutable=True,
                                                 required=True),
                "first_name": workspace_field(2, "First name", "first_name"),
                "last_name": workspace_field(3, "Last name", "last_name"),
                "plan": workspace_field(4, "Plan", "plan"),
                "points": workspace_field(5, "Points", "points", "NUMBER"),
                "active": workspace_field(6, "Active", "active", "BOOL"),
                "born": workspace_field(7, "Born", "born", "DATE"),
            },
            "tags": {"1": "newsletter", "2": "vip"},
            "importing": False,         # a 400 for as long as an import or export runs
            "automations": {},          # "Segment entered": {name: {active, segment: {field: value}}}
            # undocumented, so each may be set
            "email_case": "ignore",     # or "keep": addresses that differ in case are two
            "nulls": "refuse",          # or "clear"
            "retry_after": None,        # seconds to name in a 429; the documents name none
            "error_null": False,        # "error": null beside data, as some pages show
        }

    # Rules for every request

    def admit(self, request, found):
        """Introduction: a key per workspace, an IP allow-list, 100 requests/s per workspace."""
        if request.bearer() is None:
            raise Refusal(401, NO_KEY)
        if request.account is None or request.grant.get("revoked"):
            raise Refusal(401, BAD_KEY)
        allowed = request.grant.get("addresses")
        if allowed is not None and request.remote not in allowed:
            raise Refusal(403, BAD_ADDRESS)
        verdict = self.throttle(request, [(("workspace",),
                                           request.config["limits"]["workspace"])])
        if verdict is not None and not verdict.allowed:
            seconds = request.config["retry_after"]
            raise Refusal(429, "Too many requests.",
                          headers={} if seconds is None else {"Retry-After": str(seconds)})

    def refuse(self, request, refusal):
        """Introduction: {"error": {"message"}}, without a code."""
        return Answer(refusal.status, {"error": {"message": refusal.message}},
                      headers=refusal.headers)

    def succeed(self, request, data):
        body = {"data": data}
        if request.config["error_null"]:
            body["error"] = None
        return Answer(200, body)

    # Create or Update Contact

    @route("POST", "/v1/contacts/upsert")
    def upsert(self, request):
        """200 for a create and an update alike."""
        if request.config["importing"]:
            raise Refusal(400, IMPORTING)
        body = self.json_object(request)
        self.check_shape(request, body)
        email = self.email_key(request, body["email_address"])
        self.reject_as_scripted(request, email)
        contact = request.account.contacts.find("email_address", email)
        partial = body.get("partial_update", False)
        fields = self.known_fields(request, body.get("fields", {}))
        if contact is None or not partial:
            self.check_required(request.config, fields)
        if contact is None:
            contact = self.create(request, email, fields, body)
        else:
            self.update(request, contact, fields, body, partial)
        return self.succeed(request, self.present(request, contact))

    def check_shape(self, request, body):
        """The documented errors in their words, anything else refused in ours."""
        email = body.get("email_address")
        if email is None or email == "":
            raise Refusal(400, EMAIL_REQUIRED)
        if body.get("status", "SUBSCRIBED") not in STATUSES:
            raise Refusal(400, INVALID_STATUS)
        problems = find_problems(UPSERT, body)
        if problems:
            raise Refusal(400, describe(problems[0]))
        if not is_email(email.strip()):
            raise Refusal(400, "The email address you provided is not valid.")
        for tag in body.get("tags", []):
            if str(tag) not in request.config["tags"]:
                raise Refusal(400, UNKNOWN_TAG.format(tag))

    def email_key(self, request, email):
        ignore_case = request.config["email_case"] == "ignore"
        return email.strip().lower() if ignore_case else email.strip()

    def known_fields(self, request, fields):
        """Request Body: keys are merge tags; email_address among them is ignored."""
        known = {}
        for tag, value in fields.items():
            definition = request.config["fields"].get(tag)
            if definition is None:
                raise Refusal(400, UNKNOWN_MERGE_TAG.format(tag))
            if tag != "email_address":
                self.check_value(request, definition, value)
                known[tag] = value
        return known

    def check_value(self, request, definition, value):
        """Fields: a value has the type of its field (the error's words are inferred)."""
        if value is None and request.config["nulls"] == "clear":
            return
        label = definition["label"]
        problems = find_problems({label: FIELD_TYPES[definition["type"]]}, {label: value})
        if problems:
            raise Refusal(400, f"Field {describe(problems[0])}.")

    def check_required(self, config, fields):
        """Errors: a required field omitted on a full replace or create."""
        for tag, definition in config["fields"].items():
            if definition["required"] and tag != "email_address" and fields.get(tag) is None:
                raise Refusal(400, FIELD_REQUIRED.format(definition["label"]))

    def create(self, request, email, fields, body):
        """Automation Behaviour, create path: only an UNCONFIRMED contact fires something."""
        contact = request.account.contacts.insert({
            **self.blank_contact(request.account), "email_address": email, "fields": fields,
            "tags": body.get("tags", []), "status": body.get("status", "SUBSCRIBED")})
        if contact["status"] == "UNCONFIRMED":
            self.fire(request, "CONTACT_SUBSCRIBED_PENDING", contact)
        self.settle_status(request, contact, None, body.get("status"))
        return contact

    def update(self, request, contact, fields, body, partial):
        """Behaviour: a partial update merges and preserves, a full one replaces everything."""
        if partial:
            changes = {"fields": {**contact["fields"], **fields},
                       "tags": body.get("tags", contact["tags"]),
                       "status": body.get("status", contact["status"])}
        else:
            changes = {"fields": fields, "tags": body.get("tags", []),
                       "status": body.get("status", "SUBSCRIBED")}
        self.fire_changes(request, contact, changes)
        before = contact["status"]
        request.account.contacts.change(contact, {**changes, "updated_at": self.clock.iso()})
        self.settle_status(request, contact, before, body.get("status"))

    def settle_status(self, request, contact, before, said):
        """Record what a status means for the person. UNCONFIRMED sends a confirmation mail, and
        SUBSCRIBED can start "Segment entered" automations."""
        account, email, status = request.account, contact["email_address"], contact["status"]
        kind = {None: "changed" if before else "created", "SUBSCRIBED": "claimed",
                "UNCONFIRMED": "asked"}.get(said, "withdrawn")
        self.felt(account, email, kind, request, status=status, before=before,
                  **({} if before else {"new": contact["id"]}))
        if status == "UNCONFIRMED" and before != status:
            self.fire(request, "confirmation_mail_sent", contact)
            self.mailed(account, email, "confirmation", request)
        if status == "SUBSCRIBED":
            self.enroll(account, contact, account.config["automations"], request)

    def fire_changes(self, request, contact, changes):
        """Automation Behaviour, update path: changed tags and changed tracked fields."""
        before, after = set(contact["tags"]), set(changes["tags"])
        for tag in sorted(after - before):
            self.fire(request, "TAG_ADDED", contact, tag=tag)
        for tag in sorted(before - after):
            self.fire(request, "TAG_REMOVED", contact, tag=tag)
        for tag, definition in request.config["fields"].items():
            if (definition["tracked"]
                    and contact["fields"].get(tag) != changes["fields"].get(tag)):
                self.fire(request, "FIELD_UPDATED", contact, field=tag)

    def fire(self, request, kind, contact, **details):
        request.account.record(kind, self.clock.iso(), contact=contact["id"],
                               email=contact["email_address"], **details)

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"{next(self.serial):024x}", "email_address": None, "fields": {},
                "tags": [], "status": "SUBSCRIBED", "created_at": now, "updated_at": now}

    def present(self, request, contact):
        """Response: as the page shows it."""
        names = request.config["tags"]
        return {"id": contact["id"], "status": contact["status"],
                "tags": [{"id": tag, "name": names.get(str(tag))} for tag in contact["tags"]],
                "data": {"email_address": contact["email_address"], **contact["fields"]},
                "statistics": {"total_opens": 0, "total_clicks": 0, "total_bounces": 0,
                               "total_delivered": 0},
                "created_at": contact["created_at"], "updated_at": contact["updated_at"]}

    # People

    def reach(self, account, address):
        return {"campaigns" for contact in self.contacts_of(account, address)
                if contact["status"] == "SUBSCRIBED"}

    def says_no(self, fields):
        return fields.get("status") in NO_MAIL

    def set_status(self, account, address, status):
        for contact in self.contacts_of(account, address):
            self.touch(account, contact, status=status)

    def opt_out(self, account, address):
        self.set_status(account, address, "UNSUBSCRIBED")

    def complain(self, account, address):
        self.set_status(account, address, "COMPLAINED")

    def opt_in(self, account, address):
        self.signed_up(account, address)
        self.set_status(account, address, "SUBSCRIBED")

    def confirm(self, account, address):
        """The link in a confirmation mail."""
        for contact in self.contacts_of(account, address):
            if contact["status"] == "UNCONFIRMED":
                self.touch(account, contact, status="SUBSCRIBED")

    # Reading

    @route("GET", "/v1/contacts/by-email")
    def by_email(self, request):
        """Retrieve contact by email: 200 or 404."""
        options = query_parameters(request, ("email",))
        email = self.email_key(request, options.get("email", ""))
        contact = request.account.contacts.find("email_address", email)
        if contact is None:
            raise Refusal(404, NOT_FOUND)
        return self.succeed(request, self.present(request, contact))

    @route("GET", "/v1/fields")
    def fields(self, request):
        """Fields: the definitions, whose merge tags are the keys of `fields` in an upsert."""
        return self.succeed(request, [
            {name: value for name, value in definition.items() if name != "tracked"}
            for definition in request.config["fields"].values()])

    @route("GET", "/v1/tags")
    def tags(self, request):
        """Tags: page, and limit from 1 to 100."""
        options = query_parameters(request, ("page", "limit"))
        page = whole_number(options.get("page", "1"), "page", 1, 10**9)
        limit = whole_number(options.get("limit", "100"), "limit", 1, 100)
        tags = [{"id": int(number), "name": name}
                for number, name in request.config["tags"].items()]
        return self.succeed(request, tags[(page - 1) * limit:page * limit])
