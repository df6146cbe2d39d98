"""What becomes of the worker where there is much: a long queue, a snapshot that is held, hundreds of watches.

A steady load with a held snapshot is shown minute by minute; so are the rates of a long queue, from its first tenth to its last.
"""

import contextlib
import os
import time

from process import cpu_seconds, run_seconds

TABLES = ("queue", "contact", "source_row", "call")
PEOPLE = 100_000
TENTHS = 10
WATCHES = 500
MORE = 20           # watches that are added beside these
STEP = 500_000      # rows inserted in a transaction


@contextlib.contextmanager
def held_snapshot(bench):
    """Hold a snapshot, which keeps everything from being vacuumed that is deleted from now on."""
    connection = bench.connect()
    connection.autocommit = False
    try:
        cursor = connection.cursor()
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM pg_class")
        yield
    finally:
        connection.close()


class Growth:
    """"bench" has the connection, the responder, the servers and what reports; see bench.py."""

    def __init__(self, bench):
        self.bench = bench
        self.args = bench.args

    def memory(self):
        """Memory of the worker alone in MB."""
        with open(f"/proc/{self.bench.worker()}/status") as file:
            return int(dict(line.split(":", 1) for line in file)["RssAnon"].split()[0]) / 1024

    def fill(self, table, rows):
        """Queue as many new rows, while nothing is sent."""
        for start in range(0, rows, STEP):
            self.bench.insert_new(table, min(STEP, rows - start))

    def queued(self):
        return self.bench.run("SELECT coalesce(sum(n), 0)::bigint FROM contactsync.queue")

    def drain_once(self, name, hold):
        """Return the rates of each tenth of the queue, in contacts a second, and the most memory in MB."""
        rows = self.args.drain_rows
        self.bench.server(name, pace="10000", burst="10000", concurrency="2")
        self.bench.watched_table(name, name)
        with held_snapshot(self.bench) if hold else contextlib.nullcontext():
            self.bench.run(f"SELECT contactsync_pause('{name}')")
            self.fill(name, rows)
            self.bench.run(f"SELECT contactsync_resume('{name}')")
            rates, memory, left = [], 0.0, rows
            started = time.perf_counter()
            for tenth in range(TENTHS):
                before = left
                while left > rows * (TENTHS - 1 - tenth) / TENTHS:
                    time.sleep(0.2)
                    memory = max(memory, self.memory())
                    left = self.queued()
                now = time.perf_counter()
                rates.append((before - left) / (now - started))
                started = now
        self.bench.run(f"SELECT contactsync_unwatch('{name}', '{name}')")
        self.bench.run(f"DROP TABLE {name}")
        return rates, memory

    def drain(self):
        """Measure how fast a long queue is sent, without and with a snapshot that is held since before it was filled."""
        rows = self.args.drain_rows
        rates = {}
        for hold in (False, True):
            name = "drained_held" if hold else "drained"
            rates[hold], memory = self.drain_once(name, hold)
            how = ", snapshot held" if hold else ""
            print(f"    {rows} queued{how}, contacts/s in each tenth: " + " ".join(f"{rate:,.0f}" for rate in rates[hold]))
            self.bench.report(f"drain of {rows} contacts{how}: rate of the last tenth / of the first", [rates[hold][-1] / rates[hold][0]], goal=0.9)
            self.bench.report(f"drain of {rows} contacts{how}: memory of the worker, MB", [memory], "{:.1f}", goal=64, less=True)
        self.bench.report(f"drain of {rows} contacts, snapshot held / not", [sum(rates[False]) and sum(rates[True]) / sum(rates[False])], goal=0.9)

    def steady(self):
        """Show sizes and CPU in each minute of a steady load of single-row changes, with a snapshot held."""
        minutes, rate = self.args.steady_minutes, self.args.rate
        self.bench.server("steady", pace="10000", burst="10000", concurrency="4")
        self.bench.watched_table("steady", "steady")
        self.bench.insert_new("steady", PEOPLE)
        self.bench.run("CALL contactsync_wait('steady')")
        heads = ("minute", "changes/s", "CPU us/change", "backlog", *(f"{name} MB" for name in TABLES), "memory MB")
        print(f"steady: {minutes} minutes of {rate} changes/s of single rows of {PEOPLE} people, snapshot held")
        print("    " + "".join(f"{head:>15}" for head in heads))
        cost = []
        with held_snapshot(self.bench):
            for minute in range(1, minutes + 1):
                before = cpu_seconds(self.bench.worker())
                achieved = self.bench.pgbench("steady", "off", 4, rate, seconds=60, first=self.bench.last - PEOPLE, rows=PEOPLE)
                cost.append(1e6 * (cpu_seconds(self.bench.worker()) - before) / (achieved * 60))
                sizes = [self.bench.run(f"SELECT pg_total_relation_size('contactsync.{name}') / 1e6") for name in TABLES]
                values = (minute, f"{achieved:,.0f}", f"{cost[-1]:.1f}", self.queued(), *(f"{size:.1f}" for size in sizes), f"{self.memory():.1f}")
                print("    " + "".join(f"{value!s:>15}" for value in values), flush=True)
        self.bench.report(f"{minutes} minutes of {rate} changes/s, snapshot held: worker's CPU a change, us", cost, "{:.1f}", goal=40, less=True)
        self.bench.report("    CPU in the last minute / in the first", [cost[-1] / cost[0]])
        self.bench.run("SELECT contactsync_unwatch('steady', 'steady')")
        self.bench.run("DROP TABLE steady")

    def watches(self):
        """Measure what it costs the worker that a watch is added where there are hundreds."""
        self.bench.server("many", pace="10000", burst="10000")
        for n in range(WATCHES + MORE):
            self.bench.run(f"CREATE TABLE many{n} (id bigint PRIMARY KEY, email text)")
        add = "SELECT contactsync_watch('many{}', 'many', mapping => '{{\"email\": \"email\"}}')"
        for n in range(WATCHES):
            self.bench.run(add.format(n))
        self.bench.run("INSERT INTO many0 VALUES (1, 'first@example.com')")
        self.bench.run("CALL contactsync_wait('many')")
        costs = []
        for n in range(WATCHES, WATCHES + MORE):
            worker = self.bench.worker()
            before = run_seconds(worker)
            self.bench.run(add.format(n))
            self.bench.run(f"INSERT INTO many{n} VALUES (1, 'n{n}@example.com')")
            self.bench.run("CALL contactsync_wait('many')")
            costs.append(1000 * (run_seconds(worker) - before))
        self.bench.report(f"adding a watch beside {WATCHES}, and sending its first row: worker's CPU, ms", costs, "{:.1f}", goal=10, less=True)
        for n in range(WATCHES + MORE):
            self.bench.run(f"SELECT contactsync_unwatch('many{n}', 'many')")
            self.bench.run(f"DROP TABLE many{n}")
