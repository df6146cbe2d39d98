"""Benchmarks of capture, single-row updates, delivery and latency. run.sh starts them."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

import psycopg2

import beside
import definitions
import growth
import pace
import resources
import soak
from process import cpu_seconds

SANDBOX = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "sandbox")
MAPPING = json.dumps({"email": "email", "external_id": "id", "opt_in": "newsletter", "locale": "locale",
                      "attributes": {"firstName": "first_name", "plan": "plan", "points": "points"}})
# those that run if none is named
PARTS = ("capture", "update", "throttled", "deliver", "floor", "single", "scan", "latency", "trickle", "pace")
NAMES = {"watched": "watched", "beside": "queued by a trigger in PL/pgSQL"}
TABLE = """CREATE TABLE {} (id bigint PRIMARY KEY, email text NOT NULL, first_name text, plan text,
           points int, newsletter boolean, locale text, note text)"""
ROWS = """SELECT g, 'customer' || g || '@example.com', 'First ' || g, 'free', g % 1000, g % 3 = 0, 'en', 'note'
          FROM generate_series({}, {}) g"""


class Bench:
    def __init__(self, args):
        self.args = args
        self.sandbox = subprocess.Popen(["/usr/bin/python3", SANDBOX, "--fast", "--fast-email"],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(re.search(r":(\d+)", self.sandbox.stdout.readline()).group(1))
        self.db = self.connect()
        self.last = 0
        self.failed = False
        self.results = []
        self.run("CREATE EXTENSION contactsync")

    def connect(self):
        connection = psycopg2.connect(host=self.args.socket, user="postgres", dbname="postgres")
        connection.autocommit = True
        return connection

    def run(self, statement):
        """Run a statement; return its first value, or None."""
        cursor = self.db.cursor()
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]

    def timed(self, statement):
        started = time.perf_counter()
        self.run(statement)
        return time.perf_counter() - started

    def server(self, name, **options):
        options = {"provider": "mailingcore", "tenant_id": "bench",
                   "base_url": f"http://127.0.0.1:{self.port}", **options}
        listed = ", ".join(f"{key} '{value}'" for key, value in options.items())
        self.run(f"CREATE SERVER {name} FOREIGN DATA WRAPPER contactsync OPTIONS ({listed})")
        self.run(f"CREATE USER MAPPING FOR CURRENT_USER SERVER {name} OPTIONS (api_key 'mc_test_bench')")

    def watched_table(self, table, server):
        self.run(TABLE.format(table))
        self.run(f"SELECT contactsync_watch('{table}', '{server}', mapping => '{MAPPING}')")

    def insert_new(self, table, rows):
        """Insert rows of people that nothing is known of: what was sent before is remembered when its table has gone."""
        self.run(f"INSERT INTO {table} " + ROWS.format(self.last + 1, self.last + rows))
        self.last += rows

    def report(self, what, values, form="{:.3f}", goal=None, less=False):
        """Print the median and the range of rounds, and keep them; "less": the goal is the most that is wanted."""
        print(f"{what}: median {form.format(statistics.median(values))}"
              f" ({form.format(min(values))} to {form.format(max(values))} in {len(values)} rounds)", flush=True)
        self.results.append({"what": what, "median": statistics.median(values), "min": min(values), "max": max(values),
                             "rounds": len(values), "goal": goal, "less": less})

    def write_results(self, file_name):
        """Write what was reported, with what it was measured on, as JSON."""
        with open("/proc/cpuinfo") as file:
            models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        with open(file_name, "w") as file:
            json.dump({"at": time.strftime("%Y-%m-%d"), "server": self.run("SHOW server_version"), "cpus": len(models), "cpu": models[0] if models else "",
                       "load": os.getloadavg(), "results": self.results}, file, indent=1)

    def worker(self):
        return self.run("SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'")

    def arrivals(self, since):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/control/fast/journal?since={since}") as answer:
            return json.load(answer)

    # ----- parts -----

    def capture(self):
        """Measure INSERT of 100,000 rows, watched / not watched; the worker wakes, but its server allows no calls."""
        rows = self.args.rows
        self.server("still", pace="0.0001", burst="1")
        self.run(TABLE.format("plain"))
        self.watched_table("watched", "still")
        insert = "INSERT INTO {} " + ROWS.format(1, rows)
        ratios = []
        for _ in range(self.args.rounds + 1):
            times = {}
            for table in ("plain", "watched"):
                self.run(f"TRUNCATE {table}")
                self.run("TRUNCATE contactsync.queue")
                self.run("CHECKPOINT")
                times[table] = self.timed(insert.format(table))
            ratios.append(times["watched"] / times["plain"])
        self.report(f"capture, bulk INSERT of {rows} rows, watched / not", ratios[1:], goal=1.18, less=True)
        print(f"    queue rows: {self.run('SELECT count(*) FROM contactsync.queue')}, "
              f"{self.run('SELECT pg_relation_size($$contactsync.queue$$)') / rows:.1f} bytes a change")
        self.run("SELECT contactsync_unwatch('watched', 'still')")
        self.run("DROP TABLE plain, watched")

    def update(self):
        """Measure the single-row UPDATE rate with pgbench, watched / not watched, and with a queue in PL/pgSQL, synchronous_commit on and off."""
        self.server("still2", pace="0.0001", burst="1")
        for table in ("plain", "watched", "beside"):
            self.run(TABLE.format(table))
            self.run(f"INSERT INTO {table} " + ROWS.format(1, 10000))
        self.run(f"SELECT contactsync_watch('watched', 'still2', mapping => '{MAPPING}')")
        beside.queue_by_trigger(self.run, "beside")
        for commit, goal in (("on", 0.97), ("off", 0.88)):
            rounds = [self.update_rates(("plain", "watched", "beside"), commit, 1) for _ in range(self.args.rounds + 1)][1:]
            for table, wanted in (("watched", goal), ("beside", None)):
                self.report(f"capture, one row, pgbench UPDATE rate, synchronous_commit {commit}, {NAMES[table]} / not",
                            [rates[table] / rates["plain"] for rates in rounds], goal=wanted)
        beside.drop_queue(self.run)
        self.run("SELECT contactsync_unwatch('watched', 'still2')")
        self.run("DROP TABLE plain, watched, beside")

    def throttled(self):
        """Measure the same where the server allows no call, and another one of the database is idle, with 1, 4 and 8 clients."""
        self.server("choked", pace="0.0001", burst="1")
        self.server("idle", pace="10000", burst="10000")
        for table in ("plain", "watched"):
            self.run(TABLE.format(table))
            self.run(f"INSERT INTO {table} " + ROWS.format(1, 10000))
        self.watched_table("untouched", "idle")
        self.run(f"SELECT contactsync_watch('watched', 'choked', mapping => '{MAPPING}')")
        for clients in (1, 4, 8):
            rounds = [self.update_rates(("plain", "watched"), "on", clients) for _ in range(self.args.rounds + 1)][1:]
            self.report(f"capture beside an idle server, throttled, {clients} clients, watched / not",
                        [rates["watched"] / rates["plain"] for rates in rounds], goal=0.95)
        for table, server in (("watched", "choked"), ("untouched", "idle")):
            self.run(f"SELECT contactsync_unwatch('{table}', '{server}')")
        self.run("DROP TABLE plain, watched, untouched")

    def update_rates(self, tables, commit, clients):
        """Return how many rows of each of the tables are updated a second, with equal bloat."""
        rates = {}
        for table in tables:
            self.run("TRUNCATE contactsync.queue")
            self.run("VACUUM " + table)
            rates[table] = self.pgbench(table, commit, clients)
        return rates

    def pgbench(self, table, commit, clients=1, rate=None, seconds=None, first=0, rows=10000):
        """Return how many of the rows after the first are updated a second, at most "rate"."""
        script = os.path.join(self.args.socket, "update.sql")
        with open(script, "w") as file:
            file.write(f"\\set id random({first + 1}, {first + rows})\nUPDATE {table} SET points = points + 1 WHERE id = :id;\n")
        output = subprocess.run(
            [os.path.join(self.args.bindir, "pgbench"), "-h", self.args.socket, "-U", "postgres", "-n", "-M", "prepared",
             "-c", str(clients), "-T", str(seconds or self.args.seconds), *(["-R", str(rate)] if rate else []), "-f", script, "postgres"],
            env={**os.environ, "PGOPTIONS": f"-c synchronous_commit={commit}"},
            capture_output=True, text=True, check=True).stdout
        return float(re.search(r"tps = ([\d.]+)", output).group(1))

    def deliver(self):
        """Measure the time from commit to the last stored outcome, 1,000 contacts per call; first all new, then all changed."""
        rows = self.args.deliver_rows
        self.server("fast", pace="10000", burst="10000", concurrency="2")
        inserted, updated = [], []
        for round_number in range(self.args.rounds):
            table = f"delivered{round_number}"
            self.watched_table(table, "fast")
            self.insert_new(table, rows)
            inserted.append(rows / self.timed("CALL contactsync_wait('fast')"))
            if round_number == 0:
                stored = {name: self.run(f"SELECT pg_total_relation_size('contactsync.{name}')") / rows for name in ("contact", "source_row")}
            self.run(f"UPDATE {table} SET plan = 'paid'")
            updated.append(rows / self.timed("CALL contactsync_wait('fast')"))
            synced = self.run("SELECT synced FROM contactsync.status WHERE source = '%s'::regclass" % table)
            assert synced == 2 * rows, synced
            self.run(f"SELECT contactsync_unwatch('{table}', 'fast')")
            self.run(f"DROP TABLE {table}")
        self.report(f"delivery, {rows} new contacts, contacts/s", inserted, "{:,.0f}", goal=125_000)
        self.report(f"delivery, {rows} changed contacts, contacts/s", updated, "{:,.0f}", goal=110_000)
        print("    stored of a contact, with indexes: " + ", ".join(f"{name} {size:.0f} bytes" for name, size in stored.items()))

    def single(self):
        """Measure what the worker takes where a call has one contact, eight calls at a time."""
        rows = self.args.single_rows
        self.server("singly", pace="10000", burst="10000", concurrency="8", batch_size="1")
        rates, cost = [], []
        for round_number in range(self.args.rounds):
            table = f"single{round_number}"
            self.watched_table(table, "singly")
            before = cpu_seconds(self.worker())
            self.insert_new(table, rows)
            rates.append(rows / self.timed("CALL contactsync_wait('singly')"))
            cost.append((cpu_seconds(self.worker()) - before) * 100_000 / rows)
            self.run(f"SELECT contactsync_unwatch('{table}', 'singly')")
            self.run(f"DROP TABLE {table}")
        self.report(f"delivery, {rows} contacts, one a call: worker's CPU for 100,000, s", cost, "{:.2f}", goal=5, less=True)
        self.report("    contacts/s", rates, "{:,.0f}")

    def floor(self):
        """Measure delivery beside the least that it could cost: the same bodies posted by libcurl, and the same rows written by SQL."""
        rows = self.args.deliver_rows
        self.server("floored", pace="10000", burst="10000", concurrency="2")
        floor = beside.Floor(self, 2)
        ratios, rates = {"new": [], "changed": []}, {"new": [], "changed": []}
        for round_number in range(self.args.rounds):
            table = f"floored{round_number}"
            self.watched_table(table, "floored")
            watch = self.run(f"SELECT id FROM contactsync.watch WHERE source = '{table}'::regclass")
            self.insert_new(table, rows)
            delivered = self.timed("CALL contactsync_wait('floored')")
            floor.prepare(table)
            least = floor.post() + floor.insert(watch)
            rates["new"].append(rows / least)
            ratios["new"].append(least / delivered)
            self.run(f"UPDATE {table} SET plan = 'paid'")
            delivered = self.timed("CALL contactsync_wait('floored')")
            least = floor.post() + floor.update()
            rates["changed"].append(rows / least)
            ratios["changed"].append(least / delivered)
            floor.drop()
            self.run(f"SELECT contactsync_unwatch('{table}', 'floored')")
            self.run(f"DROP TABLE {table}")
        for kind in ("new", "changed"):
            self.report(f"floor, {rows} {kind} contacts: posted, then written by SQL, contacts/s", rates[kind], "{:,.0f}")
            self.report(f"    delivery of {kind} contacts / floor", ratios[kind], goal=0.6)

    def drain(self):
        growth.Growth(self).drain()

    def steady(self):
        growth.Growth(self).steady()

    def watches(self):
        growth.Growth(self).watches()

    def scan(self):
        """Measure the import of a table, the delivery of the same rows from the queue, and a reconciliation that finds nothing."""
        rows = self.args.deliver_rows
        self.server("scanned", pace="10000", burst="10000", concurrency="2")
        ratios, imported, compared = [], [], []
        for round_number in range(self.args.rounds):
            queued, table = f"queued{round_number}", f"scanned{round_number}"
            self.watched_table(queued, "scanned")
            self.insert_new(queued, rows)
            delivered = rows / self.timed("CALL contactsync_wait('scanned')")
            self.run(TABLE.format(table))
            self.insert_new(table, rows)
            self.run(f"SELECT contactsync_watch('{table}', 'scanned', mapping => '{MAPPING}')")
            for function, rates in (("import", imported), ("reconcile", compared)):
                self.run(f"SELECT contactsync_{function}('{table}', 'scanned')")
                rates.append(rows / self.timed("CALL contactsync_wait('scanned')"))
            ratios.append(imported[-1] / delivered)
            for each in (queued, table):
                self.run(f"SELECT contactsync_unwatch('{each}', 'scanned')")
                self.run(f"DROP TABLE {each}")
        self.report(f"import of {rows} rows, contacts/s", imported, "{:,.0f}")
        self.report("the same / delivery from the queue", ratios)
        self.report(f"reconciliation of {rows} rows that are unchanged, rows/s", compared, "{:,.0f}")

    def latency(self):
        """Measure the time from commit to the request at the provider: idle, and under a steady 20 changes per second; with the
        commit's own wait for the disk and, by synchronous_commit, without one."""
        self.server("quick", pace="10000", burst="10000", concurrency="4")
        self.watched_table("quickly", "quick")
        self.run("INSERT INTO quickly " + ROWS.format(1, 10))
        self.run("CALL contactsync_wait('quick')")
        for name, background, commit in (("idle", False, "on"), ("under 20 changes/s", True, "on"),
                                         ("idle, synchronous_commit off", False, "off"),
                                         ("under 20 changes/s, synchronous_commit off", True, "off")):
            self.run(f"SET synchronous_commit = {commit}")
            stop = threading.Event()
            thread = threading.Thread(target=self.change_steadily, args=(stop,))
            if background:
                thread.start()
            times, commits = self.latencies(100)
            stop.set()
            if background:
                thread.join()
            self.report(f"commit -> request, {name}, 50 %, ms", [percentile(times, 50)], "{:.2f}", goal=0.6, less=True)
            self.report(f"commit -> request, {name}, 99 %, ms", [percentile(times, 99)], "{:.2f}", goal=1.5, less=True)
            print(f"    the statement that commits: p50 {percentile(commits, 50):.2f} ms, p99 {percentile(commits, 99):.2f} ms, of {len(times)}")
        self.run("RESET synchronous_commit")

    def change_steadily(self, stop):
        cursor = self.connect().cursor()
        n = 0
        while not stop.wait(0.05):
            n += 1
            cursor.execute("UPDATE quickly SET points = %s WHERE id = %s", (n, 5 + n % 5))

    def trickle(self):
        """Measure what single-row changes cost while they are delivered: the worker, the log, and the application."""
        self.server("brook", pace="10000", burst="10000", concurrency="4")
        for table in ("plain", "watched"):
            self.run(TABLE.format(table))
            self.run(f"INSERT INTO {table} " + ROWS.format(1, 10000))
        self.run(f"SELECT contactsync_watch('watched', 'brook', mapping => '{MAPPING}')")
        self.run("UPDATE watched SET plan = 'first'")
        self.run("CALL contactsync_wait('brook')")
        figures = [self.trickle_at(self.args.rate) for _ in range(self.args.rounds)]
        self.report(f"delivery of {self.args.rate} changes/s of single rows, worker's CPU a change, us", [f[0] for f in figures], "{:.0f}", goal=40, less=True)
        self.report("    calls/s", [f[1] for f in figures], "{:.0f}")
        self.report("    WAL a change, bytes, of all", [f[2] for f in figures], "{:.0f}")
        for clients in (1, 4, 8):
            ratios = []
            for _ in range(self.args.rounds):
                rates = {table: self.pgbench(table, "on", clients) for table in ("plain", "watched")}
                self.run("CALL contactsync_wait('brook')")
                ratios.append(rates["watched"] / rates["plain"])
            self.report(f"capture while delivering, one row, pgbench UPDATE rate, {clients} clients, watched / not", ratios, goal=0.8)
        self.run("SELECT contactsync_unwatch('watched', 'brook')")
        self.run("DROP TABLE plain, watched")

    def trickle_at(self, rate):
        """Return the worker's CPU in us and the WAL in bytes for each change, and the calls a second."""
        worker = self.worker()
        calls = self.arrivals(0)["requests"]
        started, cpu, wal = time.perf_counter(), cpu_seconds(worker), self.run("SELECT pg_current_wal_insert_lsn() - '0/0'")
        changes = self.pgbench("watched", "on", 4, rate) * self.args.seconds
        self.run("CALL contactsync_wait('brook')")
        seconds = time.perf_counter() - started
        return (1e6 * (cpu_seconds(worker) - cpu) / changes, (self.arrivals(calls)["requests"] - calls) / seconds,
                float(self.run("SELECT pg_current_wal_insert_lsn() - '0/0'") - wal) / changes)

    def latencies(self, n):
        """Return the milliseconds from the start of the committing statement to the arrival of the request, and to its end."""
        since = self.arrivals(0)["requests"]
        sent, commits = {}, []
        for i in range(n):
            time.sleep(0.05)
            email = f"probe{time.time_ns()}@example.com"
            sent[email] = time.time()
            commits.append(1000 * self.timed(f"UPDATE quickly SET email = '{email}' WHERE id = 1"))
        self.run("CALL contactsync_wait('quick')")
        arrived = {entry["email"]: entry["wall"] for entry in self.arrivals(since)["journal"]}
        return [1000 * (arrived[email] - at) for email, at in sent.items() if email in arrived], commits


    def pace(self):
        """Measure the use of a limit where the configured pace does not fit it; restarts the server."""
        self.db.close()
        bench = pace.PaceBench(self.args)
        try:
            bench.run()
        finally:
            bench.close()
        self.db = self.connect()


    def soak(self):
        """Show whether what is used stays flat while the server is busy; not one of the parts that run by default."""
        self.failed |= not soak.Soak(self).run()

    def definitions(self, *parts):
        """Measure what definitions cost, in these parts or in all; not one of those that run by default."""
        measured = definitions.Definitions(self, cpu_seconds, self.report)
        for part in parts or definitions.PARTS:
            getattr(measured, part)()

    def resources(self, *parts):
        """Show whether what the worker takes is bounded and flat, in these parts or in all; not one of those that run by default."""
        self.failed |= not resources.Resources(self).run(parts or resources.PARTS)


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--deliver-rows", type=int, default=200_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=3000)
    parser.add_argument("--soak-seconds", type=int, default=3600)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--server-rows", type=int, default=1000)
    parser.add_argument("--server-rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--defined-servers", type=int, default=50)
    parser.add_argument("--defined-rows", type=int, default=100_000)
    parser.add_argument("--backlog", type=int, default=10_000_000)
    parser.add_argument("--single-rows", type=int, default=50_000)
    parser.add_argument("--drain-rows", type=int, default=2_000_000)
    parser.add_argument("--steady-minutes", type=int, default=10)
    parser.add_argument("--json", help="write what was reported to this file")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("parts", nargs="*", default=[])
    args = parser.parse_args()
    bench = Bench(args)
    try:
        for part in args.parts or PARTS:
            if part in resources.PARTS:
                bench.resources(part)
            elif part in definitions.PARTS:
                bench.definitions(part)
            else:
                getattr(bench, part)()
    finally:
        bench.sandbox.terminate()
        if args.json:
            bench.write_results(args.json)
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
