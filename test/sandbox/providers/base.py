"""What the five providers share: routes, accounts, credentials, rate limits, JSON bodies.

A provider states its facts as class attributes and answers with methods marked @route. answer()
is pure in the sense that it neither waits nor knows of connections, so the order of requests is
the order of their effects.
"""

import base64
import itertools
import json
import math
from typing import NamedTuple, Optional

from account import Accounts
from exchange import Refusal, decode_segment, parse_json
from faults import Faults
from journal import Journal
from ratelimit import RateLimits


class Route(NamedTuple):
    method: str
    segments: tuple
    scope: Optional[str]
    action: str


def route(method, path, scope=None):
    """Mark a method as what answers `method` on `path`; {name} is a path parameter."""
    def mark(function):
        function.routes = getattr(function, "routes", []) + [(method, path, scope)]
        return function
    return mark


class Provider:
    name = ""                 # also the path prefix
    default_account = ""
    unique_fields = ()        # by which stored contacts are found
    shared_fields = ()        # that several contacts can have alike, and are found by
    address_field = "email"   # what a person is known by
    acts = ()                 # of a person: see act()
    updated_field = ""        # where a contact carries the time of its last change
    credentials = ("keys",)   # the settings that a new account does not inherit

    def __init__(self, clock, journal_limit=100_000):
        self.clock = clock
        self.accounts = Accounts(self.default_account, self.defaults(), self.unique_fields,
                                 self.shared_fields, self.credentials)
        self.journal = Journal(clock, journal_limit)
        self.faults = Faults(clock)
        self.limits = RateLimits(clock)
        self.serial = itertools.count(1)

    def __init_subclass__(cls):
        cls.routes = [Route(method, tuple(path.split("/")), scope, name)
                      for name, member in vars(cls).items()
                      for method, path, scope in getattr(member, "routes", ())]

    # What a provider must say of itself

    def defaults(self):
        """The configuration of a new account."""
        raise NotImplementedError

    def admit(self, request, found):
        """Rate limits and authentication, in the provider's order; raises Refusal."""
        raise NotImplementedError

    def refuse(self, request, refusal):
        """The Answer that words a Refusal in the provider's error shape."""
        raise NotImplementedError

    def blank_contact(self, account):
        """A contact as it is created when nothing is known of it, with its id."""
        raise NotImplementedError

    def reach(self, account, address):
        """Return the names of the kinds of mail that can reach an address at present."""
        raise NotImplementedError

    def says_no(self, fields):
        """Whether these fields, if set at the dashboard, are an opt-out."""
        raise NotImplementedError

    def answered(self, request, answer):
        """Called with the answer that a fault gave, for providers that keep their answers."""

    # The life of a request

    def identify(self, request):
        """Find whom the credentials belong to, before anything is checked."""
        request.account, request.grant = self.accounts.by_key(request.bearer())

    def received(self, request):
        """Called when the body is there, for requests whose account only the body tells."""

    def answer(self, request):
        try:
            answer = self.handle(request)
        except Refusal as refusal:
            answer = self.refuse(request, refusal)
        answer.headers = {**request.reply_headers, **answer.headers}
        return answer

    def handle(self, request):
        found = self.find_route(request)
        self.admit(request, found)
        return self.perform(request, found)

    def perform(self, request, found):
        """What is left to do for an admitted request."""
        if found is None:
            raise Refusal(404, f"Cannot {request.method} {request.path}")
        if found.scope is not None and found.scope not in request.grant.get("scopes", ()):
            raise self.missing_scope(found.scope)
        return getattr(self, found.action)(request)

    def find_route(self, request):
        """The route that a request takes, its path parameters noted in it; or None."""
        segments = self.route_path(request).split("/")
        for candidate in self.routes:
            if candidate.method == request.method and fits(candidate.segments, segments):
                request.parameters = self.path_parameters(candidate.segments, segments)
                return candidate
        return None

    def route_path(self, request):
        return request.path

    def path_parameters(self, pattern, segments):
        try:
            return {name.strip("{}"): decode_segment(segment)
                    for name, segment in zip(pattern, segments) if name.startswith("{")}
        except ValueError as error:
            raise self.malformed_path(error) from error

    def malformed_path(self, error):
        return Refusal(400, f"Malformed path: {error}")

    def missing_scope(self, scope):
        return Refusal(403, f"Missing required scope: {scope}")

    # Helpers for providers

    def throttle(self, request, limits):
        """Count the request against [(what, limit)]; the verdict, or None if nothing limits."""
        account = request.account.name if request.account else None
        return self.limits.pass_through([((account, *what), spec) for what, spec in limits])

    def settings(self, request):
        """The configuration that holds for a request, the default one for a stranger's."""
        return (request.account or self.accounts.get(None)).config

    def reject_as_scripted(self, request, *keys, status=400):
        """Refuse a contact that a scripted partial failure names by one of its keys."""
        rejection = request.rejection(*keys)
        if rejection is not None:
            raise Refusal(rejection.get("status", status),
                          rejection.get("message", "Rejected as scripted"),
                          code=rejection.get("code"))

    def json_object(self, request):
        """The body, which must be a JSON object sent as such."""
        body = self.json_body(request)
        if not isinstance(body, dict):
            raise Refusal(400, "The request body must be a JSON object")
        return body

    def json_body(self, request):
        if request.media_type() != "application/json":
            raise Refusal(400, "Content-Type must be application/json")
        try:
            return parse_json(request.body)
        except ValueError as error:
            raise Refusal(400, f"The request body is not valid JSON: {error}") from error

    def find_contact(self, account, fields):
        """The contact that one of these fields identifies, or None."""
        return account.contacts.find_any(fields)

    # People

    def felt(self, account, address, kind, request=None, by="request", **details):
        """Add what was done to a contact of this address to the history of the person.

        Call it afterwards. `kind` is claimed, withdrawn, asked, created, changed, removed, edited,
        or an act of the person. A re-subscription is added to the account's events as well.
        """
        if address is None:
            return
        moment = {"time": self.clock.iso(), "journal": self.journal.last()}
        if request is not None:
            moment["journal"] = request.entry["seq"]
        over = account.people.felt(address, kind, moment, by, self.reach(account, address),
                                   here=len(self.contacts_of(account, address)), **details)
        if over:
            account.record("resubscribed", moment["time"], email=address, over=over,
                           request=moment["journal"])

    def mailed(self, account, address, what, request=None, by="request"):
        """Add a mail that the provider sends by itself to the history of the person."""
        moment = {"time": self.clock.iso(),
                  "journal": request.entry["seq"] if request else self.journal.last()}
        account.people.note(address, "mailed", moment, by, what=what)

    def enroll(self, account, contact, journeys, request=None):
        """Enrol a contact, once, in each journey {name: {active, segment}} whose segment it matches."""
        enrolled = account.recall("enrolled", set)
        for name, journey in journeys.items():
            matches = all(contact.get(field) == value
                          for field, value in journey.get("segment", {}).items())
            if journey["active"] and matches and (name, contact["id"]) not in enrolled:
                enrolled.add((name, contact["id"]))
                account.record("JOURNEY_ENROLLED", self.clock.iso(), contact=contact["id"],
                               email=contact[self.address_field], journey=name)
                self.mailed(account, contact[self.address_field], f"journey {name}", request)

    def act(self, account, address, act, options):
        """Do what a person can do with a link or a form: opt_out, opt_in, complain or confirm.

        Return the person's report. An opt-in of an unknown address creates a contact.
        """
        if act not in self.acts:
            raise ValueError(f"{act} is not one of {', '.join(self.acts)}")
        kind = {"opt_out": "opted_out", "opt_in": "opted_in", "complain": "complained",
                "confirm": "confirmed"}[act]
        getattr(self, act)(account, address, **options)
        self.felt(account, address, kind, by="person", **options)
        return account.people.report(address)[0]

    def contacts_of(self, account, address):
        """The contacts of an address, oldest first."""
        if self.address_field in self.shared_fields:
            return account.contacts.find_all(self.address_field, address)
        return [contact for contact in [account.contacts.find(self.address_field, address)] if contact]

    def signed_up(self, account, address):
        """The contacts of an address; create one if there is none."""
        return self.contacts_of(account, address) or [
            self.insert(account, {**self.blank_contact(account), self.address_field: address})]

    def insert(self, account, contact):
        """Keep a new contact."""
        return account.contacts.insert(contact)

    def touch(self, account, contact, **changes):
        """Change a contact, and the time of its last change."""
        return account.contacts.change(contact, {**changes, self.updated_field: self.clock.iso()})

    # The dashboard

    def edit_contact(self, account, fields):
        """Create or change a contact from outside the API, as a person at the dashboard would."""
        contact = self.find_contact(account, fields)
        before = contact and contact[self.address_field]
        if contact is None:
            contact = self.insert(account, {**self.blank_contact(account), **fields})
        else:
            self.touch(account, contact, **fields)
        kind = "opted_out" if self.says_no(fields) else "edited"
        for address in {before, contact[self.address_field]} - {None}:
            self.felt(account, address, kind, by="dashboard")
        return contact

    def drop_contact(self, account, contact, request=None):
        """Remove a contact for good."""
        account.contacts.remove(contact)
        self.felt(account, contact[self.address_field], "removed", request,
                  "request" if request else "dashboard", contact=contact["id"],
                  external_id=contact.get("external_id") or contact.get("externalId"))


