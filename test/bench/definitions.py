"""Measure what providers cost that are defined by data, beside built-in ones of the same shape.

Two parts. reload: the worker's CPU for reading all definitions anew after one server was altered, with many servers of built-in providers,
and with as many of definitions, half of them shipped as files and half stored in the table. defined: delivery of changed contacts, by
pairs of the same shape; each round has both.
"""

import json
import statistics

PARTS = ("reload", "defined")
RELOADS = 40
# a definition, and a built-in provider of the same shape: contacts in a call, and how many calls a contact that changes takes
PAIRS = (("webhook", "mailingcore", {"batch_size": "100"}), ("brevo", "campaignlark", {}), ("mailchimp", "campaignlark", {}))
OPTIONS = {"brevo": {"list_id": "2"}, "mailchimp": {"data_center": "us1", "list_id": "l"}, "campaignlark": {"check_fields": "false"},
           "mailingcore": {"tenant_id": "t"}, "loops": {}, "webhook": {}}
MAPPING = json.dumps({"email": "email", "first_name": "first_name", "opt_in": "newsletter", "attributes": {"PLAN": "plan"}})
MAPPINGS = {"mailingcore": MAPPING.replace('"first_name": "first_name", ', "").replace('"PLAN"', '"firstName": "first_name", "PLAN"'),
            "webhook": MAPPING}


class Definitions:
    """"bench" has the connection, the fast responder and the servers; see bench.py."""

    def __init__(self, bench, cpu_seconds, report):
        self.bench, self.args, self.cpu_seconds, self.report = bench, bench.args, cpu_seconds, report
        self.made = 0

    def make_server(self, name, provider, like=None, **options):
        like = like or provider
        options = {"provider": provider, "base_url": f"http://127.0.0.1:{self.bench.port}/{like}", "pace": "10000", "burst": "10000", "bulk_guard": "0",
                   **OPTIONS[like], **options}
        secret = "signing_secret" if like == "webhook" else "api_key"
        value = "mc_test_bench" if like == "mailingcore" else "secret"
        listed = ", ".join(f"{key} '{value}'" for key, value in options.items())
        self.bench.run(f"CREATE SERVER {name} FOREIGN DATA WRAPPER contactsync OPTIONS ({listed})")
        self.bench.run(f"CREATE USER MAPPING FOR CURRENT_USER SERVER {name} OPTIONS ({secret} '{value}')")

    def worker_seconds(self):
        return self.cpu_seconds(self.bench.run(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = current_database()"))

    # ----- reload -----

    def reload(self):
        """Measure the worker's CPU for each reload, beside that with no other server."""
        self.make_server("probe", "mailingcore")
        for name in ("brevo", "mailchimp", "loops", "webhook"):
            self.bench.run(f"SELECT contactsync_define('own_{name}', definition) FROM contactsync_providers() WHERE name = '{name}'")
        names = {"no other servers": (), f"{self.args.defined_servers} servers of built-in providers": ("mailingcore", "campaignlark"),
                 f"{self.args.defined_servers} servers of definitions": ("brevo", "own_brevo", "mailchimp", "own_mailchimp", "loops", "own_loops",
                                                                           "webhook", "own_webhook")}
        for title, providers in names.items():
            servers = [f"s{n}" for n in range(self.args.defined_servers if providers else 0)]
            for n, server in enumerate(servers):
                provider = providers[n % len(providers)]
                self.make_server(server, provider, provider.replace("own_", ""))
                self.bench.run(f"SELECT contactsync_upsert('{server}', '{{\"email\": \"a@example.com\", \"opt_in\": false}}')")
            for server in servers:
                self.bench.run(f"CALL contactsync_wait('{server}')")
            self.report(f"reload, {title}, worker's CPU, ms", [self.time_reloads() for _ in range(self.args.rounds)], "{:.2f}")
            for server in servers:
                self.bench.run(f"DROP SERVER {server} CASCADE")

    def time_reloads(self):
        before = self.worker_seconds()
        for n in range(RELOADS):
            self.made += 1
            # the call shows that the reload is over, and costs the same each time
            self.bench.run(f"ALTER SERVER probe OPTIONS ({'SET' if self.made > 1 else 'ADD'} timeout '{30 + n % 2}s')")
            self.bench.run(f"SELECT contactsync_upsert('probe', '{{\"email\": \"p{self.made}@example.com\"}}')")
            self.bench.run("CALL contactsync_wait('probe')")
        return 1000 * (self.worker_seconds() - before) / RELOADS

    # ----- defined -----

    def defined(self):
        """Measure delivery of contacts that change, by a definition and by a built-in provider of the same shape."""
        for defined, built_in, options in PAIRS:
            figures = {defined: [], built_in: []}
            for name in figures:
                self.make_server(name, name, **options, concurrency="8")
                self.make_table(name)
            for _ in range(self.args.rounds):
                for name, rounds in figures.items():
                    rounds.append(self.deliver(name))
            for name, rounds in figures.items():
                self.report(f"{name}, {self.args.defined_rows} changed contacts, contacts/s", [rate for rate, _ in rounds], "{:,.0f}")
                self.report("    worker's CPU a contact, us", [cpu for _, cpu in rounds], "{:.1f}")
            ratio = statistics.median(cpu for _, cpu in figures[defined]) / statistics.median(cpu for _, cpu in figures[built_in])
            print(f"    worker's CPU, {defined} / {built_in}: {ratio:.2f}", flush=True)
            self.bench.failed |= ratio > 2
            for name in figures:
                self.bench.run(f"SELECT contactsync_unwatch('t_{name}', '{name}')")
                self.bench.run(f"DROP TABLE t_{name}; DROP SERVER {name} CASCADE")

    def make_table(self, name):
        self.bench.run(f"CREATE TABLE t_{name} (id bigint PRIMARY KEY, email text, first_name text, plan text, newsletter boolean)")
        self.bench.run(f"SELECT contactsync_watch('t_{name}', '{name}', mapping => '{MAPPINGS.get(name, MAPPING)}', claims => 'all')")
        self.bench.run(f"INSERT INTO t_{name} SELECT g, 'customer' || g || '@example.com', 'First ' || g, 'free', g % 3 = 0"
                       f" FROM generate_series(1, {self.args.defined_rows}) g")
        self.bench.run(f"CALL contactsync_wait('{name}')")

    def deliver(self, name):
        """Return contacts a second, and the worker's CPU in us for each."""
        rows, before = self.args.defined_rows, self.worker_seconds()
        self.made += 1
        self.bench.run(f"UPDATE t_{name} SET plan = 'plan {self.made}'")
        seconds = self.bench.timed(f"CALL contactsync_wait('{name}')")
        failed = self.bench.run(f"SELECT count(*) FROM contactsync.failures WHERE server = '{name}'")
        assert failed == 0, f"{name}: {failed} failures"
        return rows / seconds, 1e6 * (self.worker_seconds() - before) / rows
