"""Measure how much of a provider's limit is used, and how many calls are refused, where the configured pace does not fit the limit."""

import json
import os
import re
import subprocess
import time
import urllib.request

import psycopg2

SANDBOX = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "sandbox")
SPEED = 10          # of both clocks
SECONDS = 240       # that a case takes on them
BUCKET = {"kind": "bucket", "limit": 10, "burst": 15}
SLIDING = {"kind": "sliding", "limit": 100, "seconds": 10}
MINUTE = {"kind": "sliding", "limit": 600, "seconds": 60}
FIXED = {"kind": "fixed", "limit": 300, "seconds": 60}
# title, provider, limit, what is allowed in a second, databases that share it, pace of each
CASES = [("token bucket, at the limit", "campaignlark", BUCKET, 10, 1, 9.8),
         ("token bucket, pace 4 times too high", "campaignlark", BUCKET, 10, 1, 40),
         ("sliding window of 10 s, pace 4 times too high", "campaignlark", SLIDING, 10, 1, 40),
         ("sliding window of 60 s, pace 4 times too high", "campaignlark", MINUTE, 10, 1, 40),
         ("token bucket, two databases", "campaignlark", BUCKET, 10, 2, 9.8),
         ("token bucket, four databases", "campaignlark", BUCKET, 10, 4, 9.8),
         ("sliding window of 10 s, two databases", "campaignlark", SLIDING, 10, 2, 9.8),
         ("sliding window of 10 s, four databases", "campaignlark", SLIDING, 10, 4, 9.8),
         ("fixed window of 60 s with its reset, two databases", "mailingcore", FIXED, 5, 2, 4.9),
         ("fixed window of 60 s with its reset, four databases", "mailingcore", FIXED, 5, 4, 4.9)]
# path, the beginning of a key, the name of the limit, options
PROVIDERS = {"campaignlark": ("/campaignlark/v1", "cl", "workspace", ", check_fields 'false', new_contacts 'unsubscribed'"),
             "mailingcore": ("/mailingcore", "mc_test", "client", ", tenant_id '{account}'")}


class PaceBench:
    def __init__(self, args):
        self.args = args
        self.restart(SPEED)
        self.sandbox = subprocess.Popen(["/usr/bin/python3", SANDBOX, "--clock-speed", str(SPEED)], stdout=subprocess.PIPE, text=True)
        self.address = "http://127.0.0.1:" + re.search(r":(\d+)", self.sandbox.stdout.readline()).group(1)

    def close(self):
        self.sandbox.terminate()
        self.restart(1)

    def restart(self, speed):
        """Restart the server with another speed of contactsync's clock."""
        self.execute("postgres", f"ALTER SYSTEM SET contactsync.clock_speed = {speed}")
        subprocess.run([os.path.join(self.args.bindir, "pg_ctl"), "-D", os.path.join(self.args.socket, "data"), "-m", "fast", "-w", "restart",
                        "-l", os.path.join(self.args.socket, "log", "server.log")], check=True, stdout=subprocess.DEVNULL)

    def execute(self, database, *statements):
        """Run statements in a database; return the first value of the last one, or None."""
        connection = psycopg2.connect(host=self.args.socket, user="postgres", dbname=database)
        try:
            connection.autocommit = True
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]
        finally:
            connection.close()

    def control(self, method, path, body=None):
        request = urllib.request.Request(f"{self.address}/control/{path}", method=method, data=body and json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def run(self):
        print(f"pace: {SECONDS} s of each case on a clock {SPEED} times as fast; calls that were allowed / that are possible; calls refused")
        for number, case in enumerate(CASES):
            self.measure(f"pace{number}", *case)

    def measure(self, account, title, provider, limit, allowed, databases, pace):
        path, key, limited, options = PROVIDERS[provider]
        grant = next(iter(self.control("GET", f"{provider}/config")["keys"].values()))
        self.control("POST", f"{provider}/config", {"account": account, "keys": {f"{key}_{account}": grant}, "limits": {limited: limit}})
        names = [f"{account}_{n}" for n in range(databases)]
        for name in names:
            self.execute("postgres", f"CREATE DATABASE {name}")
            self.execute(name, "CREATE EXTENSION contactsync",
                         f"CREATE SERVER s FOREIGN DATA WRAPPER contactsync OPTIONS (provider '{provider}', batch_size '1', pace '{pace}',"
                         f" base_url '{self.address}{path}'{options.format(account=account)})",
                         f"CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (api_key '{key}_{account}')",
                         "CREATE TABLE t (email text PRIMARY KEY)", """SELECT contactsync_watch('t', 's', '{"email": "email"}')""",
                         f"INSERT INTO t SELECT '{name}' || g || '@example.com' FROM generate_series(1, {2 * SECONDS * allowed}) g")
        time.sleep(SECONDS / SPEED)
        count = self.control("GET", f"{provider}/count?account={account}")
        for name in names:
            self.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")
        refused = count["rate_limited"]
        possible = allowed * SECONDS + limit.get("burst", 0)
        print(f"    {title}: {(count['requests'] - refused) / possible:.2f}; {100 * refused / count['requests']:.2f} %", flush=True)
