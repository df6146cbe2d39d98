"""Show whether what the worker takes is bounded and stays flat: memory, descriptors, threads, and shared memory.

Four parts: answers (a provider that is hostile in many ways), servers (very many with work), calls (very many), and backlog
(very many changes that wait, with the provider down, and then up).

Each part is sampled from its beginning to its end, and its samples are parted into three. It is not flat if the median of the
last third exceeds that of the second by a tenth and 2 MB (descriptors and threads: and 4), or if the peak of the last third exceeds
that of both others by a quarter and 4 MB (16). It is not bounded if there is more at any time than BOUNDS has, or if
the worker is not the same at the end.
"""

import json
import os
import statistics
import subprocess
import threading
import time

ANSWERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "answers.py")
PARTS = ("answers", "servers", "calls", "backlog")
SPEED = 100         # of contactsync's clock, while answers are hostile
EACH = 0.1          # seconds between samples
STEP = 500_000      # rows inserted in a transaction
DOWN = 60           # seconds that the provider stays down
NAMES = ("memory", "files", "threads", "shared")
HEADS = ("memory MB", "files", "threads", "shared kB")
ROOM = {"memory": (2, 4), "files": (4, 16), "threads": (4, 16), "shared": (0, 0)}
# MB of memory of each part; that of many servers is for each beside the first figure
BOUNDS = {"answers": 256, "servers": 128, "calls": 64, "backlog": 64}
FOR_EACH_SERVER = 1.25
FILES = 1000        # max_files_per_process as it is by default
THREADS = 16


class Sampler(threading.Thread):
    """Sample the worker until it is stopped."""

    def __init__(self, pid, shared):
        super().__init__(daemon=True)
        self.pid = pid
        self.shared = shared
        self.samples = []       # (memory in MB, descriptors, threads, shared memory in kB)
        self.ended = threading.Event()

    def take(self):
        with open(f"/proc/{self.pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        memory = int(status["RssAnon"].split()[0]) + int(status["VmSwap"].split()[0])
        return memory / 1024, len(os.listdir(f"/proc/{self.pid}/fd")), int(status["Threads"]), self.shared()

    def cpu(self):
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) // os.sysconf("SC_CLK_TCK")
        except FileNotFoundError:
            return 0

    def run(self):
        while not self.ended.wait(EACH):
            try:
                self.samples.append(self.take())
            except (FileNotFoundError, ProcessLookupError):
                return

    def stop(self):
        self.ended.set()
        self.join()


