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

import definitions
import pace
import resources
import soak

SANDBOX = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "sandbox")
MAPPING = json.dumps({"email": "email", "external_id": "id", "opt_in": "newsletter", "locale": "locale",
                      "attributes": {"firstName": "first_name", "plan": "plan", "points": "points"}})
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
        report(f"capture, bulk INSERT of {rows} rows, watched / not", ratios[1:])
        print(f"    queue rows: {self.run('SELECT count(*) FROM contactsync.queue')}, "
              f"{self.run('SELECT pg_relation_size($$contactsync.queue$$)') / rows:.1f} bytes a change")
        self.run("SELECT contactsync_unwatch('watched', 'still')")
        self.run("DROP TABLE plain, watched")

    def update(self):
        """Measure the single-row UPDATE rate with pgbench, watched / not watched, synchronous_commit on and off."""
        self.server("still2", pace="0.0001", burst="1")
        for table in ("plain", "watched"):
            self.run(TABLE.format(table))
            self.run(f"INSERT INTO {table} " + ROWS.format(1, 10000))
        self.run(f"SELECT contactsync_watch('watched', 'still2', mapping => '{MAPPING}')")
        for commit in ("on", "off"):
            ratios = []
            for _ in range(self.args.rounds + 1):
                rates = {}
                for table in ("plain", "watched"):
                    self.run("TRUNCATE contactsync.queue")
                    self.run("VACUUM " + table)
                    rates[table] = self.pgbench(table, commit)
                ratios.append(rates["watched"] / rates["plain"])
            report(f"capture, one row, pgbench UPDATE rate, synchronous_commit {commit}, watched / not", ratios[1:])
        self.run("SELECT contactsync_unwatch('watched', 'still2')")
        self.run("DROP TABLE plain, watched")

    def pgbench(self, table, commit, clients=1, rate=None):
        """Return how many rows of the table are updated a second, at most "rate"."""
        script = os.path.join(self.args.socket, "update.sql")
        with open(script, "w") as file:
            file.write(f"\\set id random(1, 10000)\nUPDATE {table} SET points = points + 1 WHERE id = :id;\n")
        output = subprocess.run(
            [os.path.join(self.args.bindir, "pgbench"), "-h", self.args.socket, "-U", "postgres", "-n", "-M", "prepared",
             "-c", str(clients), "-T", str(self.args.seconds), *(["-R", str(rate)] if rate else []), "-f", script, "postgres"],
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
        report(f"delivery, {rows} new contacts, contacts/s", inserted, "{:,.0f}")
        report(f"delivery, {rows} changed contacts, contacts/s", updated, "{:,.0f}")
        print("    stored of a contact, with indexes: " + ", ".join(f"{name} {size:.0f} bytes" for name, size in stored.items()))

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
        report(f"import of {rows} rows, contacts/s", imported, "{:,.0f}")
        report("the same / delivery from the queue", ratios)
        report(f"reconciliation of {rows} rows that are unchanged, rows/s", compared, "{:,.0f}")

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
            print(f"commit -> request, {name}: p50 {percentile(times, 50):.2f} ms, p99 {percentile(times, 99):.2f} ms,"
                  f" most {max(times):.2f} ms of {len(times)}; the statement that commits: p50 {percentile(commits, 50):.2f} ms,"
                  f" p99 {percentile(commits, 99):.2f} ms")
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
        report(f"delivery of {self.args.rate} changes/s of single rows, worker's CPU a change, us", [f[0] for f in figures], "{:.0f}")
        report("    calls/s", [f[1] for f in figures], "{:.0f}")
        report("    WAL a change, bytes, of all", [f[2] for f in figures], "{:.0f}")
        for clients in (1, 4, 8):
            ratios = []
            for _ in range(self.args.rounds):
                rates = {table: self.pgbench(table, "on", clients) for table in ("plain", "watched")}
                self.run("CALL contactsync_wait('brook')")
                ratios.append(rates["watched"] / rates["plain"])
            report(f"capture while delivering, one row, pgbench UPDATE rate, {clients} clients, watched / not", ratios)
        self.run("SELECT contactsync_unwatch('watched', 'brook')")
        self.run("DROP TABLE plain, watched")

    def trickle_at(self, rate):
        """Return the worker's CPU in us and the WAL in bytes for each change, and the calls a second."""
        worker = self.run("SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'")
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
        measured = definitions.Definitions(self, cpu_seconds, report)
        for part in parts or definitions.PARTS:
            getattr(measured, part)()

    def resources(self, *parts):
        """Show whether what the worker takes is bounded and flat, in these parts or in all; not one of those that run by default."""
        self.failed |= not resources.Resources(self).run(parts or resources.PARTS)


def cpu_seconds(pid):
    """Return the CPU time that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def report(title, values, form="{:.3f}"):
    print(f"{title}: median {form.format(statistics.median(values))}"
          f" ({form.format(min(values))} to {form.format(max(values))} in {len(values)} rounds)", flush=True)


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
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("parts", nargs="*", default=[])
    args = parser.parse_args()
    bench = Bench(args)
    try:
        for part in args.parts or ["capture", "update", "deliver", "scan", "latency", "trickle", "pace"]:
            if part in resources.PARTS:
                bench.resources(part)
            elif part in definitions.PARTS:
                bench.definitions(part)
            else:
                getattr(bench, part)()
    finally:
        bench.sandbox.terminate()
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
