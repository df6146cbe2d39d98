"""Caramel, from its pages "Sync contacts", "Tools", "Tiers and scopes", "Errors", "Rate limits",
"Forms and audience" and "Authentication".

Under one prefix: /mcp (JSON-RPC tools), /token and /.well-known (OAuth), /gateway (REST).
Where the documents are silent a setting chooses; its default stands in defaults() with a note.
"""

import hashlib
import json
import math
from typing import NamedTuple
from urllib.parse import parse_qsl

from exchange import Answer, Refusal, parse_json
from providers.base import Provider, limit_headers, route
from providers.caramel_tokens import Tokens
from schema import Field, describe, find_problems, is_email

# Tiers and scopes: Lifetime counts as Business
TIERS = {"starter": 0, "lite": 1, "growth": 2, "business": 3, "lifetime": 3, "enterprise": 4}
SCOPES = ["meta:read", "forms:read", "forms:write", "audience:write"]

# Errors: these are of the JSON-RPC protocol, all others of a tool
PROTOCOL_CODES = {"unauthorized": -32001, "parse_error": -32700, "bad_envelope": -32600,
                  "method_not_found": -32601, "invalid_params": -32602}
CODE_OF_STATUS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "rate_limited"}

ENVELOPE = {
    "jsonrpc": Field("string", required=True, choices=("2.0",)),
    "method": Field("string", required=True),
    "id": Field("number"),
    "params": Field("object"),
}
CALL = {"name": Field("string", required=True), "arguments": Field("object"),
        "_meta": Field("object")}
BUSINESS_ID = Field("string", required=True)


class Tool(NamedTuple):
    action: str
    scope: str      # None: any
    tier: str
    schema: dict


TOOLS = {
    "caramel.v1.contact.upsert": Tool("upsert", "audience:write", "business", {
        "business_id": BUSINESS_ID, "email": Field("string", nullable=True),
        "first_name": Field("string"), "last_name": Field("string")}),
    "caramel.v1.form.submit": Tool("submit_form", "forms:write", "starter", {
        "business_id": BUSINESS_ID, "form_id": Field("string", required=True)}),
    "caramel.v1.form.list": Tool("list_forms", "forms:read", "starter", {
        "business_id": BUSINESS_ID}),
    "caramel.v1.business.list": Tool("list_businesses", None, "starter", {}),
    "caramel.v1.meta.usage": Tool("usage", None, "starter", {"business_id": BUSINESS_ID}),
    "caramel.v1.meta.capabilities": Tool("capabilities", None, "starter", {}),
}
LEGACY_NAMES = {"list_businesses": "caramel.v1.business.list"}


