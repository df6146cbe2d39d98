#!/usr/bin/python3
"""Try what happens to people's consent: random histories over all five providers, judged by an oracle.

usage: consent.py --bindir DIR [--work DIR] [--seed N] [--seeds N] [--steps N] [--provider NAME] [--verbose]

Each seed is a history of its own, in a database of its own: a table or two whose rows are inserted, updated, deleted and
moved, watched by servers at all five providers; watches that end and begin anew; people who opt out, opt in and complain
at the provider; and lost answers, reloads, kills, restarts, restores and erasures in between. What reaches people is read
from the sandbox and judged by consent_oracle.py, which says what the verdicts mean. For every failing verdict the seed and the
history of that person is printed: rows, words, requests, in their order.

A seed makes the same choices again, though not the same timing. What a product does not have yet (opt_in_at, claims,
delete_delay, ...) is left out, by the arguments that contactsync_watch() has.
"""

import argparse
import collections
import random
import shutil
import subprocess
import sys
import tempfile
import time

import psycopg2

from consent_accounts import PROVIDERS
from consent_history import History
from consent_oracle import FAILING, SHOWN
from torture import Sandbox, Server


class Installation:
    """The server and the sandbox that all histories share, and what the product can do."""

    SPEED = 20          # of both clocks

    def __init__(self, options, work):
        self.options = options
        self.sandbox = Sandbox(self.SPEED)
        self.server = Server(options.bindir, work, {
            "shared_preload_libraries": "contactsync", "listen_addresses": "", "unix_socket_directories": work,
            "fsync": "off", "shared_buffers": "32MB", "max_connections": "40", "max_worker_processes": "16",
            "contactsync.clock_speed": self.SPEED, "contactsync.launcher_naptime": "1s", "contactsync.probe_interval": "5",
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
        features["opt_in_at"] = works("SELECT contactsync_watch('t', 'mc', '{\"email\": \"email\", \"opt_in\": \"opt\", \"opt_in_at\": \"opt_at\"}')")
        features["spotzee_opt_in"] = works("SELECT contactsync_watch('t', 'sp', '{\"external_id\": \"id\", \"email\": \"email\", \"opt_in\": \"opt\"}')")
        features["spotzee_auto"] = works(server.format("api 'auto'"))
        features["spotzee_subscription"] = works(server.format("subscription_id '5'"))
        self.run(self.connect("postgres", "admin"), "DROP DATABASE probe WITH (FORCE)")
        return features


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--work")
    parser.add_argument("--seed", type=int, help="the first seed; random if not given")
    parser.add_argument("--seeds", type=int, default=6, help="how many")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--provider", choices=PROVIDERS, help="only this one: quicker, but other choices")
    parser.add_argument("--acts", help="only these, by the names of their functions")
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
