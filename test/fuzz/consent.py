#!/usr/bin/python3
"""Try what happens to people's consent: random histories over all five providers, judged by an oracle.

usage: consent.py --bindir DIR [--work DIR] [--seed N] [--seeds N] [--steps N] [--provider NAME] [--verbose]

Each seed is a history of its own, in a database of its own: a table or two whose rows are inserted, updated, deleted and
moved, watched by servers at all five providers; watches that end and begin anew; people who opt out, opt in and complain
at the provider; and lost answers, reloads, kills, restarts, restores and erasures in between. What reaches people is read
from the sandbox and judged by oracle.py, which says what the verdicts mean. For every failing verdict the seed and the
history of that person is printed: rows, words, requests, in their order.

A seed makes the same choices again, though not the same timing. What a product does not have yet (opt_in_at, claims,
delete_delay, ...) is left out, by the arguments that contactsync_watch() has.
"""

import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import psycopg2

from oracle import FAILING, SHOWN, Ledger, Row, shorten
from torture import Sandbox, Server

PROVIDERS = ("mailingcore", "campaignlark", "owlat", "spotzee", "caramel")
TOPICS = {"single": "topica00000000000000000000000000", "double": "topicb00000000000000000000000000",
          "other": "topicc00000000000000000000000000"}
SPEED = 20
QUIET_SECONDS = 40


class Account:
    """What the run has at one provider: a server, its options and its mapping, and what the oracle must know of it."""

    path = ""
    withholds = False           # to create a contact is to make it mailable
    can_withdraw = True
    on_delete_choices = ("ignore", "unsubscribe", "delete")

    def __init__(self, name, number, rng, features):
        self.provider, self.rng, self.features = name, rng, features
        self.server, self.name = name, f"w{number}"
        self.generation = 0
        self.on_delete = rng.choice(self.on_delete_choices)
        self.maps_opt_in = True
        self.maps_opt_at = features["opt_in_at"] and rng.random() < 0.3
        self.attribute = False          # whether the mapping has one field more
        self.options = {"pace": "500", "burst": "100", "bulk_guard": "0", "max_retries": "30", "timeout": "60s"}
        self.watched = {}               # table: options of the watch
        self.quiet_mark = 0
        self.choose()

    def choose(self):
        """What differs from seed to seed."""

    @property
    def key(self):
        return f"{self.provider}_{self.name}_{self.generation}"

    def secret(self):
        return {"api_key": self.key}

    def fields(self):
        """The mapping, without what all have."""
        raise NotImplementedError

    def mapping(self):
        mapping = {"email": "email", **self.fields()}
        if self.maps_opt_in:
            mapping["opt_in"] = "opt"
        if self.maps_opt_at:
            mapping["opt_in_at"] = "opt_at"
        return mapping

    # for the oracle

    def identity(self, row):
        return row.address

    def is_of(self, contact, row):
        """Whether a contact is that of a row."""
        return self.address_of(contact) == row.address

    @staticmethod
    def address_of(contact):
        return (contact.get("email") or contact.get("email_address") or "").lower()

    def values(self, contact):
        return self.address_of(contact), self.name_of(contact)

    def name_of(self, contact):
        raise NotImplementedError

    def subscribed(self, person):
        """Whether a consent that we carry is in force."""
        return person["mailable"]

    def address_follows(self, old, new):
        """Whether the contact of an address becomes that of the next one."""
        return self.identity(old) == self.identity(new)

    def told_by(self, entry):
        """Addresses of which a successful answer shows whether they opted out."""
        return ()

    def may_fail(self, reason, row, standing):
        return False

    def free(self, event):
        return False

    def describe(self):
        return (f"{self.provider}: on_delete {self.on_delete}, mapping {json.dumps(self.mapping())}, "
                f"options {json.dumps(self.options)}")


class MailingCore(Account):
    path = "/mailingcore"

    def choose(self):
        self.external = self.rng.random() < 0.5
        self.on_delete = self.rng.choice(("ignore", "unsubscribe", "delete") if self.external else ("ignore", "unsubscribe"))
        self.options.update({"tenant_id": self.name, "batch_size": self.rng.choice(["1", "3", "1000"])})

    @property
    def key(self):
        return f"mc_test_{self.name}_{self.generation}"

    def fields(self):
        fields = {"attributes": {"name": "name", **({"more": "id"} if self.attribute else {})}}
        if self.external:
            fields["external_id"] = "mc_ext"
        return fields

    def identity(self, row):
        return (self.external and row.mc_ext) or row.address

    def is_of(self, contact, row):
        if self.external and row.mc_ext:
            return contact["externalId"] == row.mc_ext
        return self.address_of(contact) == row.address

    def name_of(self, contact):
        return (contact["attributes"] or {}).get("name")

    def may_fail(self, reason, row, standing):
        # an address belongs to one external id
        return reason == "conflict" and self.external


class CampaignLark(Account):
    path = "/campaignlark/v1"
    on_delete_choices = ("ignore", "unsubscribe")

    def choose(self):
        self.options.update({"check_fields": "false", "new_contacts": "unsubscribed"})
        if self.rng.random() < 0.5:
            self.options["on_email_change"] = "unsubscribe"

    def fields(self):
        return {"first_name": "name", **({"attributes": {"points": "id"}} if self.attribute else {})}

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
        if self.follow:
            self.options["on_email_change"] = "follow"
        if self.rng.random() < 0.15:
            self.maps_opt_in = self.maps_opt_at = False

    @property
    def key(self):
        return f"lm_live_{self.name}{self.generation}".ljust(40, "x")

    def fields(self):
        return {"first_name": "name", **({"last_name": "'X' || id"} if self.attribute else {})}

    def name_of(self, contact):
        return contact["firstName"]

    def subscribed(self, person):
        return f"topic {self.topic}" in person["reach"] or any(
            event["kind"] == "asked" and event.get("topic") == self.topic for event in person["events"][-3:])

    def address_follows(self, old, new):
        return self.follow

    def told_by(self, entry):
        if entry["method"] == "DELETE" and "/topics/" in entry["path"]:
            return [key.lower() for key in entry["keys"]]
        return ()


