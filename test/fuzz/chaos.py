#!/usr/bin/python3
"""Have everything go wrong at once, then check that nothing is lost and nobody is harmed.

usage: chaos.py --bindir DIR [--work DIR] [--seed N] [--seconds N] [--kills N] [--changes N] [--round N] [--databases N] [--verbose]

Several roles in several databases each have accounts at all five providers, and sessions that change their tables as an
application does: one by one, in bulk, in transactions that are kept open, rolled back or prepared. Meanwhile the providers fail in
every way that the sandbox knows, processes of the server are killed, also in COMMIT, the server is restarted, tables, watches,
servers and keys are changed, watches are paused, imported and reconciled, and people opt out. After a round of this there is
quiet, and chaos_judge.py judges by the oracle of consent.py and by the calls. Then the next round begins.

A run ends after so many seconds of chaos, or after so many kills and changes, whichever is later. The same seed makes the same
choices, but not with the same timing. At the end a table tells what was done, what was found, and how long it took until a change
arrived again after each kind of kill. Requires python3-psycopg2, and python3-aiohttp for the sandbox.
"""

import argparse
import collections
import os
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2

from chaos_judge import Judge
from chaos_world import Tenant
from installation import Installation, idle_problem

CLOCK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clock", "clock.c")
QUIET_SECONDS = 300
RECOVERY_SECONDS = 60


class Place(Installation):
    """The server, whose clock can be set, and the sandbox."""

    SETTINGS = {"max_prepared_transactions": "40", "max_connections": "60", "autovacuum_naptime": "5s", "deadlock_timeout": "200ms",
                "contactsync.max_pending": "1000", "contactsync.source_timeout": "5s"}

    def environment(self, work):
        self.offset, library = f"{work}/clock", f"{work}/clock.so"
        with open(self.offset, "wb") as file:
            file.write(struct.pack("q", 0))
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, CLOCK], check=True)
        return {"LD_PRELOAD": library, "CLOCK_OFFSET": self.offset}

    def set_clock(self, seconds):
        """Set the server's clock ahead by so many seconds."""
        with open(self.offset, "r+b", buffering=0) as file:
            file.write(struct.pack("q", seconds))

    def start(self):
        """Start the server again, also while processes of the one before are still there."""
        end = time.monotonic() + 60
        while True:
            try:
                return self.server.start()
            except subprocess.CalledProcessError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


class Pulse:
    """A row of each database that changes after each kill, to see how long it takes until a change arrives again."""

    def __init__(self, place, database):
        self.place, self.database, self.number = place, database, 0
        self.account = f"pulse_{database}"
        key = f"mc_test_{self.account}"
        config = place.sandbox.call("GET", "mailingcore/config")
        place.sandbox.call("POST", "mailingcore/config", {
            "account": self.account, "keys": {key: next(iter(config["keys"].values()))}, "limits": {name: None for name in config["limits"]}})
        place.run(place.connect(database, "admin"), f"""
            CREATE SCHEMA pulse AUTHORIZATION sender; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO sender; SET ROLE sender;
            CREATE SERVER pulse FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id '{self.account}',
                base_url '{place.sandbox.url}/mailingcore', pace '500', burst '100', timeout '20s');
            CREATE USER MAPPING FOR sender SERVER pulse OPTIONS (api_key '{key}');
            CREATE TABLE pulse.pulse (id int PRIMARY KEY, n int); INSERT INTO pulse.pulse VALUES (1, 0);
            SELECT contactsync_watch('pulse.pulse', 'pulse', '{{"email": "''pulse@example.com''", "attributes": {{"n": "n"}}}}')""")

    def beat(self):
        """Change the row, and return the time until this arrived; None if it did not."""
        begin = time.monotonic()
        self.number += 1
        changed = False
        while time.monotonic() < begin + RECOVERY_SECONDS:
            try:
                if not changed:
                    self.place.run(self.place.connect(self.database), "UPDATE pulse.pulse SET n = %s", (self.number,))
                    changed = True
                contacts = self.place.sandbox.call("GET", f"mailingcore/contacts?account={self.account}")
                if contacts and (contacts[0]["attributes"] or {}).get("n") == self.number:
                    return time.monotonic() - begin
                time.sleep(0.01)
            except psycopg2.Error:
                time.sleep(0.02)
        return None


