"""The environment of a history: its database, its accounts in the sandbox, its ledgers, and the report of a verdict."""

import collections
import json
import random
import time

import psycopg2

from consent_accounts import CLASSES, TOPICS
from consent_oracle import Ledger, Row, shorten

QUIET_SECONDS = 60


class Stuck(Exception):
    """No account comes to rest any more."""


class World:
    """One database, with one account at each provider."""

    ATTEMPTS = 5        # to run a statement

    def __init__(self, place, seed):
        self.place, self.seed = place, seed
        self.rng = random.Random(seed)
        self.database = f"w{seed}"
        self.step_number = 0
        self.latest = 0             # the step of the last commit or act, with a fraction that orders those of one step
        self.lines = []             # (step, {provider: mark}, addresses or None, provider or None, text)
        self.rows = {}
        self.uids = 0
        self.stash = []             # deleted rows, which can be inserted again
        self.backup = None          # a dump, and what accounts and ledgers were like then
        self.broken = []
        self.kin = collections.defaultdict(set)     # all external ids that an address has had
        self.accounts = {name: CLASSES[name](name, seed, random.Random(f"{seed}/{name}"), place.features) for name in place.options.providers}
        self.every_account = dict(self.accounts)    # including those that got stuck, which the history no longer touches
        self.ledgers = {name: Ledger(account) for name, account in self.accounts.items()}
        self.kind = self.rng.choice(["plain", "plain", "part", "text"])
        for ledger in self.ledgers.values():
            ledger.partitioned = self.kind == "part"
        self.people = [f"p{number}" for number in range(6)]

    def connect(self, user="sender"):
        return self.place.connect(self.database, user)

    def sql(self, sql, parameters=None, user="sender"):
        """Run statements in one transaction, and repeat them if the server goes down, or lacks memory."""
        for attempt in range(self.ATTEMPTS):
            try:
                return self.place.run(self.connect(user), sql, parameters)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if attempt == self.ATTEMPTS - 1 or isinstance(error, psycopg2.extensions.QueryCanceledError):
                    raise
                time.sleep(0.2)
        return None

    def read_rows(self):
        rows = {}
        for table in ("w", "x"):
            for record in self.sql(f"SELECT uid, region, id::text, ext, mc_ext, email, opt, opt_at, name, live FROM {table}"):
                uid, region, number, *rest = record
                rows[uid] = Row(table, uid, (region, number), *rest)
        for row in rows.values():
            self.kin[row.address] |= {row.ext, row.mc_ext} - {None}
        return rows

    def call(self, method, path, document=None):
        return self.place.sandbox.call(method, path, document)

    def marks(self):
        return {name: self.call("GET", f"{name}/count?account={account.name}")["last"] for name, account in self.every_account.items()}

    def contacts(self, account):
        return self.call("GET", f"{account.provider}/contacts?account={account.name}")

    def mailable(self, account):
        return self.call("GET", f"{account.provider}/mailable?account={account.name}")

    def note(self, text, addresses=None, provider=None, marks=None):
        self.lines.append((self.step_number, marks or self.marks(), addresses, provider, text))
        if self.place.options.verbose:
            print(f"    {self.step_number:3} {provider or ''} {text}", flush=True)

    def open_account(self, account):
        config = self.call("GET", f"{account.provider}/config")
        account.grant = next(iter(config["keys"].values()), {})
        settings = {"account": account.name, **account.key_config(), **account.config(), "limits": {name: None for name in config["limits"]}}
        if account.provider == "owlat":
            settings["topics"] = {TOPICS["single"]: {"double_opt_in": False}, TOPICS["double"]: {},
                                  TOPICS["other"]: {"double_opt_in": False}}
        self.call("POST", f"{account.provider}/config", settings)

    def make_server(self, account):
        options = ", ".join(f"{name} '{value}'" for name, value in {
            "provider": account.provider, "base_url": self.place.sandbox.url + account.path, **account.options}.items())
        secret = ", ".join(f"{name} '{value}'" for name, value in account.secret().items())
        self.sql(f"CREATE SERVER {account.server} FOREIGN DATA WRAPPER contactsync OPTIONS ({options});"
                 f"CREATE USER MAPPING FOR CURRENT_USER SERVER {account.server} OPTIONS ({secret})")

    def attempt(self, account, sql, parameters=None):
        """Run a statement that can be refused, and note the refusal."""
        try:
            return self.sql(sql, parameters)
        except psycopg2.Error as error:
            self.note(f"refused: {str(error).strip().splitlines()[0]} ({sql})", None, account and account.provider)
            return None

    def present(self, account):
        return {account.address_of(contact) for contact in self.contacts(account)}

    def address(self, person):
        return f"{person}@s{self.seed}.example"

    def next_moment(self):
        """Return a number for a commit, an act or an import, between this step and the next."""
        self.latest = max(self.latest, self.step_number) + 0.001
        return round(self.latest, 3)

    def fresh(self):
        self.uids += 1
        return self.uids

    def change(self, text, sql, rewrites=None):
        """Commit a change of rows, and inform the ledgers. rewrites is a table whose rows it deletes and inserts again."""
        marks, before = self.marks(), self.rows
        present = {name: self.present(account) for name, account in self.accounts.items()}
        try:
            self.sql(sql)
        except psycopg2.IntegrityError as error:
            self.note(f"{text}: {str(error).splitlines()[0]}", set())
            return
        self.rows = self.read_rows()
        differing = [uid for uid in {**before, **self.rows} if before.get(uid) != self.rows.get(uid)]
        touched = {row.address for uid in differing for row in (before.get(uid), self.rows.get(uid)) if row}
        self.note(f"{text}: " + ("; ".join(difference(before.get(uid), self.rows.get(uid)) for uid in sorted(differing)) or "nothing"),
                  touched, None, marks)
        moment, rewritten = self.next_moment(), {uid for uid, row in self.rows.items() if row.table == rewrites}
        for name in self.accounts:
            self.ledgers[name].committed(moment, marks[name], before, self.rows, present[name], rewritten)

    def some_row(self, table=None):
        rows = [row for row in self.rows.values() if table in (None, row.table)]
        live = [row for row in rows if row.live]
        return self.rng.choice(live if live and self.rng.random() < 0.7 else rows) if rows else None

    def some_account(self):
        return self.rng.choice(list(self.accounts.values()))

    def act(self, account, address, act, **options):
        report = self.call("POST", f"{account.provider}/people",
                           {"account": account.name, "email": address, "act": act, **options})
        self.ledgers[account.provider].person(self.next_moment(), address, act, report["events"][-1]["journal"])
        self.note(f"{act} at {account.provider}", {address}, account.provider)

    def quiet(self):
        """Wait until everything is sent, and let the ledgers check the result."""
        for account in self.accounts.values():
            self.call("DELETE", f"{account.provider}/fault?account={account.name}")
        end, state = time.monotonic() + QUIET_SECONDS, None
        while time.monotonic() < end:
            try:
                state = self.sql("""
                    SELECT * FROM (
                        SELECT server, source::text, state, reason, backlog, in_flight FROM contactsync.status WHERE backlog > 0 OR in_flight > 0
                        UNION ALL SELECT server, source::text, kind, phase, total, NULL FROM contactsync.progress WHERE state = 'running') s
                    WHERE server = ANY (%s)""", ([account.server for account in self.accounts.values()],))
            except psycopg2.Error:
                time.sleep(0.2)
                continue
            if not state:
                break
            self.accept_removals(state)
            time.sleep(0.03)
        else:
            self.look(False)
            told = {}
            for server, source, kind, reason, backlog, in_flight in state or [(next(iter(self.accounts)), "", "no answer", "", 0, 0)]:
                told.setdefault(server, f"{source}: {kind}, {reason} ({backlog} in the backlog, {in_flight} in flight)")
            for account in list(self.accounts.values()):
                if account.server in told:
                    self.ledgers[account.provider].verdict("stuck", "", None, told[account.server])
                    self.attempt(account, f"SELECT contactsync_pause('{account.server}')")
                    del self.accounts[account.provider]
            if not self.accounts:
                raise Stuck
        self.note("quiet")
        self.look(True)

    def accept_removals(self, state):
        """Let a watch go on that delete_guard holds."""
        for server, source, kind, *_ in state:
            if kind == "guarded":
                self.attempt(self.accounts.get(server), f"SELECT contactsync_resume('{source}', '{server}', removals => 'accepted')")
                self.note(f"the removals of {source} are accepted", None, server)

    def look(self, quiet):
        failures = collections.defaultdict(dict)
        if quiet:
            for server, key, upsert_key, *reason in self.sql("SELECT server, key, upsert_key, reason, code, message FROM contactsync.failures"):
                failures[server][upsert_key or key] = ", ".join(filter(None, reason))
        for name, account in self.accounts.items():
            ledger = self.ledgers[name]
            ledger.step = self.step_number
            for entry in self.call("GET", f"{name}/journal?account={account.name}&since={account.quiet_mark}"):
                ledger.answered(entry)
            people = self.mailable(account)
            ledger.read(people)
            if quiet:
                account.quiet_mark = self.call("GET", f"{name}/count?account={account.name}")["last"]
                ledger.quiet(self.rows, self.contacts(account), people, failures[account.server])

    def clean_up(self):
        self.place.run(self.place.connect("postgres", "admin"), f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    def tell(self, name, verdict):
        """Print the history of one person at one provider: rows, words and requests."""
        account, address = self.every_account[name], verdict.address
        print(f"\nseed {self.seed}, {name}: {verdict}")
        print(f"  {account.describe()}, table {self.kind}")
        if verdict.kind == "stuck":
            journal = self.call("GET", f"{name}/journal?account={account.name}")
            for entry in journal[-8:]:
                print(f"    #{entry['seq']:<6}  {entry['method']} {entry['path']} {shorten(entry['body'] or '')} -> {entry['status']}")
            verdict.address = max(journal[-1]["keys"] if journal else [], default="").lower()
        exts, addresses_of = self.kin[address], {other for other, ids in self.kin.items() if ids & self.kin[address]} | {address}
        items = [((marks[name], 1, order), f"step {step:3}  {text}")
                 for order, (step, marks, addresses, provider, text) in enumerate(self.lines)
                 if (addresses is None or addresses & addresses_of) and provider in (None, name) and text != "quiet"]
        felt = collections.defaultdict(list)
        for person in self.mailable(account):
            for event in person["events"] if person["email"] in addresses_of else ():
                if event["by"] == "request":
                    felt[event["journal"]].append(
                        event["kind"] + (f" over {event['over']}" if "over" in event else "")
                        + "".join(f" {sign}{reach}" for sign, found in (("+", event.get("gained")), ("-", event.get("lost"))) for reach in found or ())
                        + (f" ({person['email']})" if person["email"] != address else ""))
        for entry in self.call("GET", f"{name}/journal?account={account.name}"):
            keys = {key.lower() for key in entry["keys"]}
            if addresses_of & keys or exts & set(entry["keys"]) or entry["seq"] in felt or any(ext in entry["path"] for ext in exts):
                fault = f", answer lost: {json.dumps(entry['fault']['action'])}" if entry["fault"] else ""
                items.append(((entry["seq"], 0, 0), f"#{entry['seq']:<6}  {entry['method']} {entry['path']} "
                              f"{shorten(relevant(entry['body'], addresses_of | exts))} -> {entry['status']}{fault}"
                              f"{'   ** ' + ', '.join(felt[entry['seq']]) if felt[entry['seq']] else ''}"))
        for _, text in sorted(items):
            print(f"    {text}")



def relevant(body, keys):
    """Return those contacts of a batch that have one of these keys."""
    try:
        document = json.loads(body)
    except (TypeError, ValueError):
        return body or ""
    items = document.get("contacts") if isinstance(document, dict) else document
    if isinstance(document, dict) and "params" in document:
        return document["params"]
    if not isinstance(items, list):
        return document
    return [item for item in items if keys & {str(value).lower() for value in item.values()}
            or keys & {str(value) for value in item.values()}]


def literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def brief(row):
    return (f"{row.table} {'/'.join(row.key)} {row.email} ext {row.ext}/{row.mc_ext} opt {row.opt}"
            f"{f' at {row.opt_at:%H:%M:%S.%f}' if row.opt_at else ''} {row.name}{'' if row.live else ' (filtered)'}")


def difference(old, new):
    if old is None or new is None:
        return f"{'+' if new else '-'} {brief(new or old)}"
    return f"{brief(old)} => {brief(new)}"