class Spotzee(Account):
    path = "/spotzee/api/client"
    withholds = True
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
        return {"external_id": "ext", "first_name": "name", **({"attributes": {"more": "id"}} if self.attribute else {})}

    def identity(self, row):
        return row.ext

    def is_of(self, contact, row):
        return contact["external_id"] == row.ext

    def name_of(self, contact):
        return contact["first_name"] or (contact["data"] or {}).get("first_name")


class Caramel(Account):
    path = "/caramel/mcp"
    can_withdraw = False
    on_delete_choices = ("ignore",)

    def choose(self):
        self.options.update({"business_id": "bus_01h7m9k0aabcdefghj1234567", "form_id": "frm_import", "form_pace": "500"})

    def secret(self):
        return {"access_token": self.key}

    def fields(self):
        return {"first_name": "name", **({"last_name": "'X' || id"} if self.attribute else {})}

    def name_of(self, contact):
        return contact["first_name"]

    def may_fail(self, reason, row, standing):
        return reason == "consent_kept"


CLASSES = {"mailingcore": MailingCore, "campaignlark": CampaignLark, "owlat": Owlat, "spotzee": Spotzee, "caramel": Caramel}


class Installation:
    """The server and the sandbox that all histories share, and what the product can do."""

    def __init__(self, options, work):
        self.options = options
        self.sandbox = Sandbox(SPEED)
        self.server = Server(options.bindir, work, {
            "shared_preload_libraries": "contactsync", "listen_addresses": "", "unix_socket_directories": work,
            "fsync": "off", "shared_buffers": "32MB", "max_connections": "40", "max_worker_processes": "16",
            "contactsync.clock_speed": SPEED, "contactsync.launcher_naptime": "1s", "contactsync.probe_interval": "5",
            "log_line_prefix": "%m %b[%p] %d ", "log_statement": "none", "autovacuum_naptime": "60s",
            "restart_after_crash": "on"})
        for sql in ("CREATE ROLE sender LOGIN", "CREATE DATABASE probe OWNER sender"):
            self.run(self.connect("postgres", "admin"), sql)
        self.features = self.probe()

    def connect(self, database, user="sender", seconds=60):
        end = time.time() + seconds
        while True:
            try:
                connection = psycopg2.connect(host=self.server.sockets, dbname=database, user=user, connect_timeout=5)
                connection.autocommit = True
                return connection
            except psycopg2.OperationalError:
                if time.time() > end:
                    raise
                time.sleep(0.05)

    @staticmethod
    def run(connection, sql, parameters=None):
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def probe(self):
        """What the product has of what is still to come."""
        def works(sql):
            try:
                self.run(self.connect("probe"), sql)
                return True
            except psycopg2.Error:
                return False

        self.run(self.connect("probe", "admin"),
                 "CREATE EXTENSION contactsync; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO sender")
        arguments = {}
        for name, names in self.run(self.connect("probe"), "SELECT proname, proargnames FROM pg_proc WHERE proname LIKE 'contactsync%'"):
            arguments.setdefault(name, set()).update(names or ())
        watch = arguments["contactsync_watch"]
        self.run(self.connect("probe"), """
            CREATE TABLE t (id int PRIMARY KEY, email text, opt bool, opt_at timestamptz);
            CREATE SERVER mc FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'x', base_url 'http://127.0.0.1:1');
            CREATE USER MAPPING FOR CURRENT_USER SERVER mc OPTIONS (api_key 'mc_test_x');
            CREATE SERVER sp FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee', base_url 'http://127.0.0.1:1');
            CREATE USER MAPPING FOR CURRENT_USER SERVER sp OPTIONS (api_key 'sk_x')""")
        server = "CREATE SERVER x FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee', base_url 'http://127.0.0.1:1', {}); DROP SERVER x"
        features = {name: name in watch for name in ("claims", "delete_guard", "delete_delay", "pull_every")}
        features["forget_suppression"] = "suppression" in arguments["contactsync_forget"]
        features["import_claims"] = "claims" in arguments["contactsync_import"]
        features["opt_in_at"] = works("SELECT contactsync_watch('t', 'mc', '{\"email\": \"email\", \"opt_in\": \"opt\", \"opt_in_at\": \"opt_at\"}')")
        features["spotzee_opt_in"] = works("SELECT contactsync_watch('t', 'sp', '{\"external_id\": \"id\", \"email\": \"email\", \"opt_in\": \"opt\"}')")
        features["spotzee_auto"] = works(server.format("api 'auto'"))
        features["spotzee_subscription"] = works(server.format("subscription_id '5'"))
        self.run(self.connect("postgres", "admin"), "DROP DATABASE probe WITH (FORCE)")
        return features


