#!/usr/bin/python3
"""Torture contactsync with random changes, provider faults and disruptions, then compare the results.

usage: torture.py --bindir DIR [--work DIR] [--seed N] [--seconds N] [--clock-speed X] [--gentle]

Sessions change several watched tables in many ways, while both simulated providers fail at random and this
script kills the worker, restarts the server, alters tables, rotates keys and recreates watches. Then all of this
stops, and within a minute the contacts at the providers must match the tables. This script checks that

    the queue is empty, after all prepared transactions and snapshots have ended;
    every row that passes the filter of its watch is at the provider with its last committed values, and deleted rows
    are not, unless the watch was made again, which does not look for rows that were deleted meanwhile, or a call that
    a killed process left behind was processed after the deletion;
    only rows with an invalid address are failures;
    no consent is claimed that the row does not give, and consent that it gives is claimed, unless the history of the
    row or the address shows that it may have been claimed before;
    no two calls for the same contact were in flight at the same time;
    the server crashed only when this script killed it, and the worker is idle when it has nothing to do;
    the log contains no key.

With --gentle there are faults but no disruptions. Requires python3-psycopg2, and python3-aiohttp for the sandbox.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

import psycopg2

from installation import Sandbox, Server, idle_problem

ODD = ["a", "b c", "d'e", 'f"g', "h\\i", "{j,k}", "NULL", "l\nm", "ñ–ü", "[1]", "%s", "", "\U0001f600", "tab\there"]
ACCOUNT = "torture"


class Table:
    """A watched table: how rows are created, and how they are mapped for each provider."""

    def __init__(self, name, ddl, keys, new_key, mailingcore, campaignlark, addresses=None):
        self.name, self.ddl, self.keys, self.new_key = name, ddl, keys, new_key
        self.mappings = {"mailingcore": mailingcore, "campaignlark": campaignlark}
        self.addresses = addresses          # shared by rows; None if each row has its own
        self.rewatched = False

    def history_sql(self):
        key = "concat_ws('|', " + ", ".join("{0}." + name for name in self.keys) + ")"
        note = (f"INSERT INTO truth.history (source, key, email, live) VALUES ('{self.name}', {key},"
                " public.contactsync_normalize_email({0}.email), {1}); ")
        return (f"CREATE FUNCTION truth.note_{self.name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
                f" IF TG_OP = 'TRUNCATE' THEN INSERT INTO truth.history (source, live) VALUES ('{self.name}', false);"
                f" ELSIF TG_OP = 'DELETE' THEN {note.format('OLD', 'false')} ELSE {note.format('NEW', 'NEW.live')} END IF;"
                f" RETURN NULL; END $$;"
                f"CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {self.name} FOR EACH ROW EXECUTE FUNCTION truth.note_{self.name}();"
                f"CREATE TRIGGER note_all AFTER TRUNCATE ON {self.name} EXECUTE FUNCTION truth.note_{self.name}()")

    def watch_sql(self, server):
        mapping, on_delete = self.mappings[server]
        # rows that are deleted, filtered out or truncated are to be removed soon, however many
        return ("SELECT contactsync_watch(%s, %s, %s, filter => 'live', on_delete => %s, delete_delay => '0', delete_guard => 'off')",
                (self.name, server, json.dumps(mapping), on_delete))


COLUMNS = ("email text, name text NOT NULL, opt boolean NOT NULL, points int NOT NULL, live boolean NOT NULL, unused text")


def mailingcore(external_id=None, on_delete="ignore"):
    mapping = {"email": "email", "opt_in": "opt", "attributes": {"name": "name", "points": "points"}}
    if external_id:
        mapping["external_id"] = external_id
    return mapping, on_delete


def campaignlark(on_delete="ignore"):
    return {"email": "email", "opt_in": "opt", "first_name": "name", "attributes": {"points": "points"}}, on_delete


def make_tables():
    return [
        Table("plain", f"CREATE TABLE plain (id int PRIMARY KEY, {COLUMNS})", ["id"],
              lambda r: (r.randrange(80),), mailingcore("'plain-' || id", "delete"), campaignlark("unsubscribe")),
        Table("part",
              f"CREATE TABLE part (region text, id int, {COLUMNS}, PRIMARY KEY (region, id)) PARTITION BY LIST (region);"
              "CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');"
              "CREATE TABLE part_rest PARTITION OF part DEFAULT", ["region", "id"],
              lambda r: (r.choice("abc"), r.randrange(25)), mailingcore("'part-' || region || id", "delete"), campaignlark()),
        Table("odd", f"CREATE TABLE odd (k text PRIMARY KEY, {COLUMNS})", ["k"],
              lambda r: (r.choice(ODD) + r.choice(ODD),), mailingcore(on_delete="unsubscribe"), campaignlark()),
        Table("comp", f"CREATE TABLE comp (a text, d date, b numeric, {COLUMNS}, PRIMARY KEY (d, a, b))", ["a", "d", "b"],
              lambda r: (r.choice(ODD), f"2020-01-0{r.randrange(1, 4)}", r.choice(["1", "1.5"])),
              mailingcore("'comp-' || md5(a) || d || b", "delete"), campaignlark("unsubscribe")),
        Table("shared", f"CREATE TABLE shared (id int PRIMARY KEY, {COLUMNS})", ["id"],
              lambda r: (r.randrange(30),), mailingcore(), campaignlark(),
              addresses=[f"shared{n}@example.org" for n in range(6)]),
    ]


class Client(threading.Thread):
    """One session of the application."""

    numbers = iter(range(1, 10**9))
    prepared = []
    lock = threading.Lock()

    def __init__(self, torture, seed):
        super().__init__(daemon=True)
        self.torture, self.random = torture, random.Random(seed)
        self.connection = None
        self.failure = None

    def run(self):
        try:
            while not self.torture.over.is_set():
                try:
                    self.connection = self.torture.server.patient("sender")
                    self.execute("SET lock_timeout = '500ms'")
                    while not self.torture.over.is_set():
                        self.transaction()
                except (psycopg2.DatabaseError, psycopg2.InterfaceError):
                    pass                    # the server stopped, or this session lost a deadlock
                finally:
                    if self.connection:
                        self.connection.close()
        except Exception as error:          # pylint: disable=broad-except
            self.failure = error
            raise

    def execute(self, sql, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)

    def transaction(self):
        r = self.random
        try:
            self.execute("BEGIN")
            if r.random() < 0.3:
                self.execute("SET LOCAL synchronous_commit = off")
            for _ in range(r.choice([1, 1, 2, 5])):
                self.step()
            if r.random() < 0.03:
                time.sleep(r.random() * 2)  # keep the transaction open
            end = r.random()
            if end < 0.15:
                self.execute("ROLLBACK")
            elif end < 0.25:
                self.prepare()
            else:
                self.execute("COMMIT")
        except (psycopg2.IntegrityError, psycopg2.DataError, psycopg2.ProgrammingError,
                psycopg2.InternalError, psycopg2.extensions.TransactionRollbackError,
                psycopg2.extensions.QueryCanceledError, psycopg2.errors.LockNotAvailable):
            self.execute("ROLLBACK")
        if r.random() < 0.2:
            self.end_prepared()
        time.sleep(r.random() * 0.05)

    def prepare(self):
        name = f"t{next(self.numbers)}"
        self.execute("PREPARE TRANSACTION %s", (name,))
        with self.lock:
            self.prepared.append(name)

    def end_prepared(self):
        with self.lock:
            if not self.prepared:
                return
            name = self.prepared.pop(0)
        self.execute(("COMMIT" if self.random.random() < 0.7 else "ROLLBACK") + " PREPARED %s", (name,))

    def step(self):
        r = self.random
        if r.random() < 0.25:
            self.execute("SAVEPOINT s")
            try:
                self.change()
            except (psycopg2.IntegrityError, psycopg2.ProgrammingError):
                self.execute("ROLLBACK TO s")
                return
            self.execute("ROLLBACK TO s" if r.random() < 0.5 else "RELEASE s")
        else:
            self.change()

    def row(self, table):
        r = self.random
        key = table.new_key(r)
        email = (r.choice(table.addresses) if table.addresses else
                 f"{table.name}{next(self.numbers)}@Example.com")
        if r.random() < 0.02:
            email = r.choice(["nobody", "a@b@c", "two words@example.com", None])
        elif r.random() < 0.1:
            email = f"  {email.upper()} "
        return key + (email, r.choice(ODD) + "x", r.random() < 0.5, next(self.numbers), r.random() < 0.9)

    def change(self):
        r = self.random
        table = r.choice(self.torture.tables)
        name = table.name
        row = self.row(table)
        columns = ", ".join(table.keys + ["email", "name", "opt", "points", "live"])
        marks = ", ".join(["%s"] * len(row))
        where = " AND ".join(f"{key} = %s" for key in table.keys)
        key = row[:len(table.keys)]
        kind = r.random()
        if kind < 0.2:
            self.execute(f"INSERT INTO {name} ({columns}) VALUES ({marks})", row)
        elif kind < 0.45:
            sets = ", ".join(f"{c} = excluded.{c}" for c in ("email", "name", "opt", "points", "live"))
            self.execute(f"INSERT INTO {name} ({columns}) VALUES ({marks}) ON CONFLICT ({', '.join(table.keys)})"
                         f" DO UPDATE SET {sets}", row)
        elif kind < 0.6:
            self.execute(f"UPDATE {name} SET points = %s, opt = %s WHERE {where}", (row[-2], row[-3]) + key)
        elif kind < 0.68:
            self.execute(f"UPDATE {name} SET email = %s WHERE {where}", (row[len(key)],) + key)
        elif kind < 0.74:
            sets = ", ".join(f"{k} = %s" for k in table.keys)
            self.execute(f"UPDATE {name} SET {sets} WHERE {where}", table.new_key(r) + key)
        elif kind < 0.82:
            self.execute(f"DELETE FROM {name} WHERE {where}", key)
        elif kind < 0.86:
            self.execute(f"UPDATE {name} SET live = NOT live WHERE {where}", key)
        elif kind < 0.90:
            self.execute(f"UPDATE {name} SET unused = 'x' WHERE {where}", key)
        elif kind < 0.94:
            self.copy(table, columns)
        elif kind < 0.98:
            self.execute(f"UPDATE {name} SET points = points + 1, name = name || 'y'"
                         f" WHERE length(name) < 60 AND points %% 3 = %s", (r.randrange(3),))
        elif kind < 0.985:
            self.execute(f"TRUNCATE {name}")
        else:
            self.execute(f"DO $$ BEGIN UPDATE {name} SET points = points + 1; RAISE 'no'; EXCEPTION WHEN OTHERS THEN"
                         f" UPDATE {name} SET points = points + 2 WHERE points %% 5 = 0; END $$".replace("%%", "%"))

    def copy(self, table, columns):
        import io
        rows = {}
        for _ in range(8):
            row = self.row(table)
            rows[row[:len(table.keys)]] = row
        with self.connection.cursor() as cursor:
            cursor.copy_expert(f"COPY {table.name} ({columns}) FROM STDIN",
                               io.StringIO("".join("\t".join(map(copy_text, row)) + "\n" for row in rows.values())))


def copy_text(value):
    if value is None:
        return "\\N"
    text = str(value)
    for character, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n")):
        text = text.replace(character, escaped)
    return text


class Torture:
    TIMEOUT = 20
    KEYS = {"mailingcore": "mc_test_torture", "campaignlark": "cl_torture"}

    def __init__(self, options, work):
        self.options = options
        self.random = random.Random(options.seed)
        self.over = threading.Event()
        self.problems = []
        self.tables = make_tables()
        self.grants = {}
        self.generation = dict.fromkeys(self.KEYS, 0)
        self.holders = []
        self.columns = 0
        self.cuts = []                      # times at which this script interrupted calls
        self.sandbox = Sandbox(options.clock_speed)
        self.server = Server(options.bindir, work, {
            "shared_preload_libraries": "contactsync", "contactsync.allowed_networks": "127.0.0.0/8",
            "listen_addresses": "", "unix_socket_directories": work,
            "fsync": "off", "shared_buffers": "32MB", "max_connections": "30", "max_prepared_transactions": "20",
            "contactsync.clock_speed": options.clock_speed, "contactsync.launcher_naptime": "1s",
            "contactsync.max_pending": "1000", "contactsync.source_timeout": "5s",
            "contactsync.probe_interval": str(max(1, options.clock_speed // 2)),
            "log_line_prefix": "%m %b[%p] ", "log_statement": "none", "deadlock_timeout": "200ms",
            "max_worker_processes": "16", "autovacuum_naptime": "5s"})

    # setup and disruptions

    def note(self, text):
        if self.options.verbose:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def sql(self, sql, parameters=None, user="admin"):
        connection = self.server.patient(user)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
        finally:
            connection.close()

    def key(self, server):
        return f"{self.KEYS[server]}_{self.generation[server]}"

    def set_up(self):
        self.sql("CREATE EXTENSION contactsync; CREATE ROLE sender LOGIN; GRANT ALL ON SCHEMA public TO sender")
        for server, path in (("mailingcore", "/mailingcore"), ("campaignlark", "/campaignlark/v1")):
            config = self.sandbox.call("GET", f"{server}/config")
            self.grants[server] = next(iter(config["keys"].values()))
            self.sandbox.call("POST", f"{server}/config", {
                "account": ACCOUNT, "keys": {self.key(server): self.grants[server]},
                "limits": {name: None for name in config["limits"]}})
            tenant = f", tenant_id '{ACCOUNT}'" if server == "mailingcore" else ""
            self.sql(f"CREATE SERVER {server} FOREIGN DATA WRAPPER contactsync OPTIONS (provider '{server}', base_url"
                     f" '{self.sandbox.url}{path}'{tenant}, max_retries '20', bulk_guard '0', pace '200', burst '50', timeout '{self.TIMEOUT}s',"
                     f" batch_size '{'20' if tenant else '1'}');"
                     f"GRANT USAGE ON FOREIGN SERVER {server} TO sender;"
                     f"CREATE USER MAPPING FOR sender SERVER {server} OPTIONS (api_key '{self.key(server)}')")
        self.sql("CREATE SCHEMA truth; CREATE TABLE truth.history (seq bigint GENERATED ALWAYS AS IDENTITY,"
                 " source text, key text, email text, live boolean)")
        for table in self.tables:
            self.sql(table.ddl, user="sender")
            self.sql(table.history_sql())
            for server in table.mappings:
                self.sql(*table.watch_sql(server), user="sender")

    def fault(self):
        r = self.random
        server = r.choice(list(self.KEYS))
        action = r.choice([
            {"status": 500}, {"status": 503}, {"status": 502, "html": True}, {"status": 429},
            {"status": 429, "retry_after": "3"}, {"status": 429, "retry_after": "0"},
            {"status": 429, "retry_after": "date:+5"}, {"status": 503, "retry_after": "2"}, {"status": 429, "retry_after": "x"},
            {"latency": 10}, {"latency": 2}, {"reset": "before"}, {"reset": "inside"}, {"reset": "after"},
            {"stall": True}, {"stall": True, "stall_at": "inside"}, {"truncate": True}, {"invalid_json": True},
            {"status": 408}, {"huge": 100000}, {"status": 401}, {"status": 413}, {"status": 400}])
        if action in ({"status": 413}, {"status": 400}):
            action = {"status": 500}        # a 4xx would rightly cause failures
        self.note(f"fault {server} {action}")
        self.sandbox.call("POST", f"{server}/fault", {
            "match": {"account": ACCOUNT}, "times": r.choice([1, 2, 5, 20]),
            "effect": r.choice(["before", "after"]), "action": action})

    def clear_faults(self):
        for server in self.KEYS:
            self.sandbox.call("DELETE", f"{server}/fault")

    def rotate_key(self):
        server = self.random.choice(list(self.KEYS))
        old = self.key(server)
        self.generation[server] += 1
        self.sandbox.call("POST", f"{server}/config", {
            "account": ACCOUNT, "keys": {old: {"revoked": True}, self.key(server): self.grants[server]}})
        time.sleep(self.random.random() * 0.5)
        self.sql(f"ALTER USER MAPPING FOR sender SERVER {server} OPTIONS (SET api_key '{self.key(server)}')")

    def drop_mapping(self):
        server = self.random.choice(list(self.KEYS))
        self.sql(f"DROP USER MAPPING FOR sender SERVER {server}")
        time.sleep(self.random.random() * 0.5)
        self.sql(f"CREATE USER MAPPING FOR sender SERVER {server} OPTIONS (api_key '{self.key(server)}')")

    def revoke(self):
        server = self.random.choice(list(self.KEYS))
        self.sql(f"REVOKE USAGE ON FOREIGN SERVER {server} FROM sender")
        time.sleep(self.random.random() * 0.5)
        self.sql(f"GRANT USAGE ON FOREIGN SERVER {server} TO sender")

    def kill_worker(self):
        pid = self.server.worker_pid()
        if pid:
            self.server.expected_crashes += 1
            os.kill(pid, signal.SIGKILL)

    def end_worker(self):
        pid = self.server.worker_pid()
        if pid:
            os.kill(pid, signal.SIGTERM)

    def restart(self):
        self.server.stop(self.random.choice(["immediate", "immediate", "fast"]))
        self.server.start()

    def alter_table(self):
        table = self.random.choice(self.tables).name
        self.columns += 1
        self.sql(f"SET lock_timeout = '2s'; ALTER TABLE {table} ADD COLUMN more{self.columns} int DEFAULT 1;"
                 + (f"ALTER TABLE {table} DROP COLUMN more{self.columns}" if self.random.random() < 0.5 else ""))

    def add_partition(self):
        self.columns += 1
        self.sql(f"SET lock_timeout = '2s'; CREATE TABLE part_{self.columns} PARTITION OF part FOR VALUES IN"
                 f" ('new{self.columns}'); ALTER TABLE part_{self.columns} OWNER TO sender")

    def watch_again(self):
        table = self.random.choice(self.tables)
        server = self.random.choice(list(self.KEYS))
        table.rewatched = True
        self.sql("SET lock_timeout = '5s'; SELECT contactsync_unwatch(%s, %s);"
                 + ("SELECT pg_sleep(0.3);" if self.random.random() < 0.5 else ""), (table.name, server), "sender")
        self.sql(*table.watch_sql(server), user="sender")
        self.read_all(table, server)

    def read_all(self, table, server):
        """Have all rows of a watch that was made again be read: until then nothing is removed."""
        if table.rewatched:
            self.retried("SELECT contactsync_import(%s, %s)", (table.name, server))

    def hold_snapshot(self):
        connection = self.server.patient()
        with connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        self.holders.append(connection)
        if len(self.holders) > 2:
            self.holders.pop(0).close()

    def violate(self):
        acts = [(self.fault, 12), (self.clear_faults, 5)]
        if not self.options.gentle:
            acts += [(self.kill_worker, 1), (self.end_worker, 1), (self.restart, 1), (self.alter_table, 1),
                     (self.add_partition, 0.5), (self.watch_again, 1), (self.hold_snapshot, 1), (self.rotate_key, 1),
                     (self.drop_mapping, 1), (self.revoke, 1)]
        act = self.random.choices([a for a, _ in acts], [weight for _, weight in acts])[0]
        if act not in (self.fault, self.clear_faults):
            self.cuts.append(time.monotonic())
            self.note(act.__name__)
        try:
            act()
        except (psycopg2.Error, ProcessLookupError) as error:
            self.note(f"{act.__name__}: {str(error).strip()}")
            if act is self.watch_again or act is self.drop_mapping or act is self.revoke or act is self.rotate_key:
                self.repair()

    def repair(self):
        """Complete the actions that were interrupted."""
        for server in self.KEYS:
            self.sandbox.call("POST", f"{server}/config",
                              {"account": ACCOUNT, "keys": {self.key(server): {**self.grants[server], "revoked": False}}})
            for sql in (f"GRANT USAGE ON FOREIGN SERVER {server} TO sender",
                        f"CREATE USER MAPPING IF NOT EXISTS FOR sender SERVER {server} OPTIONS (api_key 'none')",
                        f"ALTER USER MAPPING FOR sender SERVER {server} OPTIONS (SET api_key '{self.key(server)}')"):
                self.retried(sql)
            for table in self.tables:
                if not self.server.query("SELECT FROM contactsync.watches WHERE source = %s::regclass AND server = %s",
                                         table.name, server):
                    self.retried(*table.watch_sql(server))
                self.read_all(table, server)

    def retried(self, sql, parameters=None):
        for attempt in range(20):
            try:
                user = "admin" if "MAPPING" in sql or "GRANT" in sql else "sender"
                return self.sql(sql, parameters, user)
            except psycopg2.errors.DuplicateObject:
                return None
            except psycopg2.Error as error:
                self.note(f"{sql}: {str(error).strip()}")
                time.sleep(0.3)
        self.problems.append(f"could not {sql}")
        return None

    # final checks

    def settle(self):
        self.over.set()
        for client in self.clients:
            client.join(10)
            if client.failure or client.is_alive():
                self.problems.append(f"a client failed: {client.failure!r}")
        for connection in self.holders:
            connection.close()
        for name, in self.server.query("SELECT gid FROM pg_prepared_xacts"):
            self.sql("COMMIT PREPARED %s", (name,))
        self.clear_faults()
        self.repair()
        for server in self.KEYS:
            self.wait(server)
        retried = self.server.query("SELECT contactsync_retry('mailingcore'), contactsync_retry('campaignlark')")
        if any(retried[0]):
            for server in self.KEYS:
                self.wait(server)

    def wait(self, server):
        end = time.monotonic() + 60
        error = None
        while time.monotonic() < end:
            try:
                self.sql("CALL contactsync_wait(%s, '30 s')", (server,))
                return
            except psycopg2.Error as happened:
                error = str(happened).strip()
                time.sleep(0.5)
        self.problems.append(f"waiting for {server}: {error}")
        for row in self.server.query("SELECT server, source, state, reason, until, backlog, in_flight FROM contactsync.status"):
            self.problems.append(f"    {row}")

    def check(self):
        left = self.server.query("SELECT count(*) FROM contactsync.queue")[0][0]
        if left:
            self.problems.append(f"the queue still has {left} rows")
        for server in self.KEYS:
            self.check_contacts(server)
            self.check_journal(server)
        for row in self.server.query(
                "SELECT DISTINCT ON (reason, message) server, source, key, reason, message FROM contactsync.failures"
                " WHERE reason NOT IN ('invalid_email', 'missing_field') ORDER BY reason, message LIMIT 10"):
            self.problems.append(f"failure: {row}")
        orphans = self.server.query(
            "SELECT 'source_row', count(*) FROM contactsync.source_row c WHERE NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = c.watch)"
            " UNION ALL SELECT 'departure', count(*) FROM contactsync.departure c WHERE NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = c.watch)"
            " UNION ALL SELECT 'failure', count(*) FROM contactsync.failure c WHERE watch <> 0 AND NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = c.watch)"
            " UNION ALL SELECT 'counter', count(*) FROM contactsync.counter c WHERE watch <> 0 AND NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = c.watch)"
            " UNION ALL SELECT 'queue', count(*) FROM contactsync.queue c WHERE watch <> 0 AND NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = c.watch)")
        for name, n in orphans:
            if n:
                self.problems.append(f"{n} rows in contactsync.{name} belong to no watch")
        self.check_log()
        self.check_idle()

    def check_contacts(self, server):
        stored = self.sandbox.call("GET", f"{server}/contacts?account={ACCOUNT}")
        by_email = {(c.get("email") or c.get("email_address") or "").lower(): c for c in stored}
        by_id = {c.get("externalId"): c for c in stored if c.get("externalId")}
        certain = 0
        for table in self.tables:
            new = self.addresses_of_one_row(table)
            mapping = table.mappings[server][0]
            external = mapping.get("external_id", "NULL")
            rows = self.server.query(
                f"SELECT contactsync_normalize_email(email), {external}, name, opt, points, live FROM {table.name}")
            groups = collections.defaultdict(list)
            for email, external_id, name, opt, points, live in rows:
                if live and valid(email):
                    groups[external_id or email].append((email, name, opt, points))
            for key, expected in groups.items():
                contact = by_id.get(key) if mapping.get("external_id") else by_email.get(key)
                found = contact and known(contact)
                if len(expected) == 1 and expected[0][0] in new:
                    certain += expected[0][2]
                elif found and not found[2]:
                    expected = [(*e[:2], False, e[3]) for e in expected]
                if found not in expected:
                    self.problems.append(f"{server} {table.name} {key}: has {found}, not {expected}")
            if table.mappings[server][1] == "delete":
                self.check_removed(server, table, by_id, groups)
        self.note(f"{server}: consent of {certain} contacts had to be claimed")

    def addresses_of_one_row(self, table):
        """Return the addresses whose consent cannot have been claimed for anybody else.

        Consent is claimed once per word of a person: neither a row that is inserted again, nor one whose key or address
        changed, nor one that shares the address claims it again; consent.py judges which one may. So an address counts if
        only one row has had it, which has had no other and was always there and live.
        """
        if table.rewatched:
            return set()
        return {email for email, in self.server.query(
            "WITH h AS (SELECT * FROM truth.history WHERE source = %s),"
            " one AS (SELECT min(email) AS email, min(seq) AS first, max(seq) AS last FROM h WHERE key IS NOT NULL GROUP BY key"
            " HAVING count(DISTINCT email) = 1 AND count(email) = count(*) AND bool_and(live))"
            " SELECT email FROM one WHERE (SELECT count(DISTINCT key) FROM h WHERE h.email = one.email) = 1"
            " AND NOT EXISTS (SELECT FROM h WHERE key IS NULL AND seq > one.first AND seq < one.last)", table.name)}

    def check_removed(self, server, table, by_id, groups):
        rest = [key for key in by_id if key.startswith(f"{table.name}-") and key not in groups]
        invalid = {row[0] for row in self.server.query(
            f"SELECT {table.mappings[server][0]['external_id']} FROM {table.name} WHERE live")}
        rest = [key for key in rest if key not in invalid and not self.was_overtaken(server, key)]
        if rest and not table.rewatched:
            self.problems.append(f"{server} {table.name}: {len(rest)} contacts are still there: {rest[:3]}")

    def was_overtaken(self, server, key):
        """Did the provider process a call for a contact after the one that deleted it, although it came before?

        A process that is killed leaves a call behind that the provider can process at any time.
        """
        calls = [(entry["monotonic"], entry["monotonic"] + (entry["duration"] or 0), entry["method"])
                 for entry in self.sandbox.call("GET", f"{server}/journal?account={ACCOUNT}") if key in entry["keys"]]
        return any(begin < deleted < end and any(begin < cut < deleted + 1 for cut in self.cuts)
                   for deleted, _, method in calls if method == "DELETE"
                   for begin, end, other in calls if other != "DELETE")

    def check_journal(self, server):
        latest = {}
        overlaps = []
        journal = self.sandbox.call("GET", f"{server}/journal?account={ACCOUNT}")
        for entry in journal:
            # the sandbox does not notice when the client stops waiting
            begin = entry["monotonic"]
            end = begin + min(entry["duration"] or 0, self.TIMEOUT / self.options.clock_speed)
            for key in set(entry["keys"]):
                before = latest.get(key)
                # an interrupted call may end slightly later at the provider
                if before and before[0] > begin + 0.02 and not any(before[2] < cut < begin + 1 for cut in self.cuts):
                    overlaps.append((key, before[1], entry["seq"], round(before[0] - begin, 3)))
                if before is None or end > before[0]:
                    latest[key] = (end, entry["seq"], begin)
        self.requests = getattr(self, "requests", 0) + len(journal)
        for overlap in overlaps[:5]:
            self.problems.append(f"{server}: calls for one contact overlap: {overlap}")

    def check_log(self):
        with open(self.server.log, errors="replace") as log:
            text = log.read()
        for line in re.findall(r"^.*(?:PANIC|TRAP|signal 6|signal 11|AddressSanitizer).*$", text, re.M)[:5]:
            self.problems.append(f"log: {line}")
        if "_torture_" in text or ("cl_torture" in text):
            self.problems.append("a key is in the log")
        errors = collections.Counter(re.findall(r"contactsync (?:worker|launcher)\[\d+\] ((?:ERROR|WARNING).*)$", text, re.M))
        for message, n in errors.most_common(10):
            self.note(f"log {n} x {message}")

    def check_idle(self):
        pid = self.server.worker_pid()
        if pid is None:
            self.problems.append("no worker is running")
            return
        problem = idle_problem(pid)
        if problem:
            self.problems.append(f"the idle worker {problem}")

    def run(self):
        self.set_up()
        self.clients = [Client(self, f"{self.options.seed}/{n}") for n in range(4)]
        for client in self.clients:
            client.start()
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end:
            time.sleep(self.random.random() * 0.6)
            self.violate()
        self.settle()
        self.check()
        return self.problems


def valid(email):
    return email is not None and re.fullmatch(r"[^@\s]+@[^@\s]+", email)


def known(contact):
    """Return a contact of either provider as a row."""
    if "email_address" in contact:
        fields = contact.get("fields") or {}
        return (contact["email_address"], fields.get("first_name"), contact.get("status") == "SUBSCRIBED", fields.get("points"))
    attributes = contact.get("attributes") or {}
    return contact["email"], attributes.get("name"), contact.get("optIn"), attributes.get("points")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--work")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clock-speed", type=int, default=50)
    parser.add_argument("--gentle", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="torture.", dir=options.work)
    print(f"seed {options.seed}", flush=True)
    torture = Torture(options, work)
    try:
        problems = torture.run()
    finally:
        torture.over.set()
        torture.server.stop("immediate")
        torture.sandbox.process.stdin.close()
    for problem in problems[:40]:
        print(problem)
    print(f"seed {options.seed}: {torture.requests} requests, {len(problems)} problems", flush=True)
    if options.keep or problems:
        print(f"keeping {work}")
    else:
        shutil.rmtree(work)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