class Resources:
    """"bench" has the connection, the fast responder and the servers; see bench.py."""

    def __init__(self, bench):
        self.bench = bench
        self.args = bench.args
        self.problems = []
        self.samplers = bench.connect()

    def run(self, parts):
        for part in parts:
            getattr(self, part)()
        print("flat and bounded" if not self.problems else "not flat, or not bounded", flush=True)
        return not self.problems

    # ----- measuring -----

    def worker(self):
        return self.bench.run("SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = 'postgres'")

    def shared(self):
        """Shared memory of the extension in kB."""
        cursor = self.samplers.cursor()
        cursor.execute("SELECT sum(allocated_size) / 1024 FROM pg_shmem_allocations WHERE name LIKE 'contactsync%'")
        return int(cursor.fetchone()[0])

    def measure(self, part, title, load):
        """Sample the worker while load() runs; print the table and judge it."""
        pid = self.worker()
        sampler = Sampler(pid, self.shared)
        before = sampler.take()
        sampler.start()
        started = time.perf_counter()
        cpu = sampler.cpu()
        done = load()
        seconds = time.perf_counter() - started
        sampler.stop()
        print(f"{part}: {title}: {done} in {seconds:.0f} s, {sampler.cpu() - cpu} s of which the worker was busy")
        if self.worker() != pid:
            self.complain(part, "the worker has ended")
            return
        n = len(sampler.samples) // 3
        thirds = [sampler.samples[:n], sampler.samples[n:2 * n], sampler.samples[2 * n:]]
        print("    " + f"{'':18}" + "".join(f"{head:>22}" for head in HEADS))
        self.show("before", *zip(before))
        for name, third in zip(("beginning", "middle", "end"), thirds):
            self.show(name, *zip(*third))
        time.sleep(6)           # after which it is stored that no call is under way
        self.show("after", *zip(sampler.take()))
        self.judge(part, [list(zip(*third)) for third in thirds])

    @staticmethod
    def show(name, *columns):
        cells = (f"{statistics.median(column):,.0f}, at most {max(column):,.0f}" if len(column) > 1 else f"{column[0]:,.0f}" for column in columns)
        print("    " + f"{name:18}" + "".join(f"{cell:>22}" for cell in cells), flush=True)

    def judge(self, part, thirds):
        for i, name in enumerate(NAMES):
            first, second, third = (columns[i] for columns in thirds)
            more, most = ROOM[name]
            if statistics.median(third) > 1.1 * statistics.median(second) + more or max(third) > 1.25 * max(*first, *second) + most:
                self.complain(part, f"{name} is not flat")
        columns = [[sample for third in thirds for sample in third[i]] for i in range(len(NAMES))]
        memory = BOUNDS[part] + (FOR_EACH_SERVER * self.args.servers if part == "servers" else 0)
        for i, bound in enumerate((memory, FILES, THREADS)):
            if max(columns[i]) > bound:
                self.complain(part, f"{NAMES[i]} is {max(columns[i]):,.0f}, which is more than {bound}")

    def complain(self, part, problem):
        self.problems.append(f"{part}: {problem}")
        print("    " + self.problems[-1], flush=True)

    # ----- parts -----

    def answers(self):
        """A server for each kind of answer; all are called until each has had its calls."""
        provider = subprocess.Popen(["/usr/bin/python3", ANSWERS], stdout=subprocess.PIPE, text=True)
        try:
            places = json.loads(provider.stdout.readline())
            self.bench.run(f"ALTER SYSTEM SET contactsync.clock_speed = {SPEED}")
            self.bench.run("SELECT pg_reload_conf()")
            for kind, (url, authority, stalls) in places.items():
                options = {"ca_file": authority} if authority else {}
                timeout = f"{SPEED if stalls else 30 * SPEED}s"
                self.bench.server(kind, base_url=url, tenant_id=kind, pace="10000", burst="10000", concurrency="4", batch_size="5",
                                  timeout=timeout, connect_timeout=timeout, refusal_guard="0", max_retry_after="60s", **options)
                self.bench.run(f"CREATE TABLE {kind} (id int PRIMARY KEY, email text, n int)")
                self.bench.run(f"""SELECT contactsync_watch('{kind}', '{kind}', '{{"email": "email", "attributes": {{"n": "n"}}}}')""")
            self.measure("answers", f"{len(places)} kinds of hostile answers", lambda: self.provoke(places))
            if self.args.verbose:
                self.show_calls()
        finally:
            provider.terminate()
        self.drop(places)
        self.bench.run("ALTER SYSTEM RESET contactsync.clock_speed")
        self.bench.run("SELECT pg_reload_conf()")

    def provoke(self, kinds):
        calls = {}
        for kind in kinds:
            self.bench.run(f"INSERT INTO {kind} SELECT g, 'c' || g || '@example.com', 0 FROM generate_series(1, 40) g")
        while min(calls.get(kind, 0) for kind in kinds) < self.args.answers:
            time.sleep(0.5)
            for kind in kinds:
                self.bench.run(f"UPDATE {kind} SET n = n + 1")
            calls = self.count_calls()
        return f"{sum(calls.values()):,} calls, at least {min(calls[kind] for kind in kinds)} of each kind"

    def count_calls(self):
        cursor = self.bench.db.cursor()
        cursor.execute("SELECT server, calls FROM contactsync.stats WHERE calls > 0")
        return dict(cursor.fetchall())

    def show_calls(self):
        cursor = self.bench.db.cursor()
        cursor.execute("""SELECT DISTINCT ON (server, verdict) server, verdict, count(*) OVER (PARTITION BY server, verdict), status, left(error, 100)
                          FROM contactsync.calls ORDER BY server, verdict, id""")
        for row in cursor:
            print("    " + " | ".join(map(str, row)))

    def servers(self):
        """Very many servers, each with a table whose rows all change in each round."""
        names = [f"s{n}" for n in range(self.args.servers)]
        for name in names:
            self.bench.server(name, tenant_id=name, pace="10000", burst="10000")
            self.bench.run(f"CREATE TABLE {name} (id int PRIMARY KEY, email text, n int)")
            self.bench.run(f"""SELECT contactsync_watch('{name}', '{name}', '{{"email": "email", "attributes": {{"n": "n"}}}}')""")
        rows = self.args.server_rows
        for name in names:
            self.bench.run(f"INSERT INTO {name} SELECT g, 'c' || g || '@example.com', 0 FROM generate_series(1, {rows}) g")
        self.wait()
        self.measure("servers", f"{len(names)} servers, each with {rows} rows", lambda: self.change_all(names, rows))
        self.drop(names)

    def change_all(self, names, rows):
        for _ in range(self.args.server_rounds):
            for name in names:
                self.bench.run(f"UPDATE {name} SET n = n + 1")
            self.wait()
        return f"{len(names) * rows * self.args.server_rounds:,} contacts"

    def calls(self):
        """Very many calls, of one contact each."""
        self.bench.server("called", pace="10000", burst="10000", concurrency="8", batch_size="1")
        self.bench.watched_table("called", "called")
        self.measure("calls", "one contact a call", self.call_often)
        self.drop(["called"])

    def call_often(self):
        rows = min(self.args.calls, 20_000)
        self.bench.insert_new("called", rows)
        self.wait()
        for _ in range(self.args.calls // rows - 1):
            self.bench.run("UPDATE called SET points = points + 1")
            self.wait()
        return f"{self.count_calls()['called']:,} calls"

    def backlog(self):
        """Very many changes wait: while they are queued, while the provider is down, and while it takes them."""
        self.bench.server("waiting", pace="10000", burst="10000", concurrency="2", base_url="http://127.0.0.1:1")
        self.bench.watched_table("waiting", "waiting")
        self.queue_up()
        self.measure("backlog", "the provider is down", self.stay_down)
        self.bench.run(f"ALTER SERVER waiting OPTIONS (SET base_url 'http://127.0.0.1:{self.bench.port}')")
        self.measure("backlog", "the same are delivered", self.deliver)
        self.drop(["waiting"])

    def queue_up(self):
        self.bench.run("SET synchronous_commit = off")
        for first in range(0, self.args.backlog, STEP):
            self.bench.insert_new("waiting", min(STEP, self.args.backlog - first))
        self.bench.run("RESET synchronous_commit")
        while self.bench.run("SELECT state <> 'unavailable' FROM contactsync.status WHERE server = 'waiting'"):
            time.sleep(0.1)

    def stay_down(self):
        time.sleep(DOWN)
        return f"{self.bench.run('SELECT sum(backlog)::bigint FROM contactsync.status'):,} changes wait"

    def deliver(self):
        self.wait()
        return f"{self.bench.run('SELECT sum(synced)::bigint FROM contactsync.status'):,} contacts"

    def wait(self):
        """Wait until all is delivered; contactsync_wait() waits for one server."""
        while self.bench.run("SELECT EXISTS (SELECT FROM contactsync.queue)"):
            time.sleep(0.2)

    def drop(self, names):
        for name in names:
            self.bench.run(f"SELECT contactsync_unwatch('{name}', '{name}')")
            self.bench.run(f"DROP TABLE {name}")
            self.bench.run(f"DROP SERVER {name} CASCADE")
