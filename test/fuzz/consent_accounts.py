"""The accounts of consent.py, one class for each provider: server options, mapping, and the facts that the oracle needs."""

import copy
import json
from urllib.parse import parse_qsl, urlsplit

BUILT_IN = ("mailingcore", "campaignlark", "owlat", "spotzee", "caramel")
DEFINED = ("brevo", "mailchimp", "loops", "webhook")    # by definitions that are shipped
TOPICS = {"single": "topica00000000000000000000000000", "double": "topicb00000000000000000000000000",
          "other": "topicc00000000000000000000000000"}


class Account:
    """One account at a provider: its server, options and mapping, and the facts that the oracle needs."""

    path = ""
    withholds = False           # creating a contact makes it mailable
    can_withdraw = True
    proves_absence = True       # a lookup or an answer shows whether the provider knows an address
    carries = True              # the product can send a consent
    can_list = False            # contactsync_pull() lists who is at the provider
    looks_first = False         # the first request of a contact that is not known is a lookup, which claims nothing
    on_delete_choices = ("ignore", "unsubscribe", "delete")

    def __init__(self, name, number, rng, features):
        self.provider, self.rng, self.features = name, rng, features
        self.server, self.name = name, f"w{number}"
        self.generation = 0
        self.on_delete = rng.choice(self.on_delete_choices)
        self.maps_opt_in = True
        self.maps_opt_at = features["opt_in_at"] and rng.random() < 0.3
        self.attribute = False          # whether the mapping has an additional field
        self.options = {"pace": "500", "burst": "100", "bulk_guard": "0", "max_retries": "30", "timeout": "60s"}
        self.watched = {}               # the arguments of contactsync_watch() by table
        self.imported = set()           # tables that were imported or reconciled since then
        self.quiet_mark = 0
        self.grant = {}                 # what a key is allowed to
        self.choose()

    def choose(self):
        """Choose the options that differ between seeds."""

    @property
    def key(self):
        return f"{self.provider}_{self.name}_{self.generation}"

    def secret(self):
        return {"api_key": self.key}

    def config(self):
        """Return the settings of the account in the sandbox that are not the default."""
        return {}

    def key_config(self, old=None):
        """Return the settings that accept the key, and no longer another one."""
        return {"keys": {**({old: {**self.grant, "revoked": True}} if old else {}), self.key: self.grant}}

    def backup(self):
        """Return what a restored backup brings back."""
        return {name: copy.deepcopy(value) for name, value in self.__dict__.items() if name not in ("generation", "grant", "left", "quiet_mark", "rng")}

    def fields(self):
        """Return the provider's own part of the mapping."""
        raise NotImplementedError

    def mapping(self):
        mapping = {"email": "email", **self.fields()}
        if self.maps_opt_in:
            mapping["opt_in"] = "opt"
        if self.maps_opt_at:
            mapping["opt_in_at"] = "opt_at"
        return mapping

    # Facts for the oracle

    def identity(self, row):
        return row.address

    def is_of(self, contact, row):
        """Whether a contact belongs to a row."""
        return self.address_of(contact) == row.address

    @staticmethod
    def address_of(contact):
        return (contact.get("email") or contact.get("email_address") or "").lower()

    def values(self, contact):
        return self.address_of(contact), self.name_of(contact)

    def name_of(self, contact):
        raise NotImplementedError

    def subscribed(self, person, contacts):
        """Whether a consent that the product sent is in force."""
        return bool(person) and person["mailable"]

    def reads(self, row):
        """The values of a row that the mapping uses."""
        return (row.address, row.name, self.identity(row), self.maps_opt_in and row.opt, self.maps_opt_at and row.opt_at)

    def address_follows(self, old, new):
        """Whether the contact moves along when a row gets another address."""
        return self.identity(old) == self.identity(new)

    def told_by(self, entry):
        """Addresses whose opt-out a successful answer to this request shows."""
        return ()

    def identity_of(self, contact):
        """The identity of a contact at the provider, where that is not its address."""
        return None

    def carries_to(self, address, contacts):
        """Whether the product can send a consent to this address."""
        return self.carries

    def contacts_of(self, row, contacts):
        """The contacts that belong to a row."""
        return [contact for contact in contacts if self.is_of(contact, row)]

    def is_mailed(self, contact):
        """Whether this contact can be mailed, where an address can have several."""
        return True

    def removed_identities(self, event, address):
        """What rows of the contact that a request removed or withdrew have as identities, where that can be something else than the address."""
        return set()

    def leaves(self, address, event):
        """Whether a request gave the contact of this address, which is found by it, another one."""
        return False

    def acted(self, address, act):
        """Note what a person did at the provider."""

    def may_fail(self, reason, row, standing):
        return False

    def free(self, event):
        return False

    def can_delete(self, contact):
        return True

    def describe(self):
        return (f"{self.provider}: on_delete {self.on_delete}, mapping {json.dumps(self.mapping())}, "
                f"options {json.dumps(self.options)}")