class History:
    """One seed."""

    def __init__(self, place, seed):
        self.place, self.seed = place, seed
        self.rng = random.Random(seed)
        self.database = f"w{seed}"
        self.step_number = 0
        self.lines = []             # (step, {provider: mark}, addresses or None, provider or None, text)
        self.rows = {}
        self.uids = 0
        self.stash = []             # rows that were deleted, and may come back
        self.broken = []
        names = [place.options.provider] if place.options.provider else PROVIDERS
        self.accounts = {name: CLASSES[name](name, seed, random.Random(f"{seed}/{name}"), place.features) for name in names}
        self.ledgers = {name: Ledger(account) for name, account in self.accounts.items()}
        self.kind = self.rng.choice(["plain", "plain", "part", "text"])
        self.people = [f"p{number}" for number in range(6)]

    # the database

    def connect(self, user="sender"):
        return self.place.connect(self.database, user)

    def sql(self, sql, parameters=None, user="sender"):
        """Run statements in one transaction; again, if the server goes down under it."""
        for attempt in range(5):
            try:
                return self.place.run(self.connect(user), sql, parameters)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if attempt == 4 or isinstance(error, psycopg2.extensions.QueryCanceledError):
                    raise
                time.sleep(0.2)
        return None

    def read_rows(self):
        rows = {}
        for table in ("w", "x"):
            for record in self.sql(f"SELECT uid, region, id::text, ext, mc_ext, email, opt, opt_at, name, live FROM {table}"):
                uid, region, number, *rest = record
                rows[uid] = Row(table, uid, (region, number), *rest)
        return rows

    # the sandbox

    def call(self, method, path, document=None):
        return self.place.sandbox.call(method, path, document)

    def marks(self):
        return {name: self.call("GET", f"{name}/count?account={account.name}")["last"] for name, account in self.accounts.items()}

    def contacts(self, account):
        return self.call("GET", f"{account.provider}/contacts?account={account.name}")

    def mailable(self, account):
        return self.call("GET", f"{account.provider}/mailable?account={account.name}")

    # notes

    def note(self, text, addresses=None, provider=None, marks=None):
        self.lines.append((self.step_number, marks or self.marks(), addresses, provider, text))
        if self.place.options.verbose:
            print(f"    {self.step_number:3} {provider or ''} {text}", flush=True)

    # setting up

    def set_up(self):
        self.place.run(self.place.connect("postgres", "admin"), f"CREATE DATABASE {self.database} OWNER sender")
        self.sql("CREATE EXTENSION contactsync; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO sender; GRANT ALL ON SCHEMA public TO sender",
                 user="admin")
        columns = ("uid int NOT NULL, region text NOT NULL DEFAULT 'a', id {} NOT NULL, ext text NOT NULL, mc_ext text, email text NOT NULL,"
                   " opt bool, opt_at timestamptz, name text NOT NULL, live bool NOT NULL DEFAULT true")
        number = "text" if self.kind == "text" else "int"
        key = "region, id" if self.kind == "part" else "id"
        self.sql(f"CREATE TABLE w ({columns.format(number)}, PRIMARY KEY ({key}))"
                 + (" PARTITION BY LIST (region); CREATE TABLE w_a PARTITION OF w FOR VALUES IN ('a');"
                    "CREATE TABLE w_rest PARTITION OF w DEFAULT;" if self.kind == "part" else ";")
                 + f"CREATE TABLE x ({columns.format('int')}, PRIMARY KEY (id))")
        for account in self.accounts.values():
            self.open_account(account)
            self.make_server(account)
        before = self.rng.random() < 0.5     # rows that are older than the watch
        if before:
            for person in self.rng.sample(self.people, 4):
                self.sql(self.insert_sql(person=person))
            self.rows = self.read_rows()
            self.note("rows before the watch: " + ", ".join(map(brief, self.rows.values())))
        if self.rng.random() < 0.6:
            self.older_contacts()
        for account in self.accounts.values():
            self.watch(account, "w")
        if before:
            for account in self.accounts.values():
                self.import_(account, "w")
        else:
            for person in self.rng.sample(self.people, 4):
                self.change("a new row", self.insert_sql(person=person))

    def open_account(self, account):
        config = self.call("GET", f"{account.provider}/config")
        grant = next(iter(config["keys"].values()))
        settings = {"account": account.name, "keys": {account.key: grant}, "limits": {name: None for name in config["limits"]}}
        if account.provider == "owlat":
            settings["topics"] = {TOPICS["single"]: {"double_opt_in": False}, TOPICS["double"]: {},
                                  TOPICS["other"]: {"double_opt_in": False}}
        if hasattr(account, "config"):
            settings.update(account.config())
        account.grant = grant
        self.call("POST", f"{account.provider}/config", settings)

    def make_server(self, account):
        options = ", ".join(f"{name} '{value}'" for name, value in {
            "provider": account.provider, "base_url": self.place.sandbox.url + account.path, **account.options}.items())
        secret = ", ".join(f"{name} '{value}'" for name, value in account.secret().items())
        self.sql(f"CREATE SERVER {account.server} FOREIGN DATA WRAPPER contactsync OPTIONS ({options});"
                 f"CREATE USER MAPPING FOR CURRENT_USER SERVER {account.server} OPTIONS ({secret})")

    def older_contacts(self):
        """People whom the providers know from elsewhere; some have left."""
        for account in self.accounts.values():
            for person in self.rng.sample(self.people, 2):
                address = self.address(person)
                self.act(account, address, "opt_in")
                if self.rng.random() < 0.7:
                    self.act(account, address, "opt_out")

    def watch(self, account, table, claims=None):
        arguments = {"mapping": json.dumps(account.mapping()), "filter": "live", "on_delete": account.on_delete}
        if claims and account.features["claims"]:
            arguments["claims"] = claims
        if account.features["delete_delay"]:
            arguments["delete_delay"] = self.rng.choice(["0", "10 s"])
        sql = "SET client_min_messages = error; SELECT contactsync_watch(%s, %s" + "".join(f", {name} => %s" for name in arguments) + ")"
        try:
            self.sql(sql, (table, account.server, *arguments.values()))
        except psycopg2.Error as error:
            self.broken.append(f"{account.describe()}: {error}")
            return
        account.watched[table] = arguments
        self.note(f"watch of {table}" + (f", claims {claims}" if claims else ""), None, account.provider)

    def import_(self, account, table, function="import", claims=None):
        if table not in account.watched:
            return
        ledger, marks = self.ledgers[account.provider], self.marks()
        arguments = ", automations => 'accepted'" + (f", claims => '{claims}'" if claims and account.features["import_claims"] else "")
        ledger.claims_all = claims == "all"
        ledger.imported(self.step_number, marks[account.provider], self.rows, self.present(account), {table})
        ledger.claims_all = False
        self.note(f"{function} of {table}" + (f", claims {claims}" if claims else ""), None, account.provider, marks)
        self.attempt(account, f"SELECT * FROM contactsync_{function}('{table}', '{account.server}'{arguments})")

    def attempt(self, account, sql, parameters=None):
        """Something that may be refused, which is noted."""
        try:
            return self.sql(sql, parameters)
        except psycopg2.Error as error:
            self.note(f"refused: {str(error).strip().splitlines()[0]} ({sql})", None, account and account.provider)
            return None

    def present(self, account):
        return {account.address_of(contact) for contact in self.contacts(account)}

    # rows

    def address(self, person):
        return f"{person}@s{self.seed}.example"

    def fresh(self):
        self.uids += 1
        return self.uids

    def insert_sql(self, table="w", person=None, like=None, uid=None, opt="random"):
        uid = uid or self.fresh()
        person = person or self.rng.choice(self.people)
        values = {"uid": uid, "id": uid, "ext": f"E{person}", "mc_ext": f"M{person}", "email": self.address(person),
                  "opt": self.rng.choice([True, True, True, False, None]) if opt == "random" else opt,
                  "opt_at": None, "name": f"N{self.fresh()}", "live": True}
        if like is not None:
            values.update(ext=like.ext, mc_ext=like.mc_ext, email=like.email)
        names = ", ".join(values)
        return f"INSERT INTO {table} ({names}) VALUES ({', '.join(literal(value) for value in values.values())})"

    def change(self, text, sql):
        """Commit a change of rows, and tell the ledgers."""
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
        for name, ledger in self.ledgers.items():
            ledger.committed(self.step_number, marks[name], before, self.rows, present[name])

    def some_row(self, table=None):
        rows = [row for row in self.rows.values() if table in (None, row.table)]
        live = [row for row in rows if row.live]
        return self.rng.choice(live if live and self.rng.random() < 0.7 else rows) if rows else None

    def on_row(text, clause):                       # pylint: disable=no-self-argument
        """An action that updates one row."""
        def act(self):
            row = self.some_row()
            if row:
                self.change(text, f"UPDATE {row.table} SET {clause(self, row)} WHERE uid = {row.uid}")
        act.__name__ = text
        return act

    rename = on_row("another name", lambda self, row: f"name = 'N{self.fresh()}'")
    say = on_row("another opt_in", lambda self, row: f"opt = {literal(self.rng.choice([True, True, False, None]))}")
    toggle = on_row("opt_in turned round", lambda self, row: f"opt = {literal(row.opt is not True)}")
    say_at = on_row("opt_in with its time", lambda self, row: "opt = true, opt_at = clock_timestamp()")
    hide = on_row("through the filter", lambda self, row: f"live = {literal(not row.live)}")
    case = on_row("other letters", lambda self, row: f"email = {literal(row.email.upper() if row.email.islower() else row.email.lower())}")
    rekey = on_row("another key", lambda self, row: f"id = {self.number(row.table, self.fresh() + 1000)}")
    rekey_and_say = on_row("another key and opt_in", lambda self, row: f"id = {self.number(row.table, self.fresh() + 1000)}, opt = {literal(row.opt is not True)}")
    move_region = on_row("another region", lambda self, row: f"region = {literal(self.rng.choice(['a', 'b', 'c']))}")
    external = on_row("external id comes or goes", lambda self, row: f"mc_ext = {literal(None if row.mc_ext else 'M' + row.ext[1:])}")

    def number(self, table, value):
        return literal(str(value)) if self.kind == "text" and table == "w" else str(value)

    def insert(self):
        here = {row.address for row in self.rows.values()}
        free = [person for person in self.people if self.address(person) not in here]
        if free:
            self.change("a new row", self.insert_sql(person=self.rng.choice(free)))
        else:
            self.delete()

    def duplicate(self):
        row = self.some_row()
        if row and len(self.rows) < 10:
            self.change("a second row of a person", self.insert_sql(like=row, person="p0"))

    def delete(self):
        row = self.some_row()
        if row:
            self.stash.append(row)
            self.change("a row goes", f"DELETE FROM {row.table} WHERE uid = {row.uid}")

    def come_back(self):
        """A row that was deleted is there again, under its key or another one."""
        if self.stash:
            row = self.stash.pop(self.rng.randrange(len(self.stash)))
            if not any(other.ext == row.ext for other in self.rows.values()):
                self.change("a row comes back", self.copy_sql(row, self.rng.random() < 0.5))

    def copy_sql(self, row, same_key=True):
        uid = self.fresh()
        values = {"uid": uid, "region": row.key[0], "id": row.key[1] if same_key else str(uid + 5000), "ext": row.ext, "mc_ext": row.mc_ext,
                  "email": row.email, "opt": row.opt, "name": row.name, "live": row.live}
        if row.opt_at:
            values["opt_at"] = str(row.opt_at)
        return f"INSERT INTO {row.table} ({', '.join(values)}) VALUES ({', '.join(literal(value) for value in values.values())})"

    def delete_and_insert(self):
        row = self.some_row()
        if row:
            self.change("deleted and inserted in one transaction",
                        f"DELETE FROM {row.table} WHERE uid = {row.uid}; {self.copy_sql(row, self.rng.random() < 0.5)}")

    def rekey_all(self):
        self.change("all keys change", "UPDATE w SET id = id || 'k'" if self.kind == "text" else "UPDATE w SET id = id + 10000")

    def swap(self):
        rows = [row for row in self.rows.values() if row.table == "w"]
        if len(rows) >= 2:
            one, two = self.rng.sample(rows, 2)
            self.change("two rows swap their persons", f"""
                UPDATE w AS a SET email = b.email, ext = b.ext, mc_ext = b.mc_ext FROM w AS b
                WHERE a.uid IN ({one.uid}, {two.uid}) AND b.uid IN ({one.uid}, {two.uid}) AND a.uid <> b.uid""")

    def new_address(self):
        """A person has another address; all rows of the person have it."""
        row = self.some_row()
        if row:
            person = row.ext[1:]
            address = self.address(person)
            if row.address == address:
                address = f"{person}.new@s{self.seed}.example"
            self.change("another address", f"UPDATE w SET email = {literal(address)} WHERE ext = {literal(row.ext)};"
                        f"UPDATE x SET email = {literal(address)} WHERE ext = {literal(row.ext)}")

    def share_address(self):
        rows = [row for row in self.rows.values()]
        if len(rows) >= 2:
            one, two = self.rng.sample(rows, 2)
            self.change("an address that another has", f"UPDATE {one.table} SET email = {literal(two.email)} WHERE uid = {one.uid}")

    def hand_over(self):
        """One row leaves an address, and another takes it, in the next transaction."""
        rows = [row for row in self.rows.values()]
        if len(rows) >= 2:
            one, two = self.rng.sample(rows, 2)
            left = one.email
            self.change("an address is left", f"UPDATE {one.table} SET email = 'left{self.fresh()}@s{self.seed}.example' WHERE uid = {one.uid}")
            self.change("... and taken", f"UPDATE {two.table} SET email = {literal(left)} WHERE uid = {two.uid}")

    def truncate(self):
        self.stash += [row for row in self.rows.values() if row.table == "w"]
        self.change("truncated", "TRUNCATE w")

    def reload(self):
        self.change("reloaded", "CREATE TEMP TABLE copy ON COMMIT DROP AS TABLE w; TRUNCATE w; INSERT INTO w SELECT * FROM copy".replace(
            "CREATE TEMP", "BEGIN; CREATE TEMP") + "; COMMIT")

    def reload_anew(self):
        """As a nightly job does it: everything is deleted and inserted, under other keys."""
        text = "id || 'r'" if self.kind == "text" else "id + 20000"
        self.change("deleted and loaded anew", f"""
            BEGIN; CREATE TEMP TABLE copy ON COMMIT DROP AS TABLE w; DELETE FROM w;
            INSERT INTO w SELECT uid + 100000, region, {text}, ext, mc_ext, email, opt, opt_at, name, live FROM copy; COMMIT""")

    # watches and accounts

    def some_account(self):
        return self.rng.choice(list(self.accounts.values()))

    def unwatch(self, account, table):
        self.attempt(account, f"SELECT contactsync_unwatch('{table}', '{account.server}')")
        account.watched.pop(table, None)
        self.ledgers[account.provider].unwatched(self.rows, table)
        self.note(f"unwatch of {table}", None, account.provider)

    def watch_again(self):
        account = self.some_account()
        self.unwatch(account, "w")
        if self.rng.random() < 0.5:
            self.step_number += 1
            self.rng.choice([History.rename, History.say, History.insert, History.delete])(self)
        self.watch(account, "w", self.rng.choice([None, None, "new"]))
        if self.rng.random() < 0.7:
            self.import_(account, "w", self.rng.choice(["import", "reconcile"]))

    def alter_mapping(self):
        account = self.some_account()
        if "w" not in account.watched:
            return
        if account.provider == "mailingcore" and self.rng.random() < 0.5 and account.on_delete != "delete":
            account.external = not account.external
        else:
            account.attribute = not account.attribute
        for table in account.watched:
            self.attempt(account, "SELECT contactsync_alter_watch(%s, %s, mapping => %s)", (table, account.server, json.dumps(account.mapping())))
        self.note(f"mapping is {json.dumps(account.mapping())}", None, account.provider)
        if self.rng.random() < 0.7:
            self.import_(account, "w", "reconcile")

    def second_watch(self):
        account = self.some_account()
        if "x" in account.watched:
            self.unwatch(account, "x")
            return
        self.watch(account, "x")
        if self.rng.random() < 0.5:
            self.import_(account, "x")

    def second_table(self):
        """A row of a person in the other table."""
        row = self.some_row("w")
        if row and not any(other.table == "x" and other.ext == row.ext for other in self.rows.values()):
            self.change("a row of the other table", self.insert_sql("x", like=row, person="p0"))

    def upsert_beside(self):
        account = self.some_account()
        if account.provider == "spotzee" or account.provider == "mailingcore" and account.external:
            return
        address = self.rng.choice([self.address(person) for person in self.people])
        opt, name, marks = self.rng.choice([True, None, False]), f"N{self.fresh()}", self.marks()
        contact = {"email": address, **({"attributes": {"name": name}} if account.provider == "mailingcore" else {"first_name": name})}
        if opt is not None:
            contact["opt_in"] = opt
        self.ledgers[account.provider].upsert(self.step_number, marks[account.provider], address, opt, name, self.present(account))
        self.note(f"upsert {json.dumps(contact)}", {address}, account.provider, marks)
        self.attempt(account, "SELECT contactsync_upsert(%s, %s)", (account.server, json.dumps(contact)))

    def reconcile(self):
        self.import_(self.some_account(), "w", "reconcile")

    def import_again(self):
        self.import_(self.some_account(), "w")

    def new_server(self):
        """The server is dropped and made again: the same account."""
        account = self.some_account()
        self.quiet()
        for table in list(account.watched):
            self.unwatch(account, table)
        self.ledgers[account.provider].upserted.clear()
        self.attempt(account, f"DROP SERVER {account.server} CASCADE")
        self.make_server(account)
        self.note("the server is made anew", None, account.provider)
        self.watch(account, "w")
        self.import_(account, "w", self.rng.choice(["import", "reconcile"]))

    def other_topic(self):
        account = self.accounts.get("owlat")
        if account:
            for topic in (TOPICS["other"], account.topic):
                self.attempt(account, f"ALTER SERVER {account.server} OPTIONS (SET topic_id '{topic}')")
                self.note(f"topic {topic}", None, "owlat")
                if topic != account.topic and self.rng.random() < 0.3:
                    self.import_(account, "w", "reconcile")

    def rotate_key(self):
        account = self.some_account()
        old = account.key
        account.generation += 1
        self.call("POST", f"{account.provider}/config", {
            "account": account.name, "keys": {old: {**account.grant, "revoked": True}, account.key: account.grant}})
        self.note("the key is another one", None, account.provider)
        time.sleep(self.rng.random() * 0.1)
        (name, value), = account.secret().items()
        self.attempt(account, f"ALTER USER MAPPING FOR CURRENT_USER SERVER {account.server} OPTIONS (SET {name} '{value}')")

    # people

    def act(self, account, address, act, **options):
        report = self.call("POST", f"{account.provider}/people",
                           {"account": account.name, "email": address, "act": act, **options})
        self.ledgers[account.provider].person(self.step_number, address, act, report["events"][-1]["journal"])
        self.note(f"{act} at {account.provider}", {address}, account.provider)

    def person_acts(self):
        account = self.some_account()
        present = sorted(self.present(account))
        if present:
            act = self.rng.choice(["opt_out"] * 6 + ["complain", "opt_in"])
            options = {}
            if account.provider == "owlat" and act == "opt_in":
                options["topic"] = account.topic
            if account.provider == "owlat" and self.rng.random() < 0.2:
                act, options = "confirm", {}
            self.act(account, self.rng.choice(present), act, **options)

    def everybody_leaves(self):
        """So that whatever is claimed without a word is seen."""
        for account in self.accounts.values():
            for address in sorted(self.present(account)):
                if self.rng.random() < 0.6:
                    self.act(account, address, "opt_out")

    def pull(self):
        account = self.accounts.get("mailingcore")
        if account and self.attempt(account, f"SELECT contactsync_pull('{account.server}')") is not None:
            self.ledgers["mailingcore"].pulled()
            self.note("pulled", None, "mailingcore")

    # faults

    def fault(self):
        account = self.some_account()
        action, effect = self.rng.choice([
            ({"status": 503}, "after"), ({"reset": "before"}, "after"), ({"truncate": True}, "after"), ({"status": 503}, "before"),
            ({"status": 429, "retry_after": "1"}, "before"), ({"stall": True}, "after"), ({"stall": True}, "before")])
        times = self.rng.choice([1, 1, 3])
        self.call("POST", f"{account.provider}/fault", {"match": {"account": account.name}, "times": times, "effect": effect, "action": action})
        self.note(f"fault: {json.dumps(action)} {effect}, {times} times", None, account.provider)

    def lose_withdrawal(self):
        """P7: a withdrawal whose answer is lost, a reload, and consent again."""
        rows = [row for row in self.rows.values() if row.opt]
        if rows:
            row = self.rng.choice(rows)
            self.lose_answers()
            self.change("consent is withdrawn", f"UPDATE {row.table} SET opt = false WHERE uid = {row.uid}")
            time.sleep(0.1)
            self.rng.choice([History.reload_definitions, History.end_worker, History.restart, History.kill_worker])(self)
            self.change("... and given again", f"UPDATE {row.table} SET opt = true WHERE uid = {row.uid}")

    def lose_change(self):
        """P6: a change whose answer is lost, and the row is as it was before that is known."""
        row = self.some_row()
        if row:
            self.lose_answers()
            self.change("a change", f"UPDATE {row.table} SET name = 'lost' WHERE uid = {row.uid}")
            time.sleep(0.1)
            self.change("... the row goes", f"UPDATE {row.table} SET live = false WHERE uid = {row.uid}")
            time.sleep(0.1)
            self.change("... and comes back as it was", f"UPDATE {row.table} SET live = true, name = {literal(row.name)} WHERE uid = {row.uid}")

    def lose_creation(self):
        """P8: a creation whose answer is lost, and the row goes."""
        here = {row.address for row in self.rows.values()}
        free = [person for person in self.people if self.address(person) not in here]
        if free:
            self.lose_answers()
            uid = self.fresh()
            self.change("a new row", self.insert_sql(person=self.rng.choice(free), uid=uid, opt=True))
            time.sleep(0.1)
            self.rng.choice([History.reload_definitions, History.end_worker, History.kill_worker, History.person_acts])(self)
            self.change("... and it goes", f"DELETE FROM w WHERE uid = {uid}")

    def lose_answers(self):
        for account in self.accounts.values():
            self.call("POST", f"{account.provider}/fault", {
                "match": {"account": account.name}, "times": 2, "effect": "after",
                "action": self.rng.choice([{"status": 503}, {"reset": "before"}, {"stall": True}])})
        self.note("the next answers are lost")

    def reload_definitions(self):
        account = self.some_account()
        self.sql(f"ALTER SERVER {account.server} OPTIONS (SET timeout '{self.rng.choice([60, 61, 62])}s')")
        self.note("definitions are read again", None, None)

    def end_worker(self):
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = current_database()",
                 user="admin")
        self.note("the worker ends")

    def kill_worker(self):
        for pid, in self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = current_database()", user="admin"):
            os.kill(pid, 9)
        time.sleep(0.3)
        self.note("the worker is killed, and the server with it")

    def restart(self):
        mode = self.rng.choice(["fast", "immediate"])
        self.place.server.stop(mode)
        self.place.server.start()
        self.note(f"restarted ({mode})")

    def restore(self):
        """Dump the database, restore it, and go on with the copy."""
        self.quiet()
        bindir, host = self.place.options.bindir, self.place.server.sockets
        other = self.database + "r"
        self.place.run(self.place.connect("postgres", "admin"), f"CREATE DATABASE {other} OWNER sender")
        dump = subprocess.run([f"{bindir}/pg_dump", "-h", host, "-U", "admin", "-Fc", self.database], check=True, stdout=subprocess.PIPE).stdout
        subprocess.run([f"{bindir}/pg_restore", "-h", host, "-U", "admin", "-d", other, "--single-transaction"], input=dump, check=True)
        self.place.run(self.place.connect("postgres", "admin"), f"DROP DATABASE {self.database} WITH (FORCE)")
        self.place.run(self.place.connect("postgres", "admin"), f"ALTER DATABASE {other} RENAME TO {self.database}")
        for account in self.accounts.values():
            self.attempt(account, f"SELECT contactsync_resume('{account.server}')")
        self.note("dumped and restored")

    def forget(self):
        row = self.some_row()
        if row:
            self.attempt(None, "SELECT * FROM contactsync_forget(%s)", (row.address,))
            self.note("forgotten; the row stays", {row.address})

    # points of quiet

    def quiet(self):
        """Until everything is sent; then the ledgers look."""
        for account in self.accounts.values():
            self.call("DELETE", f"{account.provider}/fault?account={account.name}")
        end, state = time.monotonic() + QUIET_SECONDS, None
        while time.monotonic() < end:
            try:
                state = self.sql("""
                    SELECT server, source::text, state, reason, backlog, in_flight FROM contactsync.status WHERE backlog > 0 OR in_flight > 0
                    UNION ALL SELECT server, source::text, kind, phase, total, NULL FROM contactsync.progress WHERE state = 'running'""")
            except psycopg2.Error:
                time.sleep(0.2)
                continue
            if not state:
                break
            time.sleep(0.03)
        else:
            self.broken.append(f"step {self.step_number}: it does not come to rest: {state}")
        self.note("quiet")
        self.look(True)

    def look(self, quiet):
        failures = collections.defaultdict(dict)
        if quiet:
            for server, key, upsert_key, reason in self.sql("SELECT server, key, upsert_key, reason FROM contactsync.failures"):
                failures[server][upsert_key or key] = reason
        for name, account in self.accounts.items():
            ledger = self.ledgers[name]
            for entry in self.call("GET", f"{name}/journal?account={account.name}&since={account.quiet_mark}"):
                ledger.answered(entry)
            people = self.mailable(account)
            ledger.read(people)
            if quiet:
                account.quiet_mark = self.call("GET", f"{name}/count?account={account.name}")["last"]
                ledger.quiet(self.rows, self.contacts(account), people, failures[account.server])

    ROWS = [(rename, 3), (say, 4), (toggle, 4), (hide, 2), (case, 1), (rekey, 2), (rekey_and_say, 1), (move_region, 2), (external, 1),
            (insert, 5), (duplicate, 1), (delete, 3), (come_back, 3), (delete_and_insert, 2), (rekey_all, 1), (swap, 1), (new_address, 2),
            (share_address, 1), (hand_over, 1), (truncate, 0.5), (reload, 0.7), (reload_anew, 0.7), (second_table, 2)]
    OTHERS = [(watch_again, 1.5), (alter_mapping, 1), (second_watch, 1.5), (upsert_beside, 1.5), (reconcile, 1.5), (import_again, 1),
              (new_server, 0.7), (other_topic, 0.5), (rotate_key, 0.5), (pull, 1), (forget, 1)]
    PEOPLE = [(person_acts, 8), (everybody_leaves, 2)]
    FAULTS = [(fault, 3), (lose_withdrawal, 1), (lose_change, 1), (lose_creation, 1), (reload_definitions, 1), (end_worker, 0.5),
              (kill_worker, 0.4), (restart, 0.4), (restore, 0.3)]

    def run(self):
        actions = self.ROWS + self.OTHERS + self.PEOPLE + self.FAULTS
        if self.place.features["opt_in_at"]:
            actions = actions + [(History.say_at, 2)]
        self.set_up()
        self.quiet()
        for _ in range(self.place.options.steps):
            self.step_number += 1
            act = self.rng.choices([action for action, _ in actions], [weight for _, weight in actions])[0]
            act(self)
            if self.rng.random() < 0.6:
                self.quiet()
            else:
                time.sleep(self.rng.random() * 0.05)
                self.look(False)
        self.step_number += 1
        self.finish()

    def finish(self):
        self.quiet()
        before = None
        while True:
            failures = sorted(self.sql("SELECT server, key, reason FROM contactsync.failures"))
            if not failures or failures == before:
                break
            before = failures
            for account in self.accounts.values():
                self.attempt(account, f"SELECT contactsync_retry('{account.server}')")
            self.note("failures are tried again")
            self.quiet()
        if self.place.features["delete_delay"]:
            time.sleep(15 / SPEED + 0.2)
            self.quiet()
        for name, account in self.accounts.items():
            self.ledgers[name].finish(self.rows, self.contacts(account), self.mailable(account))

    def clean_up(self):
        self.place.run(self.place.connect("postgres", "admin"), f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    # the report

    def tell(self, name, verdict):
        """The history of one person at one provider: rows, words, requests."""
        account, address = self.accounts[name], verdict.address
        print(f"\nseed {self.seed}, {name}: {verdict}")
        print(f"  {account.describe()}, table {self.kind}")
        exts = {ext for row in self.rows.values() if row.address == address for ext in (row.ext, row.mc_ext) if ext}
        exts |= {f"{letter}{address.split('@')[0].split('.')[0]}" for letter in "EM"}
        items = [((marks[name], 1, order), f"step {step:3}  {text}")
                 for order, (step, marks, addresses, provider, text) in enumerate(self.lines)
                 if (addresses is None or address in addresses) and provider in (None, name) and text != "quiet"]
        person = next((person for person in self.mailable(account) if person["email"] == address), {"events": []})
        felt = collections.defaultdict(list)
        for event in person["events"]:
            if event["by"] == "request":
                felt[event["journal"]].append(event["kind"] + (f" over {event['over']}" if "over" in event else ""))
        for entry in self.call("GET", f"{name}/journal?account={account.name}"):
            keys = {key.lower() for key in entry["keys"]}
            if address in keys or exts & set(entry["keys"]) or entry["seq"] in felt or any(ext in entry["path"] for ext in exts):
                fault = f", answer lost: {json.dumps(entry['fault']['action'])}" if entry["fault"] else ""
                items.append(((entry["seq"], 0, 0), f"#{entry['seq']:<6}  {entry['method']} {entry['path']} "
                              f"{shorten(relevant(entry['body'], {address, *exts}))} -> {entry['status']}{fault}"
                              f"{'   ** ' + ', '.join(felt[entry['seq']]) if felt[entry['seq']] else ''}"))
        for _, text in sorted(items):
            print(f"    {text}")


def relevant(body, keys):
    """Of a batch, the contacts in question."""
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--work")
    parser.add_argument("--seed", type=int, help="the first seed; random if not given")
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--provider", choices=PROVIDERS, help="only this one: quicker, but other choices")
    parser.add_argument("--show", type=int, default=3, help="histories to print of each kind of verdict and provider")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    first = random.randrange(10**6) if options.seed is None else options.seed
    work = tempfile.mkdtemp(prefix="consent.", dir=options.work)
    place = Installation(options, work)
    missing = sorted(name for name, there in place.features.items() if not there)
    print(f"seeds {first} to {first + options.seeds - 1}, {options.steps} steps"
          + (f"; the product does not have yet: {', '.join(missing)}" if missing else ""), flush=True)
    counts, shown, broken, started = collections.Counter(), collections.Counter(), 0, time.monotonic()
    failed_seeds = []
    try:
        for seed in range(first, first + options.seeds):
            history = History(place, seed)
            try:
                history.run()
            except (psycopg2.Error, subprocess.CalledProcessError, OSError) as error:
                history.broken.append(f"step {history.step_number}: {type(error).__name__}: {error}")
            found = [(name, verdict) for name, ledger in history.ledgers.items() for verdict in ledger.verdicts]
            for name, verdict in found:
                counts[name, verdict.kind] += 1
                if verdict.kind in FAILING and shown[name, verdict.kind] < options.show:
                    shown[name, verdict.kind] += 1
                    history.tell(name, verdict)
            for text in history.broken:
                print(f"seed {seed}: {text}", flush=True)
            broken += len(history.broken)
            if history.broken or any(verdict.kind in FAILING for _, verdict in found):
                failed_seeds.append(seed)
            if not options.keep:
                history.clean_up()
            kinds = collections.Counter(verdict.kind for _, verdict in found)
            print(f"seed {seed}: " + (", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "well"), flush=True)
    finally:
        place.server.stop("immediate")
        place.sandbox.process.stdin.close()
    print(f"\n{options.seeds} seeds in {time.monotonic() - started:.0f} s")
    for kind in FAILING + SHOWN:
        line = ", ".join(f"{name} {counts[name, kind]}" for name in PROVIDERS if counts[name, kind])
        print(f"{sum(counts[name, kind] for name in PROVIDERS):6}  {kind}{f' ({line})' if line else ''}")
    print(f"{broken:6}  broken")
    if failed_seeds:
        print("failing seeds: " + " ".join(map(str, failed_seeds)))
    if options.keep or broken:
        print(f"kept {work}")
    else:
        shutil.rmtree(work)
    return 1 if failed_seeds else 0


if __name__ == "__main__":
    sys.exit(main())
