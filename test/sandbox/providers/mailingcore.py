"""MailingCore, from its pages "Bulk import", "Upsert contact", "Contacts overview",
"Locale coverage", "Unsubscribe", "Errors", "Rate limits" and "Multi-tenant".

The hosted unsubscribe page also adds the address to the suppression list; a later optIn true
removes it. A campaign whose audienceFilter does not ask for optIn mails everybody who is not
suppressed. Where the documents are silent a setting chooses; its default stands in defaults() with a note.
"""

from clock import parse_iso
from exchange import Answer, Refusal, phrase
from people import UNASKED
from providers.base import (Provider, limit_headers, make_cursor, parse_cursor,
                            query_parameters, route, whole_number)
from schema import Field, find_problems, is_email

BULK_MAX = 1000                                     # Bulk import, Limits: CONTACTS_BULK_MAX
LIST_MAX = 500                                      # Contacts overview: limit
LOCALES = ("es", "en", "it", "fr", "ca", "de")      # Contacts overview: locale

CONTACT = {
    "email": Field("string", required=True, check=is_email, what="an email"),
    "externalId": Field("string", shortest=1, longest=128),
    "locale": Field("string", choices=LOCALES),
    "optIn": Field("boolean"),
    "attributes": Field("object"),
    "consentVersion": Field("string", longest=64),
    "source": Field("string", longest=64),
    "projectId": Field("string", shortest=1),
}
CONTACT_CHANGES = {**CONTACT, "email": Field("string", check=is_email, what="an email")}
BULK = {"contacts": Field("array", required=True, shortest=1, longest=BULK_MAX)}