class MailingCore(Account):
    path = "/mailingcore"
    can_list = True

    def choose(self):
        self.external = self.rng.random() < 0.5
        self.on_delete = self.rng.choice(("ignore", "unsubscribe", "delete") if self.external else ("ignore", "unsubscribe"))
        self.options.update({"tenant_id": self.name, "batch_size": self.rng.choice(["1", "3", "1000"])})

    @property
    def key(self):
        return f"mc_test_{self.name}_{self.generation}"

    def fields(self):
        fields = {"attributes": {"name": "name", **({"more": "uid"} if self.attribute else {})}}
        if self.external:
            fields["external_id"] = "mc_ext"
        return fields

    def identity(self, row):
        return (self.external and row.mc_ext) or row.address

    def is_of(self, contact, row):
        if self.external and row.mc_ext and contact["externalId"] is not None:
            return contact["externalId"] == row.mc_ext
        return self.address_of(contact) == row.address

    def contacts_of(self, row, contacts):
        """Without a contact of its external id, that of the address."""
        found = super().contacts_of(row, contacts)
        return [contact for contact in found if contact["externalId"] and contact["externalId"] == row.mc_ext] or found

    def identity_of(self, contact):
        return contact["externalId"] if self.external else None

    def removed_identities(self, event, address):
        return {event.get("external_id"), address} - {None} if self.external else set()

    def can_delete(self, contact):
        return contact["externalId"] is not None

    def name_of(self, contact):
        return (contact["attributes"] or {}).get("name")

    def may_fail(self, reason, row, standing):
        # an address can belong to one external id only
        return reason.startswith("conflict") and self.external


class CampaignLark(Account):
    path = "/campaignlark/v1"
    on_delete_choices = ("ignore", "unsubscribe")

    def choose(self):
        self.options.update({"check_fields": "false", "new_contacts": "unsubscribed"})
        if self.rng.random() < 0.5:
            self.options["on_email_change"] = "unsubscribe"

    def fields(self):
        return {"first_name": "name", **({"attributes": {"points": "uid"}} if self.attribute else {})}

    def name_of(self, contact):
        return contact["fields"].get("first_name")

    def told_by(self, entry):
        return [key.lower() for key in entry["keys"]]


class Owlat(Account):
    path = "/owlat"
    withholds = True

    def choose(self):
        self.topic = TOPICS[self.rng.choice(["single", "single", "double"])]
        self.options["topic_id"] = self.topic
        self.follow = self.rng.random() < 0.5
        self.left = set()           # addresses of contacts that have another one now
        if self.follow:
            self.options["on_email_change"] = "follow"
        if self.rng.random() < 0.15:
            self.maps_opt_in = self.maps_opt_at = False

    @property
    def key(self):
        return f"lm_live_{self.name}{self.generation}".ljust(40, "x")

    def fields(self):
        return {"first_name": "name", **({"last_name": "'X' || uid"} if self.attribute else {})}

    def name_of(self, contact):
        return contact["firstName"]

    def may_fail(self, reason, row, standing):
        # "PUT that changes email does not move the identity that POST checks: ... the old address stays taken (409)"; the copy
        # equals "every watched row that may be sent", and not "a row the provider refuses"
        return reason.startswith("conflict") and "has another address now" in reason and row.address in self.left

    def carries_to(self, address, contacts):
        # "the old address stays taken (409)": nobody can be created there, nor join, while no contact has it
        return address not in self.left or any(self.address_of(contact) == address for contact in contacts)

    def leaves(self, address, event):
        if event.get("left"):
            self.left.add(address)
        return event.get("left", False)

    def subscribed(self, person, contacts):
        return bool(person) and any(
            self.topic in contact["topics"] for contact in contacts if contact["email"] == person["email"])

    def address_follows(self, old, new):
        return self.follow

    def told_by(self, entry):
        if entry["method"] == "DELETE" and "/topics/" in entry["path"]:
            return [key.lower() for key in entry["keys"]]
        return ()


