"""The tenants of chaos.py: a role in a database with five accounts, its sessions, and the people whose rows each session changes.

A cell is a handful of people. Only one session changes their rows, so that the history of each cell is in order, as
consent_oracle.py needs it, however many sessions and cells there are. A cell takes its changes from consent_history.py, and
chaos_judge.py gives its history, with what the sandbox saw, to a ledger of each account.
"""

import collections
import contextlib
import copy
import json
import os
import random
import threading
import time

import psycopg2

from consent_accounts import BUILT_IN, CLASSES
from consent_history import History
from consent_oracle import Ledger, Row
from consent_world import literal

SPAN = 1_000_000            # of the numbers of the rows of a cell
PERSONS = 6                 # of a cell
ODD = ["a", "b c", "d'e", 'f"g', "h\\i", "{j,k}", "NULL", "l\nm", "ñ–ü", "[1]", "%s", "\U0001f600", "tab\there"]
COLUMNS = "uid, region, id::text, ext, mc_ext, email, opt, opt_at, name, live"

# One step of the history of a cell. What happened at a provider has its name. `at` is before the step took effect, by the
# monotonic clock that the journal of the sandbox has, too.
Op = collections.namedtuple("Op", "kind at provider data")


def as_judged(account):
    """Return an account as a ledger is to see it, which comes to know later what became of it."""
    account = copy.copy(account)
    account.watched, account.left = {}, set()
    return account


class Cell(History):
    """A few people, whose rows one session changes."""

    def __init__(self, session, number):                # pylint: disable=super-init-not-called
        self.session, self.tenant, self.place = session, session.tenant, session.tenant.place
        self.seed = self.index = number
        self.rng, self.kind = session.rng, session.tenant.kind
        self.people = [f"p{person}c{number}" for person in range(PERSONS)]
        self.first = self.uids = number * SPAN
        self.rows, self.stash, self.ops, self.past_ops = {}, [], [], []
        self.undone = []                                # what a crash undid of this round: (committed at, found at, rows)
        self.kin = collections.defaultdict(set)         # all external ids that an address has had
        self.step_number, self.lines, self.told = 0, [], {}
        self.accounts = self.every_account = session.tenant.accounts
        self.ledgers = {name: Ledger(as_judged(account)) for name, account in self.accounts.items()}
        self.past_entries, self.past_people = collections.defaultdict(list), collections.defaultdict(list)
        self.locked = None                              # a prepared transaction: (gid, rows after it, text)
        for ledger in self.ledgers.values():
            ledger.partitioned = self.kind == "part"

    def number(self, table, value):
        return literal(f"{ODD[value % len(ODD)]}{value}") if self.kind == "text" and table == "w" else str(value)

    def change(self, text, sql, rewrites=None):
        self.session.commit(text, sql, [self])

    def changed(self, text, at, rows, rewritten=frozenset()):
        """Record that a transaction committed."""
        for row in rows.values():
            self.kin[row.address] |= {row.ext, row.mc_ext} - {None}
        if rows != self.rows or rewritten:
            self.ops.append(Op("rows", at, None, (text, self.rows, rows, rewritten)))
            self.rows = rows

    def was_undone(self, at, rows):
        """Record that a crash undid an asynchronous commit. Until then, everybody saw what it left."""
        self.undone.append((at, time.monotonic(), rows))

    def lose(self, rows):
        """Go back to these rows, which an asynchronous commit left before those that a crash undid. Return whether they were there."""
        for position in range(len(self.ops) - 1, -1, -1):
            if self.ops[position].kind == "rows" and self.ops[position].data[1] == rows:
                for op in self.ops[position:]:
                    if op.kind == "rows":
                        self.was_undone(op.at, op.data[2])
                self.ops = self.ops[:position] + [op for op in self.ops[position:] if op.kind != "rows"]
                self.rows = rows
                return True
        return False

    def act(self, account, address, act, **options):
        at = time.monotonic()
        report = self.place.sandbox.call("POST", f"{account.provider}/people",
                                         {"account": account.name, "email": address, "act": act, **options})
        event = report["events"][-1]
        self.ops.append(Op("act", at, account.provider, (address, act, event["seq"], event["journal"])))

    def person_acts(self):
        account, address = self.some_account(), self.address(self.rng.choice(self.people))
        found = self.place.sandbox.call("GET", f"{account.provider}/mailable?account={account.name}&email={address}")
        if found and found[0]["events"] and found[0]["events"][-1].get("here"):
            act, options = self.rng.choice(["opt_out"] * 6 + ["complain", "opt_in"]), {}
            if account.provider == "owlat" and act == "opt_in":
                options["topic"] = account.topic
            if act in ("opt_out", "opt_in") or account.provider != "owlat" and account.provider != "caramel":
                self.act(account, address, act, **options)

    def missing(self):
        """Return the people without a row. A row with their number and another address is theirs."""
        here = {row.ext for row in self.rows.values()}
        return [person for person in self.people if f"E{person}" not in here]

    def insert(self):
        missing = self.missing()
        if missing:
            self.change("insert", self.insert_sql(person=self.rng.choice(missing)))
        else:
            self.delete()

    # NULL says nothing, so that its meaning depends on which of the changes before it were read; consent.py has it

    def insert_sql(self, table="w", person=None, like=None, uid=None, opt="random"):
        return super().insert_sql(table, person, like, uid, self.rng.random() < 0.75 if opt == "random" else opt)

    def say(self):
        row = self.some_row()
        if row:
            self.change("update opt_in", f"UPDATE {row.table} SET opt = {literal(self.rng.random() < 0.6)} WHERE uid = {row.uid}")

    ACTIONS = [(History.rename, 5), (say, 4), (History.toggle, 4), (History.hide, 2), (History.case, 1), (History.rekey, 2),
               (History.move_region, 1), (insert, 6), (History.delete, 2), (History.come_back, 2),
               (History.delete_and_insert, 1), (History.new_address, 2), (History.duplicate, 2), (person_acts, 3)]

    def live(self):
        self.rng.choices([act for act, _ in self.ACTIONS], [weight for _, weight in self.ACTIONS])[0](self)