class Caramel(Provider):
    name = "caramel"
    default_account = "usr_sandbox"
    unique_fields = ("id", "key")
    shared_fields = ("email",)          # of several businesses
    updated_field = "updated_at"
    acts = ("opt_out", "opt_in", "complain")
    credentials = ("keys", "refresh_tokens")

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.tokens = Tokens(self.clock, self.serial)

    def defaults(self):
        per_minute = {"kind": "sliding", "seconds": 60}
        return {
            "keys": {"caramel_sandbox": {"scopes": SCOPES}},    # access tokens that never expire
            "refresh_tokens": {"rt_sandbox": {}},
            "client_id": "client_sandbox",
            "scopes": SCOPES,               # of refreshed access tokens
            "access_seconds": 3600,
            "refresh_seconds": 30 * 86400,  # from the last use
            "rotate": True,
            "limits": {"bearer": {**per_minute, "limit": 600}, "ip": {**per_minute, "limit": 60},
                       "host": {**per_minute, "limit": 50000},
                       "form": {**per_minute, "limit": 10}},
            "businesses": {"bus_01h7m9k0aabcdefghj1234567": {
                "name": "Sandbox", "subscription_tier": "business", "role": "owner"}},
            "forms": {"frm_import": {
                "active": True, "marketing_consent": True, "enroll": None, "notify": False,
                "fields": {"email": {"type": "string", "required": True},
                           "first_name": {"type": "string"}, "last_name": {"type": "string"}}}},
            "journeys": {},                 # name: {"active": true, "segment": {field: value}}
            # undocumented or contradictory, so each may be set
            "errors": "http",               # 4xx, or "tool": 200 with isError and a text
            "misspell": False,              # "messsage" in place of "message"
            "result": "object",             # or "content", "structured"
            "sse": False,                   # answer as an event stream to who accepts it
            "require_accept": False,        # 406 unless both media types are accepted
            "form_argument": "data",        # the argument of form.submit with the values
            "nulls": "refuse",              # or "clear"
            "gateway": True,                # the REST gateway answers
        }

    # Rules for every request

    def identify(self, request):
        """Authentication: static tokens, and those that the token endpoint issued."""
        super().identify(request)
        for account in self.accounts if request.account is None else ():
            grant = self.tokens.grant(account, request.bearer())
            if grant is not None:
                request.account, request.grant = account, grant

    def received(self, request):
        """A token request names its account by the refresh token in its body."""
        if request.path == "/token":
            token = form_values(request).get("refresh_token")
            request.account = next((account for account in self.accounts
                                    if self.tokens.knows(account, token)), None)
            if request.account is not None:
                self.journal.attribute(request.entry, request.account.name)

    def admit(self, request, found):
        """Rate limits: three sliding windows at once; then the access token."""
        request.reply_headers["x-caramel-request-id"] = f"req_{next(self.serial):08d}"
        if found is None and request.path == "/mcp":
            raise Refusal(405, "POST only", "method_not_allowed")
        if found is not None and found.action in ("discovery", "token"):
            return
        limits = self.settings(request)["limits"]
        bearer = hashlib.sha256((request.bearer() or "").encode()).hexdigest()
        self.enforce(request, [(("bearer", bearer), limits["bearer"]),
                               (("ip", request.remote), limits["ip"]),
                               (("host",), limits["host"])])
        if request.account is None or self.tokens.is_expired(request.grant):
            raise Refusal(401, "Unauthorized — access token expired or invalid", "unauthorized")

    def enforce(self, request, limits):
        """Rate limits: x-ratelimit-* always, Retry-After in whole seconds (0 too) with a 429."""
        verdict = self.throttle(request, limits)
        request.reply_headers.update(limit_headers(verdict, "x-ratelimit-"))
        if verdict is not None and not verdict.allowed:
            raise Refusal(429, "Per-token rate cap exceeded.", "rate_limited",
                          headers={"Retry-After": str(math.floor(verdict.retry_after))})

    def refuse(self, request, refusal):
        """Errors: gateway shape, protocol shape or a tool's isError, as configured."""
        code = refusal.code or CODE_OF_STATUS.get(
            refusal.status, "internal_error" if refusal.status >= 500 else "invalid_request")
        message = "messsage" if self.settings(request)["misspell"] else "message"
        if request.path == "/token":
            body = {"error": code, "error_description": refusal.message}
        elif self.is_http_error(request, refusal):
            body = {"error": code, message: refusal.message, "status": refusal.status}
        else:
            return self.refuse_in_rpc(request, refusal, code, message)
        return Answer(refusal.status, body, headers=refusal.headers)

    def is_http_error(self, request, refusal):
        """Errors of JSON-RPC itself never are, those of the transport always."""
        if request.path != "/mcp" or refusal.status in (405, 406):
            return True
        return self.settings(request)["errors"] == "http" and refusal.status != 200

    def refuse_in_rpc(self, request, refusal, code, message):
        if code in PROTOCOL_CODES:
            outcome = {"error": {"code": PROTOCOL_CODES[code], message: refusal.message}}
        else:
            outcome = {"result": {"content": [{"type": "text", "text": refusal.message}],
                                  "isError": True}}
        return self.rpc_answer(request, outcome, refusal.headers)

    # JSON-RPC

    @route("POST", "/mcp")
    def mcp(self, request):
        """Connect an MCP client: Streamable HTTP, JSON-RPC 2.0, POST only."""
        self.check_accept(request)
        envelope = self.parse_envelope(request)
        method, params = envelope["method"], envelope.get("params", {})
        if method.startswith("notifications/"):
            return Answer(202)
        if "id" not in envelope:
            raise protocol_error("bad_envelope", "id is required")
        if method == "tools/call":
            return self.rpc_answer(request, {"result": self.call_tool(request, params)})
        results = {"initialize": self.server_info, "ping": dict, "tools/list": self.tool_list}
        if method not in results:
            raise protocol_error("method_not_found", f"Method not found: {method}")
        return self.rpc_answer(request, {"result": results[method]()})

    def check_accept(self, request):
        accepted = request.headers.get("Accept", "")
        if request.config["require_accept"] and not (
                "application/json" in accepted and "text/event-stream" in accepted):
            raise Refusal(406, "Accept application/json and text/event-stream",
                          "not_acceptable")

    def parse_envelope(self, request):
        if request.media_type() != "application/json":
            raise Refusal(400, "Content-Type must be application/json", "invalid_request")
        try:
            envelope = parse_json(request.body)
        except ValueError as error:
            raise protocol_error("parse_error", f"Parse error: {error}") from error
        if not isinstance(envelope, dict):
            raise protocol_error("bad_envelope", "Invalid request")
        check(ENVELOPE, envelope, "bad_envelope")
        return envelope

    def rpc_answer(self, request, outcome, headers=None):
        body = {"jsonrpc": "2.0", "id": rpc_id(request.body), **outcome}
        accepts_events = "text/event-stream" in request.headers.get("Accept", "")
        if self.settings(request)["sse"] and accepts_events:
            event = f"event: message\ndata: {json.dumps(body, ensure_ascii=False)}\n\n"
            return Answer(200, event.encode(), headers or {}, "text/event-stream")
        return Answer(200, body, headers or {})

    def call_tool(self, request, params):
        """Tools: arguments, scope, business and tier are judged before the tool runs."""
        check(CALL, params, "invalid_params")
        name = LEGACY_NAMES.get(params["name"], params["name"])
        tool = TOOLS.get(name)
        if tool is None:
            raise protocol_error("invalid_params", f"Unknown tool: {name}")
        arguments = params.get("arguments", {})
        self.check_arguments(request, tool, arguments)
        self.check_rights(request, tool, arguments)
        return self.wrap(request.config, getattr(self, tool.action)(request, arguments))

    def check_arguments(self, request, tool, arguments):
        schema = dict(tool.schema)
        if tool.action == "submit_form":
            schema[request.config["form_argument"]] = Field("object", required=True)
        nulls_clear = request.config["nulls"] == "clear"
        problems = [problem for problem in find_problems(schema, arguments)
                    if not (nulls_clear and problem.rule == "null"
                            and problem.name in ("first_name", "last_name"))]
        if problems:
            raise protocol_error("invalid_params", describe(problems[0]))

    def check_rights(self, request, tool, arguments):
        """Tiers and scopes: 403 scope_required, 404 business_not_found, 403 tier_required."""
        if tool.scope is not None and tool.scope not in request.grant["scopes"]:
            raise Refusal(403, f"Missing required scope: {tool.scope}", "scope_required")
        if "business_id" not in tool.schema:
            return
        tier = self.business(request, arguments)["subscription_tier"]
        if TIERS[tier] < TIERS[tool.tier]:
            raise Refusal(403, f"This tool requires the {tool.tier.title()} tier or above.",
                          "tier_required")

    def business(self, request, arguments):
        business = request.config["businesses"].get(arguments.get("business_id"))
        if business is None:
            raise Refusal(404, "Business not found.", "business_not_found")
        return business

    def wrap(self, config, result):
        """How a result is carried is not documented: bare, as MCP content, or structured."""
        if config["result"] == "object":
            return result
        wrapped = {"content": [{"type": "text", "text": json.dumps(result)}], "isError": False}
        if config["result"] == "structured":
            wrapped["structuredContent"] = result
        return wrapped

    def server_info(self):
        return {"protocolVersion": "2025-03-26", "capabilities": {"tools": {}},
                "serverInfo": {"name": "caramel-mcp", "version": "1"}}

    def tool_list(self):
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}

    # Tools

    def upsert(self, request, arguments):
        """Sync contacts: by lower-cased trimmed email; consent is not touched, default false."""
        names = {name: arguments[name] for name in ("first_name", "last_name")
                 if name in arguments}
        email = clean_email(arguments.get("email"))
        return self.save(request, arguments["business_id"], email, names, "api")

    def submit_form(self, request, arguments):
        """Forms and audience: validated by the form's fields, runs its handlers, may set
        consent. Rate limits: 10 per 60 s for a form and an address."""
        form_id, config = arguments["form_id"], request.config
        self.enforce(request, [(("form", form_id, request.remote), config["limits"]["form"])])
        form = config["forms"].get(form_id)
        if form is None or not form["active"]:
            raise Refusal(404, "Form not found or not active.", "form_not_found")
        values = arguments[config["form_argument"]]
        check(form_schema(form), values, "invalid_request")
        fields = {name: value for name, value in values.items() if name != "email"}
        if form["marketing_consent"]:
            fields["marketing_consent"] = True
        contact = self.save(request, arguments["business_id"], clean_email(values.get("email")),
                            fields, "form_submit")
        self.run_handlers(request, form_id, form, contact)
        return {"submission_id": f"sub_{next(self.serial):022d}", "contact_id": contact["id"]}

    def run_handlers(self, request, form_id, form, contact):
        self.record(request, "FORM_SUBMITTED", contact, form=form_id)
        if form["enroll"]:
            self.record(request, "JOURNEY_ENROLLED", contact, journey=form["enroll"])
        if form["notify"]:
            self.record(request, "NOTIFICATION_SENT", contact, form=form_id)

    def list_forms(self, request, arguments):
        return {"forms": [{"id": form_id, "active": form["active"], "fields": form["fields"]}
                          for form_id, form in request.config["forms"].items()]}

    def list_businesses(self, request, arguments):
        return {"businesses": [{"id": business_id, **business} for business_id, business
                               in request.config["businesses"].items()]}

    def usage(self, request, arguments):
        """The fields of the usage answer are not documented."""
        wanted = arguments["business_id"]
        return {"business_id": wanted,
                "contacts": sum(contact["business_id"] == wanted
                                for contact in request.account.contacts)}

    def capabilities(self, request, arguments):
        return {"tools": [{"name": name, "tier_required": tool.tier, "scope": tool.scope}
                          for name, tool in TOOLS.items()]}

    # Contacts

    def save(self, request, business_id, email, fields, source):
        """Create or update; returns the contact object, alike for both."""
        self.reject_as_scripted(request, email)
        account, key = request.account, f"{business_id}/{email}"
        contact = account.contacts.find("key", key)
        kind, details = "changed", {"source": source}
        if contact is None:
            contact = account.contacts.insert({
                **self.blank_contact(account), "business_id": business_id, "email": email,
                "key": key, "source": source, **fields})
            kind, details["new"] = "created", contact["id"]
        else:
            account.contacts.change(contact, {**fields, "updated_at": self.clock.iso()})
        if fields.get("marketing_consent"):
            kind = "claimed"
            self.count_consent(request, contact)
        self.felt(account, email, kind, request, **details)
        self.enroll(account, contact, request.config["journeys"], request)
        return {name: value for name, value in contact.items()
                if name not in ("key", "updated_at")}

    def count_consent(self, request, contact):
        """Count the records of consent; there should be one for each consent that was given."""
        consents = request.account.recall("consents")
        consents[contact["key"]] = consents.get(contact["key"], 0) + 1
        if consents[contact["key"]] > 1:
            self.record(request, "consent_claimed_twice", contact, times=consents[contact["key"]])

    def record(self, request, kind, contact, **details):
        request.account.record(kind, self.clock.iso(), contact=contact["id"],
                               email=contact["email"], **details)

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"con_{next(self.serial):022d}", "business_id": None, "email": None,
                "first_name": None, "last_name": None, "locale": None, "phone": None,
                "marketing_consent": False, "source": "api", "tags": [], "key": None,
                "created_at": now, "updated_at": now}

    # People

    def reach(self, account, address):
        return {"campaigns" for contact in account.contacts.find_all("email", address)
                if contact["marketing_consent"]}

    def says_no(self, fields):
        return fields.get("marketing_consent") is False

    def opt_out(self, account, address):
        for contact in self.contacts_of(account, address):
            self.touch(account, contact, marketing_consent=False)

    complain = opt_out

    def signed_up(self, account, address):
        """People sign up by a form, which is the source of their contact from then on."""
        return self.contacts_of(account, address) or [self.insert(account, {
            **self.blank_contact(account), "email": address, "source": "form_submit"})]

    def opt_in(self, account, address):
        for contact in self.signed_up(account, address):
            self.touch(account, contact, marketing_consent=True)

    def insert(self, account, contact):
        return super().insert(account, with_key(account, contact))

    def find_contact(self, account, fields):
        """Emails are unique per business; the first business is the default."""
        return super().find_contact(account, with_key(account, fields))

    def edit_contact(self, account, fields):
        return super().edit_contact(account, with_key(account, fields))

    # OAuth

    @route("GET", "/.well-known/oauth-authorization-server")
    def discovery(self, request):
        base = f"{request.scheme}://{request.headers.get('Host')}/{self.name}"
        return Answer(200, {"issuer": base, "token_endpoint": f"{base}/token",
                            "grant_types_supported": ["authorization_code", "refresh_token"],
                            "token_endpoint_auth_methods_supported": ["none"],
                            "code_challenge_methods_supported": ["S256"]})

    @route("POST", "/token")
    def token(self, request):
        """Authentication: form-encoded, a public client; a refresh token rotates on every use."""
        if request.media_type() != "application/x-www-form-urlencoded":
            raise Refusal(400, "The body must be form-encoded", "invalid_request")
        values = form_values(request)
        unknown = set(values) - {"grant_type", "refresh_token", "client_id", "scope"}
        if unknown:
            raise Refusal(400, f"Unknown parameter {unknown.pop()}", "invalid_request")
        if values.get("grant_type") != "refresh_token":
            raise Refusal(400, "Only refresh_token is supported", "unsupported_grant_type")
        if values.get("client_id") != self.settings(request)["client_id"]:
            raise Refusal(400, "Unknown client_id", "invalid_client")
        tokens = self.tokens.refresh(request.account, values.get("refresh_token"))
        return Answer(200, tokens)

    # REST gateway

    @route("POST", "/gateway/v1/meta/usage")
    def gateway_usage(self, request):
        """Verify the sync: the sample posts JSON without naming its media type."""
        if not request.config["gateway"]:
            raise Refusal(404, "Not found", "not_found")
        try:
            arguments = parse_json(request.body)
        except ValueError as error:
            raise Refusal(400, str(error), "invalid_request") from error
        if not isinstance(arguments, dict):
            raise Refusal(400, "The body must be an object", "invalid_request")
        check({"business_id": BUSINESS_ID}, arguments, "invalid_request")
        self.business(request, arguments)
        return Answer(200, self.usage(request, arguments))