class Spotzee(Account):
    path = "/spotzee/api/client"
    withholds = True
    proves_absence = False
    on_delete_choices = ("ignore", "delete")

    def choose(self):
        self.maps_opt_in = self.features["spotzee_opt_in"] and self.rng.random() < 0.8
        self.maps_opt_at = self.maps_opt_at and self.maps_opt_in
        self.can_withdraw = False
        self.api = self.rng.choice(["contacts", "users"])
        self.options.update({"batch_size": self.rng.choice(["1", "100"]), "api": self.api})
        if self.features["spotzee_auto"]:
            self.options["api"] = "auto"
        if self.maps_opt_in and self.features["spotzee_subscription"] and self.rng.random() < 0.5:
            self.options["subscription_id"] = "5"
            self.can_withdraw = True

    @property
    def key(self):
        return f"sk_{self.name}_{self.generation}"

    def config(self):
        return {"paths": self.api if self.features["spotzee_auto"] else "both"}

    def fields(self):
        return {"external_id": "ext", "first_name": "name", **({"attributes": {"more": "uid"}} if self.attribute else {})}

    def identity(self, row):
        return row.ext

    def is_of(self, contact, row):
        return contact["external_id"] == row.ext

    def identity_of(self, contact):
        return contact["external_id"]

    def carries_to(self, address, contacts):
        """Without a subscription, consent is claimed by creating a contact, and by nothing else."""
        return "subscription_id" in self.options or not any(self.address_of(contact) == address for contact in contacts)

    def is_mailed(self, contact):
        return contact["subscriptions"].get("5") != 0

    def removed_identities(self, event, address):
        return {event.get("external_id")} - {None}

    def name_of(self, contact):
        return contact["first_name"] or (contact["data"] or {}).get("first_name")


class Caramel(Account):
    path = "/caramel/mcp"
    can_withdraw = False
    proves_absence = False
    on_delete_choices = ("ignore",)

    def choose(self):
        self.options.update({"business_id": "bus_01h7m9k0aabcdefghj1234567", "form_id": "frm_import", "form_pace": "500"})
        self.carries = self.rng.random() < 0.7
        if self.carries:
            self.options["route"] = "form"

    def secret(self):
        return {"access_token": self.key}

    def fields(self):
        return {"first_name": "name", **({"last_name": "'X' || uid"} if self.attribute else {})}

    def name_of(self, contact):
        return contact["first_name"]

    def may_fail(self, reason, row, standing):
        return "consent_kept" in reason


class Brevo(Account):
    path = "/brevo/v3"
    can_list = True
    looks_first = True

    def choose(self):
        self.options["list_id"] = "2"

    def fields(self):
        return {"first_name": "name", **({"attributes": {"PLAN": "uid"}} if self.attribute else {})}

    def name_of(self, contact):
        return contact["attributes"].get("FIRSTNAME")


class Mailchimp(Account):
    path = "/mailchimp/3.0"

    def choose(self):
        self.options.update({"data_center": "us1", "list_id": "list1", "new_contacts": self.rng.choice(["transactional", "unsubscribed"])})
        self.left = set()           # who left by the form, also if the member was archived since

    def fields(self):
        return {"first_name": "name", **({"attributes": {"PLAN": "uid"}} if self.attribute else {})}

    def name_of(self, contact):
        return contact["merge_fields"].get("FNAME")

    def told_by(self, entry):
        return [key.lower() for key in entry["keys"]] if entry["method"] == "PUT" else ()

    def may_fail(self, reason, row, standing):
        # "A person who left by Mailchimp's own form cannot be subscribed by the API."
        return "Mailchimp's own form" in reason

    def acted(self, address, act):
        (self.left.discard if act in ("opt_in", "confirm") else self.left.add)(address)

    def carries_to(self, address, contacts):
        return address not in self.left


class Loops(Account):
    path = "/loops/v1"
    looks_first = True

    def told_by(self, entry):
        return [value.lower() for name, value in parse_qsl(urlsplit(entry["path"]).query) if name == "email"] if entry["method"] == "GET" else ()

    def fields(self):
        return {"first_name": "name", **({"attributes": {"plan": "uid"}} if self.attribute else {})}

    def name_of(self, contact):
        return contact["firstName"]


class Webhook(Account):
    """A service of one's own, which finds contacts by an external id, or by the address."""

    def choose(self):
        self.external = self.rng.random() < 0.5
        self.options["batch_size"] = self.rng.choice(["1", "3", "100"])

    @property
    def path(self):
        return f"/webhook/{self.name}"

    def secret(self):
        return {"signing_secret": self.key}

    def key_config(self, old=None):
        return {"secret": self.key}

    def config(self):
        return {"tolerance": None}

    def fields(self):
        fields = {"first_name": "name", **({"attributes": {"plan": "uid"}} if self.attribute else {})}
        if self.external:
            fields["external_id"] = "ext"
        return fields

    def identity(self, row):
        return row.ext if self.external else row.address

    def is_of(self, contact, row):
        return contact["external_id"] == row.ext if self.external else super().is_of(contact, row)

    def identity_of(self, contact):
        return contact["external_id"] if self.external else None

    def removed_identities(self, event, address):
        return {event.get("external_id")} - {None} if self.external else set()

    def is_mailed(self, contact):
        return bool(contact["opt_in"])

    def name_of(self, contact):
        return contact.get("first_name")


CLASSES = {"mailingcore": MailingCore, "campaignlark": CampaignLark, "owlat": Owlat, "spotzee": Spotzee, "caramel": Caramel,
           "brevo": Brevo, "mailchimp": Mailchimp, "loops": Loops, "webhook": Webhook}
