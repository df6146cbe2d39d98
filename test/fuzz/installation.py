"""The installation that the random runs share: the server, the sandbox, and what the product can do.

torture.py, consent.py and chaos.py use it.
"""

import copy
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

import psycopg2

SANDBOX = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sandbox")


class Sandbox:
    def __init__(self, clock_speed):
        self.process = subprocess.Popen(
            [sys.executable, SANDBOX, "--exit-with-stdin",
             "--clock-speed", str(clock_speed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = "http://" + re.match(r"listening on (\S+)", self.process.stdout.readline())[1]

    def call(self, method, path, document=None):
        request = urllib.request.Request(
            f"{self.url}/control/{path}", method=method, headers={"Content-Type": "application/json"},
            data=None if document is None else json.dumps(document).encode())
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


class Server:
    def __init__(self, bindir, work, settings, environment=None):
        self.bindir, self.data, self.log = bindir, f"{work}/data", f"{work}/server.log"
        self.environment = {**os.environ, **(environment or {})}
        self.sockets = work
        self.expected_crashes = 0
        self.run("initdb", "-D", self.data, "-U", "admin", "--encoding=UTF8", "--no-locale", "--no-sync", "-A", "trust")
        with open(f"{self.data}/postgresql.conf", "a") as conf:
            for name, value in settings.items():
                conf.write(f"{name} = '{value}'\n")
        self.start()

    def run(self, program, *arguments, check=True):
        return subprocess.run([f"{self.bindir}/{program}", *arguments], check=check, env=self.environment,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self):
        self.run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "start")

    def stop(self, mode):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop", check=False)

    def standby(self):
        """Return a standby on another port, which has caught up."""
        standby = copy.copy(self)
        standby.data, standby.log = f"{self.data}_", f"{self.log}_"
        self.run("pg_basebackup", "-h", self.sockets, "-U", "admin", "-D", standby.data, "-R", "-X", "stream", "-c", "fast")
        self.run("pg_ctl", "-D", standby.data, "-l", standby.log, "-o", "-p 5433", "-w", "-t", "60", "start")
        sent, = self.query("SELECT pg_current_wal_lsn()")[0]
        caught_up = ["psql", "-h", self.sockets, "-p", "5433", "-U", "admin", "-d", "postgres", "-Atc", f"SELECT pg_last_wal_replay_lsn() >= '{sent}'"]
        while subprocess.run([f"{self.bindir}/{caught_up[0]}", *caught_up[1:]], check=True, stdout=subprocess.PIPE).stdout.strip() != b"t":
            time.sleep(0.05)
        return standby

    def promote(self):
        """Promote a standby, on the port of the primary that has gone."""
        self.stop("fast")
        self.start()
        self.run("pg_ctl", "-D", self.data, "-w", "promote")

    def connect(self, user="admin"):
        connection = psycopg2.connect(host=self.sockets, dbname="postgres", user=user, connect_timeout=5)
        connection.autocommit = True
        return connection

    def patient(self, user="admin", seconds=60):
        end = time.time() + seconds
        while True:
            try:
                return self.connect(user)
            except psycopg2.OperationalError:
                if time.time() > end:
                    raise
                time.sleep(0.1)

    def query(self, sql, *parameters):
        connection = self.patient()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def worker_pid(self):
        rows = self.query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'")
        return rows[0][0] if rows else None


class Installation:
    """The server and the sandbox that all histories share, and the features of the product."""

    SPEED = 20          # of the clocks of product and sandbox
    SETTINGS = {}       # more settings of the server

    def __init__(self, options, work):
        self.options = options
        self.sandbox = Sandbox(self.SPEED)
        self.server = Server(options.bindir, work, {
            "shared_preload_libraries": "contactsync", "contactsync.allowed_networks": "127.0.0.0/8",
            "listen_addresses": "", "unix_socket_directories": work,
            "fsync": "off", "shared_buffers": "32MB", "max_connections": "40", "max_worker_processes": "16",
            "contactsync.clock_speed": self.SPEED, "contactsync.launcher_naptime": "1s", "contactsync.probe_interval": "5",
            "log_line_prefix": "%m %b[%p] %d ", "log_statement": "none", "autovacuum_naptime": "60s",
            "restart_after_crash": "on", **self.SETTINGS}, self.environment(work))
        for sql in ("CREATE ROLE sender LOGIN", "CREATE DATABASE probe OWNER sender"):
            self.run(self.connect("postgres", "admin"), sql)
        self.features = self.probe()

    def environment(self, work):                    # pylint: disable=unused-argument
        """Return more variables of the server's environment. Called once, before there is a server."""
        return {}

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

    def fail_over(self):
        """Replace the server by a standby that has caught up, and promote it."""
        old = self.server
        self.server = old.standby()
        old.stop("immediate")
        self.server.promote()

    @staticmethod
    def run(connection, sql, parameters=None):
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def probe(self):
        """Find out which of the planned features the product has."""
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
        features = {name: name in watch for name in ("claims", "delete_guard", "delete_delay")}
        features["forget_suppression"] = "suppression" in arguments["contactsync_forget"]
        features["opt_in_at"] = works("SELECT contactsync_watch('t', 'mc', '{\"email\": \"email\", \"opt_in\": \"opt\", \"opt_in_at\": \"opt_at\"}')")
        features["spotzee_opt_in"] = works("SELECT contactsync_watch('t', 'sp', '{\"external_id\": \"id\", \"email\": \"email\", \"opt_in\": \"opt\"}')")
        features["spotzee_auto"] = works(server.format("api 'auto'"))
        features["spotzee_subscription"] = works(server.format("subscription_id '5'"))
        self.run(self.connect("postgres", "admin"), "DROP DATABASE probe WITH (FORCE)")
        return features


def idle_problem(pid):
    """Return what is wrong with a worker that has nothing to do, if it uses the CPU."""
    before = cpu_seconds(pid)
    time.sleep(2)
    used = cpu_seconds(pid) - before
    return f"used {used:.2f} s in 2 s" if used > 0.1 else None


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
