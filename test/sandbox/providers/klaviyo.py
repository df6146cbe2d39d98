"""Klaviyo, from its pages "Bulk Import Profiles", "Get Errors for Bulk Import Profiles Job", "Get Profiles", "Bulk Subscribe Profiles",
"Bulk Unsubscribe Profiles", "Request Profile Deletion", and "Rate limits, status codes, and errors".

    POST /api/profile-bulk-import-jobs                       up to 10,000 profiles: 202 with the job
    GET /api/profile-bulk-import-jobs/{id}                   status queued, processing, complete; completed_count, failed_count
    GET /api/profile-bulk-import-jobs/{id}/import-errors     pages of up to 100, with the original_payload of each
    POST /api/profile-subscription-bulk-create-jobs          up to 1,000 profiles: 202 without a body; lifts unsubscriptions
    POST /api/profile-subscription-bulk-delete-jobs          up to 100
    GET /api/profiles                                        filter any(email,[...]), equals(email,"..."), greater-than(updated,TIME)
    POST /api/data-privacy-deletion-jobs                     202
    errors: {"errors": [{"id", "status", "code", "title", "detail", "source": {"pointer"}}]}

Every request needs a revision. A job is done when it was asked for as often as the setting "polls" says.
"""

import json
import re
from urllib.parse import urlencode

from exchange import Answer, Refusal, parse_json
from providers.base import Provider, make_cursor, parse_cursor, query_parameters, route, whole_number
from schema import Field, describe, find_problems, is_email

MEDIA_TYPE = "application/vnd.api+json"
PROFILE = {"email": Field("string"), "phone_number": Field("string"), "external_id": Field("string"), "first_name": Field("string"), "last_name": Field("string"),
           "locale": Field("string"), "location": Field("object"), "properties": Field("object")}
FILTERS = {"any": re.compile(r'any\(email,(\[.*\])\)'), "equals": re.compile(r'equals\(email,(".*")\)'), "newer": re.compile(r"greater-than\(updated,(.*)\)")}