def protocol_error(code, message):
    """An error of JSON-RPC itself: HTTP 200 whatever the configuration."""
    return Refusal(200, message, code)


def check(schema, value, code):
    """Refuse a value that the schema does not allow, with an error of that code."""
    problems = find_problems(schema, value)
    if problems and code in PROTOCOL_CODES:
        raise protocol_error(code, describe(problems[0]))
    if problems:
        raise Refusal(400, describe(problems[0]), code)


def clean_email(email):
    """Deduplication: Caramel trims and lower-cases. Error handling: email_required."""
    cleaned = (email or "").strip().lower()
    if not cleaned:
        raise Refusal(400, "email is required", "email_required")
    if not is_email(cleaned):
        raise Refusal(400, "email is not valid", "invalid_request")
    return cleaned


def form_schema(form):
    return {name: Field(field["type"], required=field.get("required", False))
            for name, field in form["fields"].items()}


def form_values(request):
    return dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))


def rpc_id(body):
    """The id to answer with: null when the request cannot be read."""
    try:
        return json.loads(body).get("id")
    except (ValueError, AttributeError):
        return None


def with_key(account, fields):
    """The fields with the key that an email has within its business."""
    if "email" not in fields:
        return fields
    business_id = fields.get("business_id") or next(iter(account.config["businesses"]))
    return {**fields, "business_id": business_id, "key": f"{business_id}/{fields['email']}"}
