"""Judge what chaos.py did: give the history of each cell to the oracle of consent, and check the calls of each account.

The checks of the calls are these:

    order       a request carries, for each contact, values that were committed, and none older than those before
    overlap     there is one call in flight for one contact
    key         an idempotency key stands for one body
    pace        the calls of an account go through one bucket, whatever process makes them
"""

import bisect
import collections
import json
import re
import time

from consent_accounts import BUILT_IN
from consent_oracle import FAILING, SHOWN, Verdict, shorten
from consent_world import brief, difference, relevant

OF_CELL = re.compile(r"(?:@s|[EM]p\d+c)(\d+)(?:\.example)?", re.I)
WORD_STEP = re.compile(r"step (\d+)\)$")
NAMES = ("name", "first_name", "firstName")
IDENTITIES = ("external_id", "externalId", "email", "email_address")
KEPT = 5000                 # steps, requests and events of each cell that are kept to be told
AFTER_CUT = 1.5             # seconds in which a call of a process that has gone can be under way


def cells_of(words):
    return {int(found[1]) for word in words for found in [OF_CELL.search(word)] if found}


def values_of(document):
    """Return (identity, name) of each contact in the body of a request."""
    if isinstance(document, list):
        for item in document:
            yield from values_of(item)
    elif isinstance(document, dict):
        identity = next((document[name] for name in IDENTITIES if isinstance(document.get(name), str)), None)
        inside = [document] + [document[name] for name in ("attributes", "data", "fields") if isinstance(document.get(name), dict)]
        name = next((part[name] for part in inside for name in NAMES if isinstance(part.get(name), str)), None)
        if identity and name:
            yield identity, name
        for item in document.values():
            if isinstance(item, (dict, list)):
                yield from values_of(item)


class Values:
    """Which names each contact of a cell had, commit by commit, to judge the order of requests of one account."""

    def __init__(self, account):
        self.account = account
        self.states = []            # (at, {identity: names})
        self.undone = []            # (at, until, {identity: names})
        self.reached = collections.Counter()

    def add(self, at, rows):
        self.states.append((at, self._names(rows)))

    def add_undone(self, at, until, rows):
        """Add what was committed without waiting for the disk, and undone by a crash, which was noticed at "until"."""
        self.undone.append((at, until, self._names(rows)))

    def _names(self, rows):
        names = collections.defaultdict(set)
        for row in rows.values():
            if row.live:
                names[row.address].add(row.name)
                names[self.account.identity(row)].add(row.name)
        return names

    def judge(self, entry, identity, name):
        """Return what is wrong with a request, or None."""
        first = self.reached[identity]
        for number in range(first, len(self.states)):
            at, names = self.states[number]
            if at > entry["monotonic"]:
                break
            if name in names[identity]:
                self.reached[identity] = number
                return None
        if any(at <= entry["monotonic"] <= until and name in names[identity] for at, until, names in self.undone):
            return None
        known = any(name in names[identity] for _, names in self.states)
        return f"request {entry['seq']} carries {name} for {identity}, which {'is older than what was sent before' if known else 'was not committed'}"

    def forget(self):
        """Keep the last state only."""
        self.states, self.undone, self.reached = self.states[-1:], [], collections.Counter()


class Bucket:
    """The calls of an account, as its pace allows them."""

    def __init__(self, account, speed):
        self.rate, self.burst = float(account.options["pace"]) * speed, float(account.options["burst"])
        self.tokens, self.at, self.lowest = self.burst, None, self.burst

    def add(self, at):
        if self.at is not None:
            self.tokens = min(self.burst, self.tokens + max(0, at - self.at) * self.rate)
        self.tokens, self.at = self.tokens - 1, max(at, self.at or at)
        self.lowest = min(self.lowest, self.tokens)

    def exceeded(self):
        """Whether the calls took more than half of another bucket: less than that is calls that were on their way for unequal times."""
        return self.lowest < -max(self.burst / 2, 3)