def fits(pattern, segments):
    return len(pattern) == len(segments) and all(
        name.startswith("{") and segment != "" or name == segment
        for name, segment in zip(pattern, segments))


def limit_headers(verdict, prefix="X-RateLimit-"):
    """Limit, remaining and reset (unix seconds) as most providers send them."""
    if verdict is None:
        return {}
    return {prefix + "Limit": str(verdict.limit), prefix + "Remaining": str(verdict.remaining),
            prefix + "Reset": str(math.ceil(verdict.reset))}


def query_parameters(request, known):
    """The query as a dict; Refusal for a name that is unknown or there twice."""
    pairs = request.query()
    for name, _ in pairs:
        if name not in known:
            raise Refusal(400, f"Unknown query parameter {name}")
    if len(dict(pairs)) != len(pairs):
        raise Refusal(400, "A query parameter was given twice")
    return dict(pairs)


def make_cursor(place):
    """An opaque cursor for a place in a sorted list: the values that it is sorted by."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def parse_cursor(text, *types):
    """The place that a cursor stands for, whose values must be of these types."""
    try:
        place = json.loads(base64.urlsafe_b64decode(text))
    except ValueError:
        place = None
    if not isinstance(place, list) or tuple(map(type, place)) != types:
        raise Refusal(400, "The cursor is not valid")
    return place


def whole_number(text, name, low, high):
    """A query parameter as a number within bounds; Refusal if it is not one."""
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise Refusal(400, f"{name} must be a number from {low} to {high}")
    return int(text)