class Klaviyo(Provider):
    name = "klaviyo"
    default_account = "klaviyo_sandbox"
    unique_fields = ("id", "email")
    updated_field = "updated"
    acts = ("opt_out", "opt_in", "complain", "confirm")

    def defaults(self):
        return {
            "keys": {"pk_sandbox": {}},
            "lists": {"Y6nRLr": {"double": False}},
            "polls": 1,                     # how often a job is asked for before it is done
            "mails_segments": False,        # whether campaigns go to profiles that never subscribed
            "limits": {"calls": {"kind": "fixed", "limit": 10, "seconds": 1}},
        }

    def identify(self, request):
        match = re.fullmatch(r"Klaviyo-API-Key (\S+)", request.headers.get("Authorization", ""))
        request.account, request.grant = self.accounts.by_key(match and match.group(1))

    def admit(self, request, found):
        if request.account is None:
            raise Refusal(401, "Incorrect authentication credentials.", code="authentication_failed")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d(\.\w+)?", request.headers.get("revision", "")):
            raise Refusal(400, "The revision header is missing or not valid.", code="invalid")
        verdict = self.throttle(request, [(("calls",), request.config["limits"]["calls"])])
        if verdict is not None and not verdict.allowed:
            raise Refusal(429, "Request was throttled.", code="throttled", headers={"Retry-After": "1"})

    def refuse(self, request, refusal):
        pointer = refusal.details.get("pointer", "/data")
        return Answer(refusal.status, {"errors": [{"id": f"e{next(self.serial)}", "status": refusal.status, "code": refusal.code or "invalid", "title": "Invalid input.",
                                                   "detail": refusal.message, "source": {"pointer": pointer}}]}, headers=refusal.headers, media_type=MEDIA_TYPE)

    def data(self, request, kind):
        """The attributes and relationships of a JSON:API document of this type."""
        if request.media_type() != MEDIA_TYPE:
            raise Refusal(415, f"Content-Type must be {MEDIA_TYPE}")
        try:
            data = parse_json(request.body)["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(400, "The body is no document of JSON:API") from error
        if data.get("type") != kind or set(data) - {"type", "attributes", "relationships"}:
            raise Refusal(400, f"'{data.get('type')}' is not the resource type {kind}")
        return data["attributes"], data.get("relationships", {})

    @staticmethod
    def profiles(attributes, most):
        items = attributes.get("profiles", {}).get("data")
        if not isinstance(items, list) or not 1 <= len(items) <= most:
            raise Refusal(400, f"profiles must have from 1 to {most} elements", pointer="/data/attributes/profiles")
        if any(item.get("type") != "profile" or not isinstance(item.get("attributes"), dict) for item in items):
            raise Refusal(400, "profiles must have the type profile", pointer="/data/attributes/profiles")
        return [item["attributes"] for item in items]

    # Import

    @route("POST", "/api/profile-bulk-import-jobs")
    def import_profiles(self, request):
        attributes, _ = self.data(request, "profile-bulk-import-job")
        items = self.profiles(attributes, 10_000)
        for item in items:
            if problems := find_problems(PROFILE, item):
                raise Refusal(400, describe(problems[0]), pointer="/data/attributes/profiles/data")
        errors = [error for item in items if (error := self.write(request, item))]
        job = {"id": f"job{next(self.serial)}", "total": len(items), "errors": errors, "asked": 0}
        request.account.recall("jobs")[job["id"]] = job
        return Answer(202, self.present_job(request, job), media_type=MEDIA_TYPE)

    def write(self, request, item):
        """Create or update a profile; return what is listed as an error of it, or None."""
        account = request.account
        try:
            self.reject_as_scripted(request, item.get("email"))
            if not is_email(item.get("email", "")):
                raise Refusal(400, "Invalid email address", code="invalid", pointer="/email")
            if "phone_number" in item and not re.fullmatch(r"\+\d{7,15}", item["phone_number"]):
                raise Refusal(400, "Invalid phone number", code="invalid", pointer="/phone_number")
        except Refusal as refusal:
            return {"type": "import-error", "id": f"i{next(self.serial)}", "attributes": {"code": refusal.code or "invalid", "title": "Invalid input.", "detail": refusal.message,
                    "source": {"pointer": refusal.details.get("pointer", "/email")}, "original_payload": item}}
        profile = account.contacts.find("email", item["email"])
        known = profile is not None
        if known:
            self.touch(account, profile, **{**item, "properties": {**profile["properties"], **item.get("properties", {})}})
        else:
            profile = self.insert(account, {**self.blank_contact(account), **item})
        self.felt(account, item["email"], "changed" if known else "created", request, **({} if known else {"new": profile["id"]}))
        return None

    def job(self, request):
        job = request.account.recall("jobs").get(request.parameters["id"])
        if job is None:
            raise Refusal(404, "A bulk profile import job with this id does not exist.", code="not_found")
        return job

    def present_job(self, request, job):
        done = job["asked"] > request.config["polls"]
        return {"data": {"type": "profile-bulk-import-job", "id": job["id"], "attributes": {
            "status": "complete" if done else "processing" if job["asked"] > 1 else "queued", "total_count": job["total"],
            "completed_count": job["total"] - len(job["errors"]) if done else 0, "failed_count": len(job["errors"]) if done else 0}}}

    @route("GET", "/api/profile-bulk-import-jobs/{id}")
    def get_job(self, request):
        job = self.job(request)
        job["asked"] += 1
        return Answer(200, self.present_job(request, job), media_type=MEDIA_TYPE)

    @route("GET", "/api/profile-bulk-import-jobs/{id}/import-errors")
    def get_errors(self, request):
        options = query_parameters(request, ("page[size]", "page[cursor]", "fields[import-error]"))
        return self.page(request, self.job(request)["errors"], options)

    def page(self, request, items, options):
        size = whole_number(options.get("page[size]", "20"), "page[size]", 1, 100)
        start = parse_cursor(options["page[cursor]"], int)[0] if "page[cursor]" in options else 0
        more = start + size < len(items)
        link = f"https://a.klaviyo.com{request.path}?" + urlencode({"page[size]": size, "page[cursor]": make_cursor([start + size])})
        return Answer(200, {"data": items[start:start + size], "links": {"self": "x", "next": link if more else None}}, media_type=MEDIA_TYPE)

    # Consent

    def each(self, request, kind, most, wanted):
        attributes, relationships = self.data(request, kind)
        items = self.profiles(attributes, most)
        listed = relationships.get("list", {}).get("data", {}).get("id")
        if listed is not None and listed not in request.config["lists"]:
            raise Refusal(404, f"A list with id {listed} does not exist.", code="not_found")
        for item in items:
            if item.get("subscriptions", {}).get("email", {}).get("marketing", {}).get("consent") != wanted or not is_email(item.get("email", "")):
                raise Refusal(400, f"consent must be {wanted}", pointer="/data/attributes/profiles/data/0/attributes/subscriptions")
        return items, listed

    @route("POST", "/api/profile-subscription-bulk-create-jobs")
    def subscribe(self, request):
        items, listed = self.each(request, "profile-subscription-bulk-create-job", 1000, "SUBSCRIBED")
        account = request.account
        for item in items:
            profile, = self.signed_up(account, item["email"])
            if listed and request.config["lists"][listed]["double"]:
                self.felt(account, item["email"], "asked", request)
                self.mailed(account, item["email"], "confirmation", request)
                continue
            self.touch(account, profile, consent="SUBSCRIBED", suppressed=False, lists=sorted({*profile["lists"], *([listed] if listed else [])}))
            self.felt(account, item["email"], "claimed", request)
        return Answer(202)

    @route("POST", "/api/profile-subscription-bulk-delete-jobs")
    def unsubscribe(self, request):
        items, _ = self.each(request, "profile-subscription-bulk-delete-job", 100, "UNSUBSCRIBED")
        for item in items:
            for profile in self.signed_up(request.account, item["email"]):
                self.touch(request.account, profile, consent="UNSUBSCRIBED", lists=[])
            self.felt(request.account, item["email"], "withdrawn", request)
        return Answer(202)

    # Reading and deleting

    @route("GET", "/api/profiles")
    def list(self, request):
        options = query_parameters(request, ("filter", "additional-fields[profile]", "fields[profile]", "page[size]", "page[cursor]", "sort"))
        found = [self.present(profile, "subscriptions" in options.get("additional-fields[profile]", "")) for profile in self.filtered(request, options.get("filter"))]
        return self.page(request, found, options)

    def filtered(self, request, text):
        contacts = request.account.contacts
        if text is None:
            return list(contacts)
        for name, pattern in FILTERS.items():
            match = pattern.fullmatch(text)
            if match and name == "newer":
                return [profile for profile in contacts if profile["updated"] > match.group(1)]
            if match:
                try:
                    wanted = json.loads(match.group(1))
                except ValueError:
                    break
                wanted = wanted if isinstance(wanted, list) else [wanted]
                if len(wanted) <= 100:
                    return [profile for email in wanted for profile in [contacts.find("email", email)] if profile]
        raise Refusal(400, f"The filter {text} is not valid", code="invalid")

    @staticmethod
    def present(profile, with_subscriptions):
        attributes = {name: profile.get(name) for name in (*PROFILE, "created", "updated")}
        if with_subscriptions:
            attributes["subscriptions"] = {"email": {"marketing": {"can_receive_email_marketing": profile["consent"] != "UNSUBSCRIBED" and not profile["suppressed"],
                                                                   "consent": profile["consent"], "suppression": []}}}
        return {"type": "profile", "id": profile["id"], "attributes": attributes}

    @route("POST", "/api/data-privacy-deletion-jobs")
    def erase(self, request):
        attributes, _ = self.data(request, "data-privacy-deletion-job")
        profile = request.account.contacts.find("email", attributes["profile"]["data"]["attributes"]["email"])
        if profile:
            self.drop_contact(request.account, profile, request)
        return Answer(202)

    def blank_contact(self, account):
        now = self.clock.iso()
        return {"id": f"01K{next(self.serial)}", "email": None, "properties": {}, "consent": "NEVER_SUBSCRIBED", "suppressed": False, "lists": [], "created": now, "updated": now}

    # People

    def reach(self, account, address):
        reach = set()
        for profile in self.contacts_of(account, address):
            if profile["suppressed"] or profile["consent"] == "UNSUBSCRIBED":
                continue
            if profile["consent"] == "SUBSCRIBED":
                reach |= {"subscribed", *(f"list {name}" for name in profile["lists"])}
            elif account.config["mails_segments"]:
                reach.add("segments")
        return reach

    def says_no(self, fields):
        return fields.get("consent") == "UNSUBSCRIBED"

    def opt_out(self, account, address):
        for profile in self.contacts_of(account, address):
            self.touch(account, profile, consent="UNSUBSCRIBED", lists=[])

    complain = opt_out

    def opt_in(self, account, address):
        for profile in self.signed_up(account, address):
            self.touch(account, profile, consent="SUBSCRIBED", suppressed=False)

    confirm = opt_in
