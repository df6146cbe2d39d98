#!/usr/bin/env python3
"""Compare the providers' contacts with the table, and print figures about both.

The contacts come from the sandbox. The expected contacts come from the table and from the demo's own
record in the schema truth, by a query that does not read any data of contactsync. Only the list of failures comes from
contactsync, and it is compared as well: it must contain exactly the customers that are missing at a provider.

Several results are accepted only where the history of a customer or an address justifies each: contactsync reads a row when it
sends it, so that a version that was replaced meanwhile may never have been sent.

usage: compare.py SANDBOX_URL     with psql in PATH, and its PG... variables set

The exit status is 1 if anything differs.
"""

import collections
import json
import subprocess
import sys
import urllib.request

# Each row, and the address that its spelling stands for.
CUSTOMERS = """
SELECT json_build_object('id', c.id::text, 'address', s.address,
	'fault', CASE WHEN c.email IS NULL THEN 'missing_field' ELSE s.fault END,
	'first_name', c.first_name, 'last_name', c.last_name, 'language', c.language, 'plan', c.plan, 'points', c.points,
	'newsletter', c.newsletter)
FROM shop.customers c LEFT JOIN truth.spelling s ON s.raw = c.email
ORDER BY c.id
"""
# Each version that a row has had, and when it was committed; the versions of one transaction are equal in time.
HISTORY = """
SELECT json_build_object('id', h.id::text, 'address', s.address, 'newsletter', h.newsletter, 'there', h.there,
	'committed', extract(epoch FROM pg_xact_commit_timestamp(h.xact)))
FROM truth.history h LEFT JOIN truth.spelling s ON s.raw = h.email
ORDER BY h.seq
"""
ADDRESSES = "SELECT to_json(address) FROM truth.spelling WHERE address IS NOT NULL"
FAILURES = "SELECT json_build_object('server', server, 'id', key, 'reason', reason) FROM contactsync.failures"

LOCALES = ("es", "en", "it", "fr", "ca", "de")      # locales of MailingCore; others are not sent
DIFFERENCES_SHOWN = 10


def rows_of(query):
    """Return the rows of a query that returns JSON."""
    run = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", query],
                         check=True, stdout=subprocess.PIPE)
    return [json.loads(line) for line in run.stdout.decode().splitlines()]


def contacts_of(url, provider):
    with urllib.request.urlopen(f"{url}/control/{provider}/contacts") as answer:
        return json.load(answer)


class Report:
    """Figures to print, and the differences found."""

    def __init__(self):
        self.figures = []
        self.differences = []

    def figure(self, text, number):
        self.figures.append((text, number))

    def expect(self, what, found, wanted):
        if found != wanted:
            self.differences.append(f"{what}: {found!r} instead of {wanted!r}")


def by_address(customers):
    groups = collections.defaultdict(list)
    for customer in customers:
        if customer["address"]:
            groups[customer["address"]].append(customer)
    return groups