class Session(threading.Thread):
    """A session of an application, which owns some cells."""

    def __init__(self, tenant, number, cells, rng):
        self.tenant, self.number, self.rng = tenant, number, rng
        self.cells = [Cell(self, cell) for cell in cells]
        self.low, self.high = cells[0] * SPAN, (cells[-1] + 1) * SPAN
        self.gate = threading.Lock()        # held by this session in a transaction, and by whoever wants none to be open
        self.connection, self.pid = None, None
        self.over = threading.Event()
        self.blow = None                    # (signal, delay): what the backend gets in its next COMMIT
        self.struck = threading.Event()
        self.wanted = threading.Event()     # a bulk change
        self.changes = self.commits = self.lost = 0
        self.problems = []
        self.failure = None
        super().__init__(daemon=True)

    def again(self):
        """Return this session as a thread that has not run yet."""
        threading.Thread.__init__(self, daemon=True)
        self.over.clear()
        return self

    def run(self):
        try:
            while not self.over.is_set():
                with self.gate:
                    draw = self.rng.random()
                    if self.wanted.is_set():
                        self.rename_everybody()
                    elif draw < self.tenant.place.options.bulk:
                        self.bulk()
                    elif draw < 0.1:
                        self.end_prepared()
                    else:
                        self.free_cell().live()
                time.sleep(self.rng.random() * self.tenant.place.options.pause)
            with self.gate:
                self.end_prepared()
        except Exception as error:          # pylint: disable=broad-except
            self.failure = error
            raise

    def free_cell(self):
        free = [cell for cell in self.cells if not cell.locked]
        while not free:
            self.end_prepared()
            free = [cell for cell in self.cells if not cell.locked]
        return self.rng.choice(free)

    # Transactions

    def connect(self):
        if self.connection is None or self.connection.closed:
            self.connection = self.tenant.connect(self.tenant.role)
            with self.connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '3s'; SET client_min_messages = error")
            self.pid = self.connection.get_backend_pid()

    def execute(self, sql, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else None

    def read(self, low, high):
        """Return the rows by cell, including those of cells without any."""
        found = {cell.index: {} for cell in self.cells if low <= cell.first < high}
        for table, uid, region, number, *rest in self.execute(
                f"SELECT 'w', {COLUMNS} FROM w WHERE uid >= {low} AND uid < {high}"
                f" UNION ALL SELECT 'x', {COLUMNS} FROM x WHERE uid >= {low} AND uid < {high}"):
            found[uid // SPAN][uid] = Row(table, uid, (region, number), *rest)
        return found

    def commit(self, text, sql, cells, prepare=True, rewrites=None):
        """Run statements in a transaction, and record it if it commits. It need not."""
        r, at, after, gid, committing = self.rng, time.monotonic(), None, None, False
        low, high = cells[0].first, cells[-1].first + SPAN
        fate, lazy = r.random(), False
        try:
            self.connect()
            lazy = r.random() < 0.3
            self.execute("BEGIN" + ("; SET LOCAL synchronous_commit = off" if lazy else ""))
            if r.random() < 0.1:
                self.execute(f"SAVEPOINT s; UPDATE w SET name = 'undone', opt = NOT opt WHERE uid >= {low} AND uid < {high};"
                             + ("ROLLBACK TO s" if r.random() < 0.5 else "ROLLBACK TO s; RELEASE s; SAVEPOINT t"))
            self.execute(sql.replace("%", "%%"), ())
            after = self.read(low, high)
            if r.random() < 0.02:
                time.sleep(r.random())      # keep the transaction open
            if fate < 0.05:
                self.execute(f"UPDATE w SET name = 'undone' WHERE uid >= {low} AND uid < {high}; ROLLBACK")
                return
            gid = f"g{self.number}x{next(self.tenant.numbers)}" if prepare and fate < 0.1 and len(cells) == 1 else None
            if gid:
                self.execute("PREPARE TRANSACTION %s", (gid,))
                cells[0].locked = gid, after[cells[0].index], text
                return
            at, committing = self.strike(), True
            self.execute("COMMIT")
            self.record(text, at, cells, after, rewrites)
        except psycopg2.Error as error:
            if self.connection is not None and not self.connection.closed and not isinstance(error, psycopg2.InterfaceError):
                try:
                    self.execute("ROLLBACK")
                    return
                except psycopg2.Error:
                    pass
            self.recover(text, at, cells, after if committing else None, gid, rewrites, lazy)

    def strike(self):
        """Return the time before COMMIT, in which the backend may get a signal."""
        if self.blow:
            (number, delay), self.blow, pid = self.blow, None, self.pid
            threading.Thread(target=self.hit, args=(pid, number, delay), daemon=True).start()
        return time.monotonic()

    def hit(self, pid, number, delay):
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        self.struck.set()

    def record(self, text, at, cells, after, rewrites=None):
        self.commits += 1
        for cell in cells:
            rows = after[cell.index]
            self.changes += sum(cell.rows.get(uid) != rows.get(uid) for uid in {**cell.rows, **rows})
            cell.changed(text, at, rows, frozenset(uid for uid, row in rows.items() if row.table == rewrites))

    def recover(self, text, at, cells, after, gid, rewrites, lazy):
        """Find out after a broken connection what the server has kept. "lazy": the commit did not wait for the disk."""
        while True:
            try:
                self.connect()
                prepared = {name for name, in self.execute("SELECT gid FROM pg_prepared_xacts")}
                found = self.read(self.low, self.high)
                break
            except psycopg2.Error:
                time.sleep(0.05)
        for cell in self.cells:
            rows = found[cell.index]
            if gid in prepared and cell is cells[0]:
                cell.locked = gid, after[cell.index] if after else None, text
            if rows == cell.rows:
                if after and lazy and cell in cells and not gid:
                    cell.was_undone(at, after[cell.index])
                continue
            if after and cell in cells and rows == after[cell.index] and not gid:
                self.record(text, at, [cell], after, rewrites)
            elif cell.lose(rows):
                self.lost += 1
            else:
                self.problems.append(f"cell {cell.index} of {self.tenant.role} has rows that nobody left: {rows}, not {cell.rows}")
                cell.rows = rows

    def end_prepared(self):
        """End all prepared transactions of this session."""
        for cell in self.cells:
            if not cell.locked:
                continue
            gid, rows, text = cell.locked
            end = "COMMIT" if self.rng.random() < 0.7 and rows is not None else "ROLLBACK"
            at = time.monotonic()
            while True:
                try:
                    self.connect()
                    self.execute(f"{end} PREPARED %s", (gid,))
                    break
                except psycopg2.errors.UndefinedObject:
                    break                   # it ended, and the answer was lost
                except psycopg2.Error:
                    time.sleep(0.05)
            cell.locked = None
            if end == "COMMIT":
                self.record(text + " (prepared)", at, [cell], {cell.index: rows})

    # Bulk changes

    def bulk(self):
        self.end_prepared()
        r, mine = self.rng, f"uid >= {self.low} AND uid < {self.high}"
        number = next(self.tenant.numbers)
        some = f"{mine} AND uid % 4 = {r.randrange(4)}" if r.random() < 0.5 else mine
        text, sql = r.choice([
            ("name", f"UPDATE w SET name = 'B{number}' WHERE {some}"),
            ("name", f"UPDATE w SET name = 'B{number}' WHERE {some}"),
            ("opt_in", f"UPDATE w SET opt = ascii(substr(ext, 3)) % 2 = {number % 2}, name = 'B{number}' WHERE {mine}"),
            ("filter", f"UPDATE w SET live = NOT live WHERE {some}"),
            ("rows and no change", f"UPDATE w SET name = name WHERE {mine}"),
            ("keys", f"UPDATE w SET id = {'id || chr(107)' if self.tenant.kind == 'text' else 'id + 10000'} WHERE {some}"),
            ("upsert", f"INSERT INTO w SELECT * FROM w WHERE {some} ON CONFLICT ({self.tenant.key}) DO UPDATE SET name = 'B{number}'"),
            ("merge", f"MERGE INTO w USING (SELECT uid FROM w WHERE {some}) v ON w.uid = v.uid WHEN MATCHED AND w.opt THEN"
                      f" UPDATE SET name = 'B{number}' WHEN MATCHED AND NOT w.live THEN DELETE"),
            ("delete", f"DELETE FROM w WHERE {mine} AND uid % 5 = {r.randrange(5)}"),
            ("insert", self.insert_everybody()),
            ("insert", self.insert_everybody())])
        self.commit(f"bulk: {text}", sql, self.cells)

    def rename_everybody(self):
        """Have something to send of each row."""
        self.end_prepared()
        self.commit("bulk: everybody", f"UPDATE w SET name = 'B{next(self.tenant.numbers)}' WHERE uid >= {self.low} AND uid < {self.high}", self.cells)
        self.wanted.clear()

    def insert_everybody(self):
        """Insert those people who have no row."""
        return "; ".join(cell.insert_sql(person=person) for cell in self.cells for person in cell.missing()) or "SELECT 1"


class Tenant(History):
    """A role in a database, with tables of its own and an account at each provider."""

    def __init__(self, place, number, database, sessions, cells, first):    # pylint: disable=super-init-not-called
        self.place, self.number, self.database = place, number, database
        self.role = f"tenant{number}"
        seed = f"{place.options.seed}/{number}"
        self.rng = random.Random(seed)
        self.kind = self.rng.choice(["plain", "part", "text"])
        self.key = "region, id" if self.kind == "part" else "id"
        self.numbers = iter(range(1, 10**9))
        self.accounts = {name: CLASSES[name](name, number, random.Random(f"{seed}/{name}"), place.features) for name in BUILT_IN}
        self.every_account = self.accounts
        for name, account in self.accounts.items():
            account.server = f"{name}_{number}"
            account.maps_opt_at = False
            account.seen = 0                # the last event that was judged
            self.vary(account)
        self.sessions = [Session(self, session, range(first + session * cells, first + (session + 1) * cells),
                                 random.Random(f"{seed}/session{session}")) for session in range(sessions)]
        self.step_number, self.lines, self.broken, self.refusals = 0, [], [], collections.Counter()

    def vary(self, account):
        """Choose pace and guards, which differ between accounts."""
        pace, burst = account.rng.choice([("500", "100"), ("500", "100"), ("20", "60"), ("8", "60")])
        if account.provider == "campaignlark" and self.number == 0:
            pace, burst = "0.5", "60"       # so slow that a restart fills little of its bucket
        account.options.update({"pace": pace, "burst": burst, "bulk_guard": account.rng.choice(["0", "0", "100"])})
        if account.provider == "caramel":
            account.options["form_pace"] = pace

    @property
    def cells(self):
        return [cell for session in self.sessions for cell in session.cells]

    def connect(self, user="admin"):
        return self.place.connect(self.database, user)

    # what psycopg2 takes for a trouble of the server, and is an answer
    FINAL = (psycopg2.extensions.QueryCanceledError, psycopg2.errors.LockNotAvailable, psycopg2.errors.ObjectNotInPrerequisiteState)

    def sql(self, sql, parameters=None, user=None):
        """Run statements in one transaction, and repeat them if the server goes down."""
        for attempt in range(100):
            try:
                return self.place.run(self.connect(user or self.role), sql, parameters)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if attempt == 99 or isinstance(error, self.FINAL) and not isinstance(error, psycopg2.errors.AdminShutdown):
                    raise
                time.sleep(0.1)
        return None

    def note(self, text, addresses=None, provider=None, marks=None):
        if text.startswith("refused"):
            self.refusals[text[:100]] += 1
        if self.place.options.verbose:
            print(f"    {self.role} {provider or ''} {text}", flush=True)

    @contextlib.contextmanager
    def still(self, prepared=False):
        """Keep the sessions out of transactions, and out of prepared ones if asked for."""
        with contextlib.ExitStack() as stack:
            for session in self.sessions:
                stack.enter_context(session.gate)
            if prepared:
                for session in self.sessions:
                    session.end_prepared()
            yield

    def happened(self, kind, account, data=None):
        """Record what concerns all cells of an account. The caller keeps the sessions still."""
        op = Op(kind, time.monotonic(), account.provider, data)
        for cell in self.cells:
            cell.ops.append(op)

    # Setup

    def set_up(self):
        columns = ("uid int NOT NULL, region text NOT NULL DEFAULT 'a', id {} NOT NULL, ext text NOT NULL, mc_ext text, email text NOT NULL,"
                   " opt bool, opt_at timestamptz, name text NOT NULL, live bool NOT NULL DEFAULT true, unused text")
        self.sql(f"CREATE ROLE {self.role} LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO {self.role};"
                 f"CREATE SCHEMA {self.role} AUTHORIZATION {self.role}", user="admin")
        self.sql(f"CREATE TABLE w ({columns.format('text' if self.kind == 'text' else 'int')}, PRIMARY KEY ({self.key}))"
                 + (" PARTITION BY LIST (region); CREATE TABLE w_a PARTITION OF w FOR VALUES IN ('a');"
                    "CREATE TABLE w_rest PARTITION OF w DEFAULT;" if self.kind == "part" else ";")
                 + f"CREATE TABLE x ({columns.format('int')}, PRIMARY KEY (id)); CREATE INDEX ON w (uid); CREATE INDEX ON x (uid)")
        for account in self.accounts.values():
            self.open_account(account)
            self.make_server(account)
        for session in self.sessions:
            for cell in session.cells[::2]:
                cell.older_contacts()
            with session.gate:
                session.commit("rows before the watch", session.insert_everybody(), session.cells)
        for account in self.accounts.values():
            self.start_watch(account, "w")
            self.scan(account, "w", "import")

    def start_watch(self, account, table):
        with self.still(prepared=True):
            self.watch(account, table)

    def watch(self, account, table, claims=None):
        arguments = {"mapping": json.dumps(account.mapping()), "filter": "live", "on_delete": account.on_delete,
                     "delete_delay": self.rng.choice(["0", "10 s"])}
        sql = "SELECT contactsync_watch(%s, %s" + "".join(f", {name} => %s" for name in arguments) + ")"
        try:
            self.sql("SET client_min_messages = error; SET lock_timeout = '10s'; " + sql, (table, account.server, *arguments.values()))
        except psycopg2.errors.DuplicateObject:
            pass                            # the answer was lost
        account.watched[table] = arguments
        self.happened("watch", account, table)

    def scan(self, account, table, function):
        with self.still():
            if table in account.watched:
                self.happened("import", account, table)
                self.attempt(account, f"SELECT * FROM contactsync_{function}('{table}', '{account.server}', automations => 'accepted')")

    # What an operator does

    def scan_again(self):
        self.scan(self.some_account(), "w", self.rng.choice(["import", "reconcile"]))

    def pause(self):
        account = self.some_account()
        what = self.rng.choice([f"'{account.server}'", f"'w', '{account.server}'"])
        self.attempt(account, f"SELECT contactsync_pause({what})")
        time.sleep(self.rng.random())
        self.attempt(account, f"SELECT contactsync_resume({what})")

    def alter_watch(self):
        account = self.some_account()
        account.attribute = not account.attribute
        self.attempt(account, "SELECT contactsync_alter_watch('w', %s, mapping => %s)", (account.server, json.dumps(account.mapping())))

    def watch_anew(self):
        account = self.some_account()
        with self.still(prepared=True):
            self.attempt(account, f"SELECT contactsync_unwatch('w', '{account.server}')")
            account.watched.pop("w", None)
            self.happened("unwatch", account, "w")
            self.watch(account, "w")
        self.scan(account, "w", self.rng.choice(["import", "reconcile"]))

    def lose_mapping(self):
        account = self.some_account()
        (name, value), = account.secret().items()
        self.attempt(account, f"DROP USER MAPPING IF EXISTS FOR CURRENT_USER SERVER {account.server}")
        time.sleep(self.rng.random() * 0.3)
        self.attempt(account, f"CREATE USER MAPPING IF NOT EXISTS FOR CURRENT_USER SERVER {account.server} OPTIONS ({name} '{value}')")

    def alter_table(self):
        number = next(self.numbers)
        sql = f"ALTER TABLE w ADD COLUMN more{number} int DEFAULT 1"
        if self.rng.random() < 0.5:
            sql += f"; ALTER TABLE w DROP COLUMN more{number}"
        if self.kind == "part" and self.rng.random() < 0.3:
            sql = f"CREATE TABLE w_{number} PARTITION OF w FOR VALUES IN ('new{number}')"
        self.attempt(None, "SET lock_timeout = '2s'; " + sql)

    def rename_column(self):
        """Have the product read the rows while a column has another name."""
        with self.still(prepared=True):
            self.sql("ALTER TABLE w RENAME COLUMN name TO other_name")
            time.sleep(self.rng.random() * 0.2)
            with contextlib.suppress(psycopg2.errors.UndefinedColumn):      # the answer was lost
                self.sql("ALTER TABLE w RENAME COLUMN other_name TO name")

    def hold_snapshot(self):
        with contextlib.suppress(psycopg2.Error):
            connection = self.connect()
            with connection.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
                time.sleep(self.rng.random())
            connection.close()

    def reload(self):
        self.sql("SELECT pg_reload_conf()", user="admin")

    OPERATIONS = [(scan_again, 3), (pause, 2), (alter_watch, 1), (lose_mapping, 1), (alter_table, 1),
                  (hold_snapshot, 1), (reload, 1), (History.rotate_key, 2), (History.reload_definitions, 1)]

    # what --also adds, which chaos is not well with yet
    ALSO = {"rename_column": rename_column, "watch_anew": watch_anew}

    def operate(self):
        acts = self.OPERATIONS + [(act, 1) for name, act in self.ALSO.items() if name in self.place.options.also.split(",")]
        act = self.rng.choices([act for act, _ in acts], [weight for _, weight in acts])[0]
        self.note(act.__name__)
        act(self)

    def repair(self):
        """Complete what was interrupted."""
        for account in self.accounts.values():
            (name, value), = account.secret().items()
            self.attempt(account, f"CREATE USER MAPPING IF NOT EXISTS FOR CURRENT_USER SERVER {account.server} OPTIONS ({name} '{value}')")
            self.attempt(account, f"ALTER USER MAPPING FOR CURRENT_USER SERVER {account.server} OPTIONS (SET {name} '{value}')")
            self.attempt(account, f"SELECT contactsync_resume('{account.server}')")
            self.attempt(account, f"SELECT contactsync_resume('w', '{account.server}')")