class Killer:
    """Stops processes, and measures how long it takes to recover."""

    def __init__(self, chaos):
        self.chaos, self.place, self.rng = chaos, chaos.place, random.Random(f"{chaos.options.seed}/killer")
        self.times = collections.defaultdict(list)

    def pid(self, what, database=None):
        rows = self.place.run(self.place.connect("postgres", "admin"),
                              "SELECT pid FROM pg_stat_activity WHERE backend_type = %s AND (%s IS NULL OR datname = %s)", (what, database, database))
        return rows[0][0] if rows else None

    def signal(self, what, number, database=None):
        pid = self.pid(what, database)
        if pid is None:
            return False
        os.kill(pid, number)
        return True

    def in_commit(self, number):
        """Send a signal to a session in its COMMIT."""
        session = self.rng.choice([session for tenant in self.chaos.tenants for session in tenant.sessions])
        session.struck.clear()
        session.blow = number, self.rng.random() * 0.002
        return session.struck.wait(10)

    def postmaster(self):
        with open(f"{self.place.server.data}/postmaster.pid", encoding="utf-8") as file:
            os.kill(int(file.readline()), signal.SIGKILL)
        self.place.start()
        return True

    def restart(self, mode):
        self.place.server.stop(mode)
        self.place.start()
        return True

    def kinds(self):
        database = self.rng.choice(self.chaos.databases)
        kill, term = signal.SIGKILL, signal.SIGTERM
        return database, [
            (3, "worker, SIGKILL", lambda: self.signal("contactsync worker", kill, database)),
            (2, "worker, SIGTERM", lambda: self.signal("contactsync worker", term, database)),
            (1, "launcher, SIGKILL", lambda: self.signal("contactsync launcher", kill)),
            (1, "launcher, SIGTERM", lambda: self.signal("contactsync launcher", term)),
            (3, "backend in COMMIT, SIGKILL", lambda: self.in_commit(kill)),
            (2, "backend in COMMIT, SIGTERM", lambda: self.in_commit(term)),
            (1, "checkpointer, SIGKILL", lambda: self.signal("checkpointer", kill)),
            (1, "WAL writer, SIGKILL", lambda: self.signal("walwriter", kill)),
            (2, "postmaster, SIGKILL", self.postmaster),
            (1, "immediate restart", lambda: self.restart("immediate")),
            (1, "fast restart", lambda: self.restart("fast"))]

    def fill(self):
        """Have more to send, of the tenant whose pace is the slowest, than the pace allows before what comes next."""
        sessions = self.chaos.tenants[0].sessions
        for session in sessions:
            session.wanted.set()
        end = time.monotonic() + 5
        while any(session.wanted.is_set() for session in sessions) and time.monotonic() < end:
            time.sleep(0.01)

    def strike(self):
        """Stop something, wait until a change arrives again, and return whether there was a process to stop."""
        database, kinds = self.kinds()
        _, name, act = self.rng.choices(kinds, [weight for weight, _, _ in kinds])[0]
        if self.rng.random() < 0.4:
            self.fill()
        begin = time.monotonic()
        self.chaos.judge.cuts.append(begin)
        try:
            if not act():
                return False
        except (psycopg2.Error, ProcessLookupError):
            return False
        self.chaos.note(name)
        if self.chaos.pulses[database].beat() is None:
            self.chaos.problems.append(f"{database} does not deliver {RECOVERY_SECONDS} s after {name}")
        self.times[name].append(time.monotonic() - begin)
        self.chaos.judge.cuts.append(time.monotonic())
        return True

    def report(self):
        print(f"\n{'kill':32}{'times':>6}{'median s':>10}{'worst s':>9}   until a change arrives again")
        for name, times in sorted(self.times.items()):
            print(f"{name:32}{len(times):6}{statistics.median(times):10.2f}{max(times):9.2f}")