class History:
    """All versions of the customers."""

    def __init__(self, versions):
        self.of_customer = collections.defaultdict(list)
        self.of_address = collections.defaultdict(list)     # as (committed, customer, newsletter, what): has, or left
        for version in versions:
            self.of_customer[version["id"]].append(version)
        for customer, own in self.of_customer.items():
            before = None
            for version in own:
                address = version["address"] if version["there"] else None
                if before and before != address:
                    self.of_address[before].append((version["committed"], customer, said, "left"))
                if address:
                    self.of_address[address].append((version["committed"], customer, version["newsletter"], "has"))
                before, said = address, version["newsletter"]
        for events in self.of_address.values():
            events.sort(key=lambda event: event[0])

    def changed(self, customer):
        """When a customer changed last."""
        return self.of_customer[customer][-1]["committed"]

    def has_had(self, customer, address):
        return any(version["address"] == address for version in self.of_customer[customer])

    def inherits(self, customer, address):
        """Did another customer have the address with consent, before this one got it or at the same time? The consent of an
        address is claimed once, so that the contact that gets the address next is created without."""
        came = min(committed for committed, who, _, what in self.of_address[address] if who == customer and what == "has")
        return any(who != customer and newsletter and what == "has" and committed <= came
                   for committed, who, newsletter, what in self.of_address[address])

    def is_opposed(self, customer, address):
        """Did another customer say no for the address in the transaction in which this one came to it? Of what is said at one
        moment, the no counts."""
        came = min(committed for committed, who, _, what in self.of_address[address] if who == customer and what == "has")
        return any(who != customer and not newsletter and what == "has" and committed == came
                   for committed, who, newsletter, what in self.of_address[address])

    def may_lack_consent(self, customer):
        """May MailingCore's contact of a customer who consents lack it? Only if the customer never said anything else, which
        would be a word, and inherited every address, or was opposed at it."""
        own = self.of_customer[customer]
        return all(version["newsletter"] for version in own) and all(
            self.inherits(customer, address) or self.is_opposed(customer, address)
            for address in {version["address"] for version in own} - {None})

    def statuses(self, address):
        """Return the statuses at CampaignLark that are justified if the customer who changed last consents.

        Who has the address and does not consent unsubscribes it whenever they change; a customer who had it and changes
        from no to yes subscribes it. If somebody left it who did not consent, or nobody had it for a moment, nothing
        subscribes it again but a new consent; but that may have passed before it was sent."""
        says, refused, consented, ended = {}, None, None, False
        for committed, customer, newsletter, what in self.of_address[address]:
            if what == "left":
                ended |= not says.pop(customer) or not says
                continue
            if newsletter and says.get(customer) is False:
                consented = committed
            says[customer] = newsletter
        for committed, customer, newsletter, what in self.of_address[address]:
            if what == "has" and says.get(customer) is False and not newsletter:
                refused = committed
        if refused is not None and (consented is None or consented < refused):
            return {"UNSUBSCRIBED"}
        return {"UNSUBSCRIBED", "SUBSCRIBED"} if ended or refused is not None else {"SUBSCRIBED"}


def mailingcore_contact(customer):
    base = customer["language"].split("-")[0]
    return {"email": customer["address"], "locale": base if base in LOCALES else None,
            "optIn": customer["newsletter"],
            "attributes": {"firstName": customer["first_name"], "lastName": customer["last_name"],
                           "plan": customer["plan"], "points": customer["points"]}}


def compare_mailingcore(customers, contacts, failures, history):
    """Expect one contact per customer, identified by the id. If customers share an address, only one of them can exist:
    MailingCore refuses the others, whichever came first. A customer who is refused, or whose address became invalid, keeps
    the contact with an address that the customer had before."""
    report = Report()
    found = {contact["externalId"]: contact for contact in contacts}
    holder = {contact["email"]: contact["externalId"] for contact in contacts}
    right = refused = older = careful = 0
    reasons = {}

    for customer in customers:
        number = customer["id"]
        contact = found.pop(number, None)
        taken = customer["address"] and holder.get(customer["address"], number) != number
        if customer["fault"] or taken:
            reasons[number] = customer["fault"] or "conflict"
            refused += bool(taken)
            older += contact is not None
            if contact and not history.has_had(number, contact["email"]):
                report.expect(f"MailingCore, customer {number}", contact["email"], "an address that the customer has had")
            continue
        wanted = mailingcore_contact(customer)
        got = contact and {name: contact[name] for name in wanted}
        right += got == wanted
        if wanted["optIn"] and got == {**wanted, "optIn": False} and history.may_lack_consent(number):
            careful += 1
            continue
        report.expect(f"MailingCore, customer {number}", got, wanted)
    for number in found:
        report.expect(f"MailingCore, contact {number}", "is there", "deleted")

    report.expect("failures at MailingCore", *only_differing(failures, reasons))
    report.figure("contacts at the provider", len(contacts))
    report.figure("as in the table", right)
    report.figure("without consent, because of another customer with the address", careful)
    report.figure("as before their address became invalid or another customer's", older)
    report.figure("customers refused because another has their address", refused)
    return report


def campaignlark_contact(customer):
    return {"external_id": customer["id"], "first_name": customer["first_name"], "last_name": customer["last_name"],
            "plan": customer["plan"], "points": customer["points"]}


