#!/usr/bin/env python3
"""Compare the providers' contacts with the table, and print figures about both.

The contacts come from the sandbox. The expected contacts come from the table and from the demo's own
record in the schema truth, by a query that does not read any data of contactsync. Only the list of failures comes from
contactsync, and it is compared as well: it must contain exactly the customers that are missing at a provider.

usage: compare.py SANDBOX_URL     with psql in PATH, and its PG... variables set

The exit status is 1 if anything differs.
"""

import collections
import json
import subprocess
import sys
import urllib.request

# Each row, the address that its spelling stands for, and the transaction that changed it last.
CUSTOMERS = """
SELECT json_build_object('id', c.id::text, 'address', s.address,
	'fault', CASE WHEN c.email IS NULL THEN 'missing_field' ELSE s.fault END,
	'first_name', c.first_name, 'last_name', c.last_name, 'language', c.language, 'plan', c.plan, 'points', c.points,
	'newsletter', c.newsletter,
	'xact', h.xact::text::bigint, 'committed', extract(epoch FROM pg_xact_commit_timestamp(h.xact)))
FROM shop.customers c
	LEFT JOIN truth.spelling s ON s.raw = c.email
	JOIN LATERAL (SELECT xact FROM truth.history h WHERE h.id = c.id ORDER BY seq DESC LIMIT 1) h ON true
ORDER BY c.id
"""
ADDRESSES = "SELECT to_json(address) FROM truth.spelling WHERE address IS NOT NULL"
# Addresses for which a customer once withdrew the consent, or that a customer once had.
WITHDRAWN = """
SELECT to_json(s.address)
FROM truth.history h JOIN truth.spelling s ON s.raw = h.email LEFT JOIN shop.customers c ON c.id = h.id
	LEFT JOIN truth.spelling now ON now.raw = c.email
WHERE s.address IS NOT NULL GROUP BY s.address
HAVING bool_or(NOT h.newsletter OR now.address IS DISTINCT FROM s.address)
"""
# Customers whose address another customer had before with consent, and whose own consent was always the same. The person's
# consent was claimed for the other contact, so it is not claimed again for this one.
CLAIMED = """
SELECT to_json(c.id::text)
FROM shop.customers c JOIN truth.spelling s ON s.raw = c.email
WHERE c.newsletter AND NOT EXISTS (SELECT FROM truth.history h WHERE h.id = c.id AND NOT h.newsletter)
	AND EXISTS (SELECT FROM truth.history h JOIN truth.spelling o ON o.raw = h.email
		WHERE h.id <> c.id AND o.address = s.address AND h.newsletter)
"""
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


def mailingcore_contact(customer):
    base = customer["language"].split("-")[0]
    return {"email": customer["address"], "locale": base if base in LOCALES else None,
            "optIn": customer["newsletter"],
            "attributes": {"firstName": customer["first_name"], "lastName": customer["last_name"],
                           "plan": customer["plan"], "points": customer["points"]}}


def compare_mailingcore(customers, contacts, failures, claimed):
    """Expect one contact per customer, identified by the id. If customers share an address, only one of them can exist:
    MailingCore refuses the others, whichever came first. Consent that was claimed for a contact before is not claimed
    again for another one; such contacts are counted."""
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
            older += contact is not None    # the contact as it was before its address became invalid
            continue
        wanted = mailingcore_contact(customer)
        got = contact and {name: contact[name] for name in wanted}
        right += got == wanted
        if number in claimed and got == {**wanted, "optIn": False}:
            careful += 1
            continue
        report.expect(f"MailingCore, customer {number}", got, wanted)
    for number in found:
        report.expect(f"MailingCore, contact {number}", "is there", "deleted")

    report.expect("failures at MailingCore", *only_differing(failures, reasons))
    report.figure("contacts at the provider", len(contacts))
    report.figure("as in the table", right)
    report.figure("without the consent that was claimed before for another customer with the address", careful)
    report.figure("as before their address became invalid", older)
    report.figure("customers refused because another has their address", refused)
    return report


def campaignlark_contact(customer):
    return {"external_id": customer["id"], "first_name": customer["first_name"], "last_name": customer["last_name"],
            "plan": customer["plan"], "points": customer["points"]}


def last_changed(group):
    """Return the members of a group that may have changed last: overlapping transactions have no order."""
    return [one for one in group
            if not any(other["xact"] > one["xact"] and other["committed"] > one["committed"] for other in group)]


def compare_campaignlark(customers, contacts, failures, addresses, withdrawn):
    """Expect one contact per address, that of the customer who changed last. If a customer withdrew the consent or left the
    address, two other results are accepted and counted: an unsubscribed contact, and that of any customer with the address."""
    report = Report()
    found = {contact["email_address"]: contact for contact in contacts}
    faults = {customer["id"]: customer["fault"] for customer in customers if customer["fault"]}
    right = shared = unordered = careful = 0

    for address, group in by_address(customers).items():
        contact = found.pop(address, None)
        candidates = last_changed(group)
        wanted = [(campaignlark_contact(one), "SUBSCRIBED" if one["newsletter"] else "UNSUBSCRIBED") for one in candidates]
        got = contact and (contact["fields"], contact["status"])
        shared += len(group) > 1
        unordered += len(candidates) > 1
        right += got in wanted
        safe = [(campaignlark_contact(one), status) for one in group
                for status in ("UNSUBSCRIBED", "SUBSCRIBED" if one["newsletter"] else "UNSUBSCRIBED")]
        if got not in wanted and address in withdrawn and got in safe:
            careful += 1
        elif got not in wanted:
            report.expect(f"CampaignLark, {address}, of customers {[one['id'] for one in group]}", got, wanted[0])

    # addresses that no customer has any more
    older = left = 0
    for address, contact in found.items():
        if contact["fields"].get("external_id") in faults:
            older += 1
        else:
            left += 1
            report.expect(f"CampaignLark, {address}, which no customer has", contact["status"], "UNSUBSCRIBED")
        report.expect(f"CampaignLark, {address}", "made up" if address not in addresses else "known", "known")

    report.expect("failures at CampaignLark", *only_differing(failures, faults))
    report.figure("contacts at the provider", len(contacts))
    report.figure("as in the table", right)
    report.figure("of these, shared by several customers", shared)
    report.figure("... changed at the same time, so that either may be last", unordered)
    report.figure("unsubscribed, or of another customer with the address, because one withdrew or left", careful)
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
    withdrawn = set(rows_of(WITHDRAWN))
    failures = rows_of(FAILURES)
    groups = by_address(customers)

    print("\nThe table")
    print(f"{len(customers):>9,}  customers")
    print(f"{sum(len(group) for group in groups.values()):>9,}  with an address that mail can go to, in any spelling")
    print(f"{len(groups):>9,}  different addresses")

    mailingcore = compare_mailingcore(customers, contacts_of(url, "mailingcore"), failures_of(failures, "mailingcore"),
                                      set(rows_of(CLAIMED)))
    show("MailingCore, one contact per customer", mailingcore, failures_of(failures, "mailingcore"))
    campaignlark = compare_campaignlark(customers, contacts_of(url, "campaignlark"),
                                        failures_of(failures, "campaignlark"), addresses, withdrawn)
    show("CampaignLark, one contact per address, of the customer who was changed last", campaignlark,
         failures_of(failures, "campaignlark"))
    return 1 if mailingcore.differences or campaignlark.differences else 0


if __name__ == "__main__":
    sys.exit(main())