class MailingCore(Provider):
    name = "mailingcore"
    default_account = "clx_sandbox"
    unique_fields = ("id", "externalId", "email")
    updated_field = "updatedAt"
    acts = ("opt_out", "opt_in", "complain")

    def defaults(self):
        return {
            "keys": {"mc_test_sandbox": {
                "scopes": ["contacts:read", "contacts:write", "campaigns:read"]}},
            "limits": {"client": {"kind": "fixed", "limit": 300, "seconds": 60}},
            "campaigns": {"cmp_sandbox": {"templates": ["en", "es"]}},
            "quota": None,                  # {limit, used, percentage}: exhausted
            # undocumented, so each may be set
            "require_tenant": True,
            "summary": "numbers",           # or "arrays": created, updated, failed hold rows
            "summary_under": None,          # or "summary", "data", "meta"
            "failed_details": True,         # with numbers: an errors[] names the failed rows
            "invalid_email": "request",     # or "row": only its row fails
            "message": "list",              # or "text": of a validation error
            "opt_in_default": False,        # optIn omitted on create
            "attributes": "merge",          # or "replace"
            "nulls": "refuse",              # or "clear"
            "cursor_under": "meta.nextCursor",  # or "nextCursor", "cursor", null: pages only
        }

    # Rules for every request

    def admit(self, request, found):
        """Rate limits: per client and minute, X-RateLimit-* on each answer, no Retry-After."""
        limits = self.settings(request)["limits"]
        verdict = self.throttle(request, [(("client", request.remote), limits["client"])])
        request.reply_headers.update(limit_headers(verdict))
        if verdict is not None and not verdict.allowed:
            raise Refusal(429, "ThrottlerException: Too Many Requests")
        self.authenticate(request)

    def authenticate(self, request):
        """Authentication and Multi-tenant: Bearer mc_..., a key belongs to one tenant."""
        token = request.bearer()
        if token is None or not token.startswith(("mc_live_", "mc_test_")):
            raise Refusal(401, "Missing or malformed API key")
        if request.account is None or request.grant.get("revoked"):
            raise Refusal(401, "Invalid API key")
        tenant = request.headers.get("X-Tenant-Id")
        if tenant is None and request.config["require_tenant"]:
            raise Refusal(400, "X-Tenant-Id header is required")
        if tenant not in (None, request.account.name):
            raise Refusal(403, "API key is not authorized for this tenant")

    def missing_scope(self, scope):
        return Refusal(403, f"Missing required API key scope: {scope}")

    def refuse(self, request, refusal):
        """Errors: statusCode, message, path, timestamp; quota beside them when it is the cause."""
        return Answer(refusal.status, {
            "statusCode": refusal.status,
            "message": refusal.message,
            "error": phrase(refusal.status),
            "path": request.path,
            "timestamp": self.clock.iso(),
            **refusal.details})

    # Writing

    @route("POST", "/contacts/bulk", scope="contacts:write")
    def bulk(self, request):
        """Bulk import: 1 to 1000 rows, 200 with a summary of created, updated, failed rows."""
        self.check_quota(request)
        body = self.json_object(request)
        self.check(request, BULK, body)
        rows = body["contacts"]
        self.check_rows(request, rows)
        outcomes = [self.upsert_row(request, number, row) for number, row in enumerate(rows)]
        return Answer(200, self.summary(request.config, outcomes))

    @route("PUT", "/contacts", scope="contacts:write")
    def put(self, request):
        """Upsert contact: 200 with the contact, 409 for an externalId of another contact."""
        self.check_quota(request)
        fields = self.json_object(request)
        self.check(request, CONTACT, fields)
        contact, _ = self.upsert(request, fields)
        return Answer(200, contact)

    @route("PATCH", "/contacts/{id}", scope="contacts:write")
    def patch(self, request):
        """Contacts overview: a partial update by internal id."""
        self.check_quota(request)
        fields = self.json_object(request)
        self.check(request, CONTACT_CHANGES, fields)
        contact = request.account.contacts.find("id", request.parameters["id"])
        if contact is None:
            raise Refusal(404, "Contact not found")
        self.check_conflict(request.account, contact, fields)
        return Answer(200, self.apply(request, contact, fields))

    @route("DELETE", "/contacts/{externalId}", scope="contacts:write")
    def delete(self, request):
        """Contacts overview: permanent erasure by externalId."""
        external_id = request.parameters["externalId"]
        contact = request.account.contacts.find("externalId", external_id)
        if contact is None:
            raise Refusal(404, "Contact not found")
        self.drop_contact(request.account, contact, request)
        return Answer(200, {"deleted": True, "externalId": external_id})

    def check_quota(self, request):
        """Rate limits: an exhausted monthly quota is a 429 that carries `quota`."""
        if request.config["quota"] is not None:
            raise Refusal(429, "Monthly email quota exceeded", quota=request.config["quota"])

    def check(self, request, schema, fields):
        self.refuse_problems(request, self.problems(request, schema, fields))

    def check_rows(self, request, rows):
        """Refuse the request for any invalid row, but for emails that only fail their row."""
        problems = []
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise Refusal(400, f"contacts.{number} must be an object")
            problems += self.problems(request, CONTACT, row, f"contacts.{number}")
        if request.config["invalid_email"] == "row":
            problems = [p for p in problems if not (p.name == "email" and p.rule == "format")]
        self.refuse_problems(request, problems)

    def problems(self, request, schema, fields, path=""):
        found = find_problems(schema, fields, path)
        if request.config["nulls"] == "clear":
            found = [p for p in found if p.rule != "null" or p.name == "email"]
        return found

    def refuse_problems(self, request, problems):
        if problems:
            messages = [word(problem) for problem in problems]
            as_list = request.config["message"] == "list"
            raise Refusal(400, messages if as_list else "; ".join(messages))

    def upsert_row(self, request, number, row):
        """One row of a bulk request: (what became of it, details)."""
        named = {"index": number, "email": row["email"], "externalId": row.get("externalId")}
        try:
            if not is_email(row["email"]):
                raise Refusal(400, "email must be an email")
            contact, created = self.upsert(request, row)
        except Refusal as refusal:
            return "failed", {**named, "statusCode": refusal.status,
                              "code": refusal.code or phrase(refusal.status).lower().replace(" ", "_"),
                              "message": refusal.message}
        return "created" if created else "updated", {**named, "id": contact["id"]}

    def summary(self, config, outcomes):
        """The summary's shape is not documented: numbers or arrays, bare or under a name."""
        rows = {name: [details for outcome, details in outcomes if outcome == name]
                for name in ("created", "updated", "failed")}
        summary = rows
        if config["summary"] == "numbers":
            summary = {name: len(found) for name, found in rows.items()}
            if config["failed_details"]:
                summary["errors"] = rows["failed"]
        return {config["summary_under"]: summary} if config["summary_under"] else summary

    def upsert(self, request, fields):
        """Match by externalId if it is there, else by email. Returns (contact, created)."""
        self.reject_as_scripted(request, fields["email"], fields.get("externalId"), status=422)
        contacts = request.account.contacts
        contact = contacts.find("externalId", fields.get("externalId"))
        if contact is None:
            contact = contacts.find("email", fields["email"].lower())
        self.check_conflict(request.account, contact, fields)
        if contact is not None:
            return self.apply(request, contact, fields), False
        contact = contacts.insert(self.blank_contact(request.account))
        return self.apply(request, contact, fields), True

    def check_conflict(self, account, contact, fields):
        """Upsert contact, Errors: email and externalId belong to one contact each, for good."""
        external_id, email = fields.get("externalId"), fields.get("email", "").lower()
        known_as = contact["externalId"] if contact else None
        if external_id and known_as and known_as != external_id:
            raise Refusal(409, "email belongs to a contact with another externalId")
        for field, value in (("externalId", external_id), ("email", email)):
            if account.contacts.find(field, value) not in (None, contact):
                raise Refusal(409, f"{field} conflicts with another contact")

    def apply(self, request, contact, fields):
        """Set what was sent; what was omitted stays as it is."""
        account, now = request.account, self.clock.iso()
        changes = {**fields, "updatedAt": now}
        if "email" in fields:
            changes["email"] = fields["email"].lower()
        if request.config["attributes"] == "merge" and fields.get("attributes"):
            changes["attributes"] = {**(contact["attributes"] or {}), **fields["attributes"]}
        before = contact["email"]
        account.contacts.change(contact, changes)
        if fields.get("optIn"):
            account.recall("suppressed", set).discard(contact["email"])
        kind = {True: "claimed", False: "withdrawn"}.get(
            fields.get("optIn"), "changed" if before else "created")
        self.felt(account, contact["email"], kind, request, external_id=contact["externalId"],
                  **({} if before else {"new": contact["id"]}))
        if before not in (None, contact["email"]):
            self.felt(account, before, "changed", request, external_id=contact["externalId"])
        return contact

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"clc{next(self.serial):022d}", "email": None, "externalId": None,
                "locale": None, "optIn": account.config["opt_in_default"], "attributes": {},
                "consentVersion": None, "source": "api", "projectId": None,
                "createdAt": now, "updatedAt": now}

    # People

    def reach(self, account, address):
        if address in account.recall("suppressed", set):
            return set()
        return {"campaigns" if contact["optIn"] else UNASKED
                for contact in self.contacts_of(account, address)}

    def says_no(self, fields):
        return fields.get("optIn") is False

    def opt_out(self, account, address):
        """The hosted page: optIn false, and the suppression list."""
        account.recall("suppressed", set).add(address)
        for contact in self.contacts_of(account, address):
            self.touch(account, contact, optIn=False)

    complain = opt_out

    def opt_in(self, account, address):
        account.recall("suppressed", set).discard(address)
        for contact in self.signed_up(account, address):
            self.touch(account, contact, optIn=True)

    # Reading

    @route("GET", "/contacts/{id}", scope="contacts:read")
    def get(self, request):
        """Contacts overview: GET /contacts/{idOrExternalId}."""
        contacts, wanted = request.account.contacts, request.parameters["id"]
        contact = contacts.find("id", wanted) or contacts.find("externalId", wanted)
        if contact is None:
            raise Refusal(404, "Contact not found")
        return Answer(200, contact)

    @route("GET", "/contacts", scope="contacts:read")
    def list(self, request):
        """Contacts overview: page, limit (max 500), locale, optIn, updatedSince, cursor."""
        options = query_parameters(request, ("page", "limit", "locale", "optIn", "updatedSince",
                                             "cursor", "projectId"))
        limit = whole_number(options.get("limit", "50"), "limit", 1, LIST_MAX)
        page = whole_number(options.get("page", "1"), "page", 1, 10**9)
        found = sorted(filter(list_filter(options), request.account.contacts), key=list_order)
        start = (page - 1) * limit
        if "cursor" in options:
            after = parse_cursor(options["cursor"], str, str)
            start = sum(list_order(contact) <= after for contact in found)
        return Answer(200, self.page(request.config, found, start, page, limit))

    def page(self, config, found, start, page, limit):
        rows = found[start:start + limit]
        body = {"data": rows, "meta": {"page": page, "limit": limit, "total": len(found),
                                       "totalPages": -(-len(found) // limit)}}
        if config["cursor_under"]:
            more = start + limit < len(found)
            holder, _, name = config["cursor_under"].rpartition(".")
            cursor = make_cursor(list_order(rows[-1])) if more else None
            (body[holder] if holder else body)[name] = cursor
        return body

    @route("GET", "/campaigns/{id}/locale-coverage", scope="campaigns:read")
    def locale_coverage(self, request):
        """Locale coverage: opted-in contacts per locale, and whether a template speaks it."""
        campaign = request.config["campaigns"].get(request.parameters["id"])
        if campaign is None:
            raise Refusal(404, "Campaign not found")
        counts = {locale: 0 for locale in campaign["templates"]}
        for contact in request.account.contacts:
            if contact["optIn"]:
                counts[contact["locale"]] = counts.get(contact["locale"], 0) + 1
        return Answer(200, [{"locale": locale, "count": count,
                             "hasTemplate": locale in campaign["templates"]}
                            for locale, count in counts.items()])


def word(problem):
    """A validation message as class-validator words it (inferred: the API looks like NestJS)."""
    path, field = problem.path, problem.field
    if problem.rule == "unknown":
        prefix = problem.parent + "." if problem.parent else ""
        return f"{prefix}property {problem.name} should not exist"
    if problem.rule == "choice":
        return f"{path} must be one of the following values: {', '.join(field.choices)}"
    if problem.rule == "short" and field.kind == "array":
        return f"{path} must contain at least {field.shortest} elements"
    if problem.rule == "long" and field.kind == "array":
        return f"{path} must contain no more than {field.longest} elements"
    if problem.rule == "short":
        return f"{path} should not be empty"
    if problem.rule == "long":
        return f"{path} must be shorter than or equal to {field.longest} characters"
    return f"{path} must be {field.what or 'a ' + field.kind + ' value'}"


def list_filter(options):
    """A predicate on contacts for the query of GET /contacts."""
    if options.get("locale", "en") not in LOCALES:
        raise Refusal(400, "locale must be one of the following values: " + ", ".join(LOCALES))
    if options.get("optIn", "true") not in ("true", "false"):
        raise Refusal(400, "optIn must be a boolean string")
    try:
        since = parse_iso(options["updatedSince"]) if "updatedSince" in options else 0
    except ValueError as error:
        raise Refusal(400, "updatedSince must be a valid ISO 8601 date string") from error
    opt_in = {"true": True, "false": False}.get(options.get("optIn"))

    def wanted(contact):
        return (options.get("locale") in (None, contact["locale"])
                and opt_in in (None, contact["optIn"])
                and options.get("projectId") in (None, contact["projectId"])
                and parse_iso(contact["updatedAt"]) >= since)
    return wanted


def list_order(contact):
    return [contact["updatedAt"], contact["id"]]