def last_changed(group, history):
    """Return the members of a group that changed last: several, if one transaction changed them."""
    last = max(history.changed(one["id"]) for one in group)
    return [one for one in group if history.changed(one["id"]) == last]


def compare_campaignlark(customers, contacts, failures, addresses, history):
    """Expect one contact per address, that of the customer who changed last, with the consent of the address."""
    report = Report()
    found = {contact["email_address"]: contact for contact in contacts}
    faults = {customer["id"]: customer["fault"] for customer in customers if customer["fault"]}
    right = shared = unordered = careful = 0

    for address, group in by_address(customers).items():
        contact = found.pop(address, None)
        candidates = last_changed(group, history)
        got = contact and (contact["fields"], contact["status"])
        wanted = [(campaignlark_contact(one), "SUBSCRIBED" if one["newsletter"] else "UNSUBSCRIBED") for one in candidates]
        justified = [(campaignlark_contact(one), status) for one in candidates
                     for status in (history.statuses(address) if one["newsletter"] else {"UNSUBSCRIBED"})]
        shared += len(group) > 1
        unordered += len(candidates) > 1
        right += got in wanted
        careful += got in justified and got not in wanted
        if got not in justified:
            report.expect(f"CampaignLark, {address}, of customers {[one['id'] for one in group]}", got, justified)

    # addresses that no customer has any more
    older = left = 0
    for address, contact in found.items():
        customer = contact["fields"].get("external_id")
        if customer in faults and history.has_had(customer, address):
            older += 1
        else:
            left += 1
            report.expect(f"CampaignLark, {address}, which no customer has", contact["status"], "UNSUBSCRIBED")
        report.expect(f"CampaignLark, {address}", "made up" if address not in addresses else "known", "known")

    report.expect("failures at CampaignLark", *only_differing(failures, faults))
    report.figure("contacts at the provider", len(contacts))
    report.figure("as in the table", right)
    report.figure("of these, shared by several customers", shared)
    report.figure("... changed in one transaction, so that either may be last", unordered)
    report.figure("unsubscribed, because another customer with the address does not consent, or left it", careful)
    report.figure("as before their address became invalid", older)
    report.figure("unsubscribed because no customer has the address now", left)
    return report


def only_differing(found, wanted):
    """Return the entries that differ between two dictionaries."""
    return ({key: value for key, value in found.items() if wanted.get(key) != value},
            {key: value for key, value in wanted.items() if found.get(key) != value})


def failures_of(failures, server):
    return {failure["id"]: failure["reason"] for failure in failures if failure["server"] == server}


def show(title, report, failures):
    print(f"\n{title}")
    for text, number in report.figures:
        print(f"{number:>9,}  {text}")
    reasons = collections.Counter(failures.values())
    print(f"{len(failures):>9,}  failures: "
          + (", ".join(f"{number:,} {reason}" for reason, number in sorted(reasons.items())) or "none"))
    print(f"{len(report.differences):>9,}  differences")
    for line in report.differences[:DIFFERENCES_SHOWN]:
        print(f"           {line}")


def main():
    url = sys.argv[1]
    customers = rows_of(CUSTOMERS)
    addresses = set(rows_of(ADDRESSES))
    history = History(rows_of(HISTORY))
    failures = rows_of(FAILURES)
    groups = by_address(customers)

    print("\nThe table")
    print(f"{len(customers):>9,}  customers")
    print(f"{sum(len(group) for group in groups.values()):>9,}  with an address that mail can go to, in any spelling")
    print(f"{len(groups):>9,}  different addresses")

    mailingcore = compare_mailingcore(customers, contacts_of(url, "mailingcore"), failures_of(failures, "mailingcore"), history)
    show("MailingCore, one contact per customer", mailingcore, failures_of(failures, "mailingcore"))
    campaignlark = compare_campaignlark(customers, contacts_of(url, "campaignlark"),
                                        failures_of(failures, "campaignlark"), addresses, history)
    show("CampaignLark, one contact per address, of the customer who was changed last", campaignlark,
         failures_of(failures, "campaignlark"))
    return 1 if mailingcore.differences or campaignlark.differences else 0


if __name__ == "__main__":
    sys.exit(main())