class Trouble(threading.Thread):
    """Something that goes on in the background until the round is over."""

    def __init__(self, chaos, name, act, pause):
        super().__init__(daemon=True)
        self.chaos, self.act, self.pause, self.failure = chaos, act, pause, None
        self.rng = random.Random(f"{chaos.options.seed}/{name}/{chaos.round}")

    def run(self):
        try:
            while not self.chaos.over.wait(self.rng.random() * self.pause):
                self.act(self.rng)
        except Exception as error:          # pylint: disable=broad-except
            self.failure = error
            raise


class Chaos:
    FAULTS = [
        {"status": 500}, {"status": 503}, {"status": 502, "html": True}, {"status": 429}, {"status": 429, "retry_after": "3"},
        {"status": 429, "retry_after": "0"}, {"status": 429, "retry_after": "date:+5"}, {"status": 503, "retry_after": "2"},
        {"status": 429, "retry_after": "x"}, {"latency": 10}, {"latency": 2}, {"reset": "before"}, {"reset": "inside"}, {"reset": "after"},
        {"stall": True}, {"stall": 5}, {"stall": True, "stall_at": "inside"}, {"truncate": True}, {"invalid_json": True}, {"status": 408},
        {"huge": 100000}, {"status": 401}, {"gzip": True}, {"brotli": True}, {"byte_order_mark": True},
        {"redirect": "http://127.0.0.1:1/"}, {"status": 302, "redirect": "http://127.0.0.1:1/"}]

    CLOCKS = [-3600, -60, -5, -1, 0, 1, 5, 60, 3600]

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.place = Place(options, work)
        self.place.began = time.monotonic()
        self.over = threading.Event()
        self.round = self.kills = 0
        self.ended = False                              # by SIGTERM: after the round that is under way
        self.problems, self.acts = [], collections.Counter()
        self.databases = [f"chaos{number}" for number in range(options.databases)]
        self.tenants = []
        for number in range(options.databases + 1):         # the first database has two
            self.tenants.append(Tenant(self.place, number, self.databases[number % options.databases], 2 if number == 0 else 1,
                                       options.cells, number * 100))
        self.judge = Judge(self.place, self.tenants)
        self.killer = Killer(self)
        self.pulses = {}

    def note(self, text):
        if self.options.verbose:
            print(f"{time.monotonic() - self.place.began:8.3f} {text}", flush=True)

    def set_up(self):
        for database in self.databases:
            self.place.run(self.place.connect("postgres", "admin"), f"CREATE DATABASE {database}")
            self.place.run(self.place.connect(database, "admin"), "CREATE EXTENSION contactsync")
            self.pulses[database] = Pulse(self.place, database)
        for tenant in self.tenants:
            tenant.set_up()

    # Troubles

    def fault(self, rng):
        tenant = rng.choice(self.tenants)
        account = rng.choice(list(tenant.accounts.values()))
        action, effect, times = rng.choice(self.FAULTS), rng.choice(["before", "after"]), rng.choice([1, 2, 5, 20])
        self.place.sandbox.call("POST", f"{account.provider}/fault", {
            "match": {"account": account.name}, "times": times, "effect": effect, "action": action})
        self.acts["faults"] += 1
        if rng.random() < 0.4:
            account = rng.choice(list(rng.choice(self.tenants).accounts.values()))
            self.place.sandbox.call("DELETE", f"{account.provider}/fault?account={account.name}")

    def operate(self, rng):
        self.acts["acts of operators"] += 1
        rng.choice(self.tenants).operate()

    def set_clock(self, rng):
        """Set the server's clock, as somebody does who finds it wrong."""
        if "clock" in self.options.also.split(","):
            self.acts["clocks set"] += 1
            seconds = rng.choice(self.CLOCKS)
            self.note(f"the clock is {seconds} s ahead")
            self.place.set_clock(seconds)

    # Rounds

    def run_round(self, seconds):
        self.round += 1
        self.over.clear()
        sessions = [session.again() for tenant in self.tenants for session in tenant.sessions]
        troubles = [Trouble(self, "faults", self.fault, 0.3), Trouble(self, "operators", self.operate, 1.0), Trouble(self, "clock", self.set_clock, 4.0)]
        for thread in sessions + troubles:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.killer.rng.random() * self.options.calm)
            self.kills += self.killer.strike()
        self.over.set()
        for session in sessions:
            session.over.set()
        for thread in sessions + troubles:
            thread.join(90)
            if thread.failure or thread.is_alive():
                self.problems.append(f"a thread failed: {thread.failure!r}")

    def quiet(self, last=False):
        self.place.set_clock(0)
        for tenant in self.tenants:
            for account in tenant.accounts.values():
                self.place.sandbox.call("DELETE", f"{account.provider}/fault?account={account.name}")
            tenant.repair()
        begin = time.monotonic()
        self.wait()
        if sum(tenant.sql(f"SELECT contactsync_retry('{account.server}')")[0][0] for tenant in self.tenants for account in tenant.accounts.values()):
            self.wait()
        # a commit that waits for the disk: no crash loses what is stored by now
        for database in self.databases:
            self.place.run(self.place.connect(database, "admin"), "CREATE TABLE flushed (); DROP TABLE flushed")
        if last:
            self.check_idle()
        self.acts["seconds of quiet"] += round(time.monotonic() - begin)
        self.judge.quiet(last)

    def wait(self):
        """Wait until everything is sent."""
        for tenant in self.tenants:
            end = time.monotonic() + QUIET_SECONDS
            while True:
                state = tenant.sql("""
                    SELECT server, source::text, state, reason, backlog, in_flight FROM contactsync.status WHERE backlog > 0 OR in_flight > 0
                    UNION ALL SELECT server, source::text, kind, phase, total, NULL FROM contactsync.progress WHERE state = 'running'""")
                if not state:
                    break
                if time.monotonic() > end:
                    self.judge.stuck(tenant, state)
                    break
                for server, source, kind, reason, *_ in state:
                    if kind in ("guarded", "paused"):   # a guard that holds a watch keeps its pause from ending
                        self.accept(tenant, source, server, reason)
                time.sleep(0.05)

    def accept(self, tenant, source, server, reason):
        """Let a watch go on that a guard holds."""
        self.acts["guards met"] += 1
        for word in ("removals", "automations"):
            tenant.attempt(None, f"SELECT contactsync_resume('{source}', '{server}', {word} => 'accepted')")
        self.note(f"guard of {server}: {reason}")

    # Final checks

    def check_idle(self):
        for database in self.databases:
            pid = self.killer.pid("contactsync worker", database)
            if pid is None:
                self.problems.append(f"{database} has no worker")
                continue
            problem = idle_problem(pid)
            if problem:
                self.problems.append(f"the idle worker of {database} {problem}")

    def check_log(self):
        with open(self.place.server.log, errors="replace", encoding="utf-8") as log:
            text = log.read()
        for line in re.findall(r"^.*(?:PANIC|TRAP|signal 6|signal 11|AddressSanitizer).*$", text, re.M)[:5]:
            self.problems.append(f"log: {line}")
        for tenant in self.tenants:
            for account in tenant.accounts.values():
                if account.key in text:
                    self.problems.append(f"the log has the key of {account.server}")
        errors = collections.Counter(re.findall(r"(contactsync (?:worker|launcher))\S*\[\d+\]\S* \S* ?((?:ERROR|WARNING|FATAL).*)$", text, re.M))
        for (_, message), number in errors.most_common(10):
            self.note(f"log {number} x {message}")

    def run(self):
        options, begin = self.options, time.monotonic()
        self.set_up()
        self.quiet()
        spent = 0
        while (spent < options.seconds or self.kills < options.kills or self.changes() < options.changes) and not (
                self.ended or self.failed()):
            started = time.monotonic()
            self.run_round(options.round)
            spent += time.monotonic() - started
            self.quiet()
            print(f"round {self.round}: {self.kills} kills, {self.changes()} changes, {self.judge.counts['calls']} calls, "
                  f"{self.judge.counts['verdicts']} verdicts, {time.monotonic() - begin:.0f} s", flush=True)
        time.sleep(15 / self.place.SPEED + 0.2)         # a removal waits for delete_delay
        self.quiet(last=True)
        self.check_log()
        for tenant in self.tenants:
            self.problems += tenant.broken + [problem for session in tenant.sessions for problem in session.problems]

    def failed(self):
        return self.options.stop and (self.problems or self.judge.problems or self.judge.counts["verdicts"])

    def changes(self):
        return sum(session.changes for tenant in self.tenants for session in tenant.sessions)

    def report(self):
        self.killer.report()
        counts = self.judge.counts
        sessions = [session for tenant in self.tenants for session in tenant.sessions]
        lines = {
            "kills": self.kills, "changes": self.changes(), "transactions": sum(session.commits for session in sessions),
            "asynchronous commits that a crash undid": sum(session.lost for session in sessions), "calls": counts["calls"],
            "calls that met a fault": counts["faults met"], **self.acts, "lost": counts["lost"], "stale": counts["stale"], "duplicates": counts["duplicate"],
            "harmed": self.judge.harmed(), "stuck": counts["stuck"], "out of order": counts["order"], "overlapping": counts["overlap"],
            "keys for two bodies": counts["key"], "paces exceeded": counts["pace"],
            "% of a bucket more than one, at most": max(0, round(max(-100 * bucket.lowest / bucket.burst for bucket in self.judge.buckets.values()))), **self.judge.shown_verdicts()}
        print()
        for name, number in lines.items():
            print(f"{number:9}  {name}")
        for tenant in self.tenants:
            for text, number in tenant.refusals.most_common(5):
                self.note(f"{number} x {text}")
        for problem in self.problems[:40]:
            print(f"problem: {problem}")
        return not (self.problems or self.judge.problems or counts["verdicts"])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--work")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=24, help="of chaos, at least")
    parser.add_argument("--kills", type=int, default=0, help="at least so many")
    parser.add_argument("--changes", type=int, default=0, help="at least so many")
    parser.add_argument("--round", type=float, default=8, help="seconds of chaos before each quiet point")
    parser.add_argument("--databases", type=int, default=2)
    parser.add_argument("--cells", type=int, default=25, help="of each session; a cell is six people")
    parser.add_argument("--bulk", type=float, default=0.02, help="share of bulk changes")
    parser.add_argument("--pause", type=float, default=0.03, help="seconds at most that a session waits between changes")
    parser.add_argument("--calm", type=float, default=1.5, help="seconds at most between kills")
    parser.add_argument("--show", type=int, default=3, help="number of histories to print for each kind of verdict and provider")
    parser.add_argument("--also", default="", metavar="NAME,...", help="rename_column, watch_anew or clock; see test/README.md")
    parser.add_argument("--stop", action="store_true", help="stop after the first round with a problem")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    options.steps = options.providers = None
    return options


def main():
    options = arguments()
    work = tempfile.mkdtemp(prefix="chaos.", dir=options.work)
    print(f"seed {options.seed}", flush=True)
    chaos = Chaos(options, work)
    well = False
    signal.signal(signal.SIGTERM, lambda *_: setattr(chaos, "ended", True))
    try:
        chaos.run()
        well = chaos.report()
    finally:
        chaos.over.set()
        chaos.place.server.stop("immediate")
        chaos.place.sandbox.process.stdin.close()
    print(f"seed {options.seed}: {'well' if well else 'failed'}", flush=True)
    if options.keep:
        print(f"keeping {work}")
    else:
        shutil.rmtree(work)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
