"""Keep a server busy for long, and show whether what it uses stays flat: sizes, dead rows, memory, descriptors and threads.

It is not flat if the most of the last third of the samples exceeds that of the second by a tenth and the allowance in ALLOWED, or
if less than HOT per cent of the updates of contactsync.contact were HOT.
"""

import os
import re
import subprocess
import time

TABLES = ("queue", "contact", "source_row", "call", "counter", "stat")
SAMPLES = 12
PEOPLE = 100_000
RATE = 2000         # changes of one row each, in a second
HEADS = ("backlog", *TABLES, "dead rows", "HOT %", "memory MB", "files", "threads", "CPU s")
ALLOWED = {"backlog": RATE, **dict.fromkeys(TABLES, 2), "dead rows": 20_000, "memory MB": 2, "files": 4, "threads": 2}
HOT = 90
CALL_LOG_ROWS = 5000


class Soak:
    """"bench" has the connection, the sandbox and the servers; see bench.py."""

    def __init__(self, bench):
        self.bench = bench
        self.args = bench.args

    def run(self):
        """Return whether all stayed flat.  The log of calls is shortened, so that it is full before the second third."""
        self.bench.run(f"ALTER SYSTEM SET contactsync.call_log_rows = {CALL_LOG_ROWS}")
        self.bench.run("SELECT pg_reload_conf()")
        self.bench.server("soaked", pace="10000", burst="10000", concurrency="2")
        self.bench.watched_table("soaked", "soaked")
        self.bench.insert_new("soaked", PEOPLE)
        self.bench.run("CALL contactsync_wait('soaked')")
        seconds = self.args.soak_seconds
        print(f"soak: {seconds} s of {RATE} changes a second of {PEOPLE} people; autovacuum with its defaults, {CALL_LOG_ROWS} calls kept; sizes in MB")
        print("    " + "".join(f"{head:>12}" for head in HEADS))
        load = self.start_load(seconds)
        samples = []
        for _ in range(SAMPLES):
            time.sleep(seconds / SAMPLES)
            samples.append(self.show_sample())
        output = load.communicate()[0]
        self.bench.run("CALL contactsync_wait('soaked')")
        self.show_sample()
        print(f"    {float(re.search(r'tps = ([0-9.]+)', output).group(1)):,.0f} changes a second were made")
        self.bench.run("SELECT contactsync_unwatch('soaked', 'soaked')")
        self.bench.run("DROP TABLE soaked")
        self.bench.run("ALTER SYSTEM RESET contactsync.call_log_rows")
        self.bench.run("SELECT pg_reload_conf()")
        return self.judge(samples)

    @staticmethod
    def judge(samples):
        third = len(samples) // 3
        columns = {head: [float(sample[i]) for sample in samples] for i, head in enumerate(HEADS)}
        grown = [head for head, allowed in ALLOWED.items()
                 if max(columns[head][2 * third:]) > 1.1 * max(columns[head][third:2 * third]) + allowed]
        if columns["HOT %"][-1] < HOT:
            grown.append("HOT %")
        print(f"    not flat: {', '.join(grown)}" if grown else "    flat", flush=True)
        return not grown

    def start_load(self, seconds):
        script = os.path.join(self.args.socket, "soak.sql")
        with open(script, "w") as file:
            file.write(f"\\set id random(1, {PEOPLE})\nUPDATE soaked SET points = points + 1 WHERE id = {self.bench.last - PEOPLE} + :id;\n")
        return subprocess.Popen([os.path.join(self.args.bindir, "pgbench"), "-h", self.args.socket, "-U", "postgres", "-n", "-M", "prepared",
                                 "-c", "4", "-R", str(RATE), "-T", str(seconds), "-f", script, "postgres"],
                                env={**os.environ, "PGOPTIONS": "-c synchronous_commit=off"}, stdout=subprocess.PIPE, text=True)

    def show_sample(self):
        sizes = [self.bench.run(f"SELECT pg_total_relation_size('contactsync.{table}') / 1e6") for table in TABLES]
        dead = self.bench.run("SELECT sum(n_dead_tup)::bigint FROM pg_stat_all_tables WHERE schemaname = 'contactsync'")
        hot = self.bench.run("SELECT 100 * n_tup_hot_upd / NULLIF(n_tup_upd, 0) FROM pg_stat_all_tables WHERE relid = 'contactsync.contact'::regclass")
        backlog = self.bench.run("SELECT sum(backlog)::bigint FROM contactsync.status WHERE server = 'soaked'")
        values = [backlog, *(f"{size:.1f}" for size in sizes), dead, hot, *self.process()]
        print("    " + "".join(f"{value!s:>12}" for value in values), flush=True)
        return values

    def process(self):
        """Memory in MB, open files, threads and CPU seconds of the worker."""
        pid = self.bench.run("SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'")
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        with open(f"/proc/{pid}/stat") as file:
            times = file.read().rsplit(")", 1)[1].split()[11:13]
        rss = (int(status["RssAnon"].split()[0])) / 1024
        return f"{rss:.1f}", len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]), sum(map(int, times)) // os.sysconf("SC_CLK_TCK")