class Judge:
    """Judges all tenants at each quiet point."""

    def __init__(self, place, tenants):
        self.place, self.tenants = place, tenants
        self.counts = collections.Counter()
        self.quiets, self.held = [], set()
        self.cuts = []              # the times at which a process was stopped, by the monotonic clock
        self.problems = []
        self.shown = collections.Counter()
        self.marks = dict.fromkeys(BUILT_IN, 0)
        self.keys, self.buckets, self.latest, self.values = {}, {}, {}, {}
        for tenant in tenants:
            for account in tenant.accounts.values():
                self.buckets[account.name, account.provider] = Bucket(account, place.SPEED)

    def was_cut(self, begin, end):
        position = bisect.bisect_right(self.cuts, begin - 0.1)
        return position < len(self.cuts) and self.cuts[position] < end + AFTER_CUT

    def problem(self, kind, text):
        self.counts[kind] += 1
        if self.counts[kind] <= 10:
            self.problems.append(f"{kind}: {text}")
            print(f"{kind}: {text}", flush=True)

    def stuck(self, tenant, state):
        """Report accounts that do not come to rest, with their last calls."""
        for server in sorted({server for server, *_ in state}):
            account = next(account for account in tenant.accounts.values() if account.server == server)
            self.problem("stuck", f"{server}: {[rest for name, *rest in state if name == server]}")
            for entry in self.place.sandbox.call("GET", f"{account.provider}/journal?account={account.name}")[-12:]:
                print(f"    #{entry['seq']} {entry['method']} {entry['path']} {shorten(entry['body'] or '')} -> {entry['status']}", flush=True)

    def quiet(self, last=False):
        """Judge what has happened since the last quiet point. Nothing is under way."""
        self.quiets.append(time.monotonic())
        journals = {name: self._read_journal(name) for name in BUILT_IN}
        for tenant in self.tenants:
            failures = collections.defaultdict(dict)
            for server, key, upsert_key, *reason in tenant.sql("SELECT server, key, upsert_key, reason, code, message FROM contactsync.failures"):
                failures[server][upsert_key or key] = ", ".join(filter(None, reason))
            self.held = set(tenant.sql("""
                SELECT server, lower(upsert_key) FROM contactsync.contacts WHERE consent IN ('held', 'opted out')
                UNION ALL SELECT e.server, lower(r.upsert_key) FROM contactsync.source_row r JOIN contactsync.endpoint e ON e.id = r.endpoint
                WHERE r.withheld""", user="admin"))
            for account in tenant.accounts.values():
                self._judge_account(tenant, account, *journals[account.provider], failures[account.server], last)
            for cell in tenant.cells:
                cell.past_ops = (cell.past_ops + cell.ops)[-KEPT:]
                cell.ops, cell.undone = [], []

    def _read_journal(self, provider):
        """Return when requests have arrived at a provider since the last quiet point, as (time, number), and the requests by account."""
        mark = self.marks[provider]
        journal = self.place.sandbox.call("GET", f"{provider}/journal?since={mark}")
        arrivals, by_account = [(float("-inf"), mark)], collections.defaultdict(list)
        for entry in journal:
            arrivals.append((entry["monotonic"], entry["seq"]))
            by_account[entry["account"]].append(entry)
        self.marks[provider] = arrivals[-1][1]
        return arrivals, by_account

    def _judge_account(self, tenant, account, arrivals, by_account, failures, last):
        name, call, of, journal = account.provider, self.place.sandbox.call, f"account={account.name}", by_account[account.name]
        people = call("GET", f"{name}/mailable?{of}&since={account.seen}")
        contacts = call("GET", f"{name}/contacts?{of}")
        account.seen = max([account.seen] + [event["seq"] for person in people for event in person["events"]])
        self.counts["calls"] += len(journal)
        identities = collections.Counter(account.identity_of(contact) or account.address_of(contact) for contact in contacts)
        twins = []
        for identity, number in identities.items():
            if number > 1:
                self.problem("duplicate", f"{account.server} has {number} contacts for {identity}")
                twins.append(identity)
        self._check_calls(account, journal)
        parts = collections.defaultdict(lambda: ([], [], []))
        for entry in journal:
            for number in cells_of(entry["keys"]):
                parts[number][0].append(entry)
        for person in people:
            for number in cells_of([person["email"]]):
                parts[number][1].append(person)
        for contact in contacts:
            for number in cells_of([account.address_of(contact) or account.identity_of(contact) or ""]):
                parts[number][2].append(contact)
        for cell in tenant.cells:
            self._judge_cell(cell, account, arrivals, *parts[cell.index], failures, last)
            for identity in twins[:self.place.options.show]:
                if cells_of([identity]) == {cell.index}:
                    self._tell(cell, account, Verdict("duplicate", identity, None, "has several contacts", cell.step_number))

    # Calls

    def _check_calls(self, account, journal):
        bucket = self.buckets[account.name, account.provider]
        before = bucket.exceeded()
        for entry in journal:
            bucket.add(entry["monotonic"])
            key = next((value for header, value in entry["headers"] if header.lower() == "idempotency-key"), None)
            if key is not None:
                body = self.keys.setdefault((account.name, account.provider, key), (entry["path"], entry["body"], entry["seq"]))
                if body[:2] != (entry["path"], entry["body"]):
                    self.problem("key", f"{account.server}: requests {body[2]} and {entry['seq']} have the key {key}, and different bodies")
            self.counts["faults met"] += bool(entry["fault"])
            self._check_overlap(account, entry)
        if bucket.exceeded() and not before:
            self.problem("pace", f"{account.server}: {-bucket.lowest:.0f} calls more than a burst of {bucket.burst:.0f} and {account.options['pace']}/s allow")

    def _check_overlap(self, account, entry):
        # the sandbox does not notice when the client stops waiting, nor how long the request was on its way: what lasts for more
        # than half of the time for which the client waits counts until then
        begin = entry["monotonic"]
        surely = float(account.options["timeout"].rstrip("s")) / self.place.SPEED / 2
        end = begin + min(surely if entry["duration"] is None else entry["duration"], surely)
        for key in {key.lower() for key in entry["keys"]}:
            before = self.latest.get((account.name, account.provider, key))
            if before and before[0] > begin + 0.02 and not self.was_cut(before[2], begin):
                self.problem("overlap", f"{account.server}: requests {before[1]} and {entry['seq']} for {key} overlap by {before[0] - begin:.3f} s")
            if before is None or end > before[0]:
                self.latest[account.name, account.provider, key] = end, entry["seq"], begin

    # Contacts and consent

    def _judge_cell(self, cell, account, arrivals, journal, people, contacts, failures, last):
        ledger, name = cell.ledgers[account.provider], account.provider
        self._check_order(cell, account, journal)
        events = sorted(((event["seq"], person["email"], event) for person in people for event in person["events"]), key=lambda item: item[0])
        told = [entry for entry in journal if not self.was_cut(entry["monotonic"], entry["monotonic"] + (entry["duration"] or 0))]
        present = cell.told.setdefault(name, {})
        position = 0
        for step, op in enumerate((op for op in cell.ops if op.provider in (None, name)), cell.step_number + 1):
            if op.kind == "act":
                mark, stop = op.data[3], lambda item, op=op: item[0] >= op.data[2]
            else:
                while position + 1 < len(arrivals) and arrivals[position + 1][0] < op.at:
                    position += 1
                mark = arrivals[position][1]
                stop = lambda item, mark=mark: item[2]["journal"] > mark
            self._feed(ledger, events, told, present, mark, stop)
            self._apply(ledger, op, step, mark, {address for address, here in present.items() if here})
        self._feed(ledger, events, told, present, float("inf"), lambda item: False)
        cell.past_entries[name] = (cell.past_entries[name] + journal)[-KEPT:]
        cell.past_people[name] = (cell.past_people[name] + people)[-KEPT:]
        ledger.step = cell.step_number + len(cell.ops) + 1
        ledger.quiet(cell.rows, contacts, people, failures)
        if last:
            ledger.finish(cell.rows, contacts, people)
        for verdict in ledger.verdicts:
            if self._is_held(cell, account, verdict):
                verdict.kind = "held"
            self.counts["lost"] += verdict.kind == "stale" and verdict.text.startswith("the provider has no contact")
            self.counts[verdict.kind] += 1
            if verdict.kind in FAILING:
                self.counts["verdicts"] += 1
                self.shown[name, verdict.kind] += 1
                if self.shown[name, verdict.kind] <= self.place.options.show:
                    self._tell(cell, account, verdict)
        ledger.verdicts.clear()
        if name == list(cell.accounts)[-1]:
            cell.step_number += len(cell.ops) + 1

    def _is_held(self, cell, account, verdict):
        """Whether a word was missed, and contactsync says that consent is held, or that the person opted out, or another row said
        no: "a word that is given within moments of other changes of the same person can be missed; the contact is held then, or
        remains unsubscribed if another row said no" (docs/consent.md)."""
        address = verdict.address
        if verdict.kind != "stale" or not verdict.text.startswith("consent did not arrive"):
            return False
        keys = {address} | {account.identity(row).lower() for row in cell.rows.values() if row.address == address}
        # the word may be older than this round, if the person had no row then
        ops = cell.ops if int(WORD_STEP.search(verdict.text)[1]) > cell.step_number else cell.past_ops + cell.ops
        changes = sum(any(row.address == address and rows.get(row.uid) != row for row in [*op.data[1].values(), *op.data[2].values()]
                          for rows in op.data[1:3]) for op in ops if op.kind == "rows")
        yes = {row.uid for row in cell.rows.values() if row.address == address and row.opt}
        others_no = {row.uid for op in ops if op.kind == "rows" for rows in op.data[1:3] for row in rows.values()
                     if row.address == address and row.live and row.opt is False} - yes
        return changes > 1 and (bool(others_no) or any((account.server, key) in self.held for key in keys))

    def _feed(self, ledger, events, told, present, mark, stop):
        """Have a ledger read what happened at the provider up to a request or an event."""
        while told and told[0]["seq"] <= mark:
            ledger.answered(told.pop(0))
        part = []
        while events and not stop(events[0]):
            part.append(events.pop(0))
            if "here" in part[-1][2]:
                present[part[-1][1].lower()] = part[-1][2]["here"] > 0
        if part:
            ledger.read([{"email": address, "events": [event]} for _, address, event in part])

    @staticmethod
    def _apply(ledger, op, step, mark, present):
        ledger.step = step
        if op.kind == "rows":
            _, before, after, rewritten = op.data
            ledger.committed(step, mark, before, after, present, rewritten)
        elif op.kind == "act":
            ledger.person(step, *op.data[:2], op.data[3])
        elif op.kind == "watch":
            ledger.account.watched[op.data] = {}
        elif op.kind == "unwatch":
            ledger.account.watched.pop(op.data, None)
            ledger.unwatched(ledger.rows, op.data)
        elif op.kind == "import":
            ledger.imported(step, mark, ledger.rows, present, {op.data})

    def _check_order(self, cell, account, journal):
        values = self.values.setdefault((cell.index, account.provider), Values(account))
        for op in cell.ops:
            if op.kind == "rows":
                if not values.states:
                    values.add(0, op.data[1])
                values.add(op.at, op.data[2])
        for undone in cell.undone:
            values.add_undone(*undone)
        for entry in journal:
            if not entry["body"]:
                continue
            try:
                document = json.loads(entry["body"])
            except ValueError:
                continue
            for identity, name in values_of(document):
                if cells_of([identity]) == {cell.index}:
                    wrong = values.judge(entry, identity.lower() if "@" in identity else identity, name)
                    if wrong:
                        self.problem("order", f"{account.server}: {wrong}")
        values.forget()

    def _tell(self, cell, account, verdict):
        """Print the history of one person."""
        address = verdict.address
        exts = cell.kin[address]
        print(f"\n{cell.tenant.role}, {account.provider}: {verdict}\n  {account.describe()}, table {cell.kind}, cell {cell.index}")
        items = []
        for op in cell.past_ops + cell.ops:
            if op.provider not in (None, account.provider):
                continue
            text = f"{op.kind} {op.data}"
            if op.kind == "rows":
                text, before, after, _ = op.data
                differing = [uid for uid in {**before, **after} if before.get(uid) != after.get(uid) and any(
                    row and (row.address == address or row.ext in exts) for row in (before.get(uid), after.get(uid)))]
                if not differing:
                    continue
                text += ": " + "; ".join(difference(before.get(uid), after.get(uid)) for uid in sorted(differing))
            elif op.kind == "act" and op.data[0] != address:
                continue
            items.append((op.at, text))
        felt = collections.defaultdict(list)
        for person in cell.past_people[account.provider]:
            for event in person["events"]:
                if event["by"] == "request" and (person["email"] == address or event.get("external_id") in exts):
                    felt[event["journal"]].append(event["kind"] + "".join(
                        f" {sign}{reach}" for sign, found in (("+", event.get("gained")), ("-", event.get("lost"))) for reach in found or ())
                        + (f" ({person['email']})" if person["email"] != address else ""))
        for entry in cell.past_entries[account.provider]:
            keys = {key.lower() for key in entry["keys"]}
            if address in keys or exts & set(entry["keys"]) or entry["seq"] in felt:
                fault = f", answer lost: {json.dumps(entry['fault']['action'])}" if entry["fault"] else ""
                cut = ", cut" if self.was_cut(entry["monotonic"], entry["monotonic"] + (entry["duration"] or 0)) else ""
                items.append((entry["monotonic"], f"#{entry['seq']:<6} {entry['method']} {entry['path']} "
                              f"{shorten(relevant(entry['body'], {address} | exts))} -> {entry['status']}{fault}{cut}"
                              f"{'   ** ' + ', '.join(felt[entry['seq']]) if felt[entry['seq']] else ''}"))
        items += [(cut, "--- a process is stopped") for cut in self.cuts[::2]]
        items += [(at, "=== quiet") for at in self.quiets]
        for at, text in sorted(items):
            print(f"    {at - self.place.began:8.3f}  {text}")
        print("    rows: " + "; ".join(brief(row) for row in cell.rows.values() if row.address == address or row.ext in exts))
        for table in ("contact", "source_row"):
            for (stored,) in cell.tenant.sql(f"""
                    SELECT json_strip_nulls(row_to_json(t))::text FROM contactsync.{table} t JOIN contactsync.endpoint e ON e.id = t.endpoint
                    WHERE e.server = %s AND t.upsert_key = ANY (%s)""", (account.server, [address, *exts]), user="admin"):
                print(f"    stored in {table}: {stored}", flush=True)

    def harmed(self):
        return sum(self.counts[kind] for kind in FAILING if kind not in ("stale", "stuck"))

    def shown_verdicts(self):
        return {kind: self.counts[kind] for kind in (*SHOWN, "held")}
