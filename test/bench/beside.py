"""What stands beside contactsync: a queue that a trigger in PL/pgSQL writes, and the least that a delivery could cost.

The floor of delivery posts the same bodies with libcurl (the program curl, with as many connections), and then writes the same rows with
one statement: as long as both take one after the other.
"""

import json
import os
import subprocess
import time

BATCH = 1000        # contacts a call
TRIGGER = """CREATE TABLE beside_queue (id bigserial PRIMARY KEY, key text NOT NULL, queued_at timestamptz NOT NULL DEFAULT now());
             CREATE FUNCTION beside() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW IS DISTINCT FROM OLD THEN
                     INSERT INTO beside_queue (key) VALUES (NEW.id);
                 END IF;
                 RETURN NULL;
             END $$"""
# The tables of the floor have the columns and indexes of contactsync's, and are written from what the provider was sent.
COPIES = ("contact", "source_row")


def queue_by_trigger(run, table):
    """Have changes of the table queued by a trigger in PL/pgSQL."""
    run(TRIGGER)
    run(f"CREATE TRIGGER beside AFTER UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION beside()")


def drop_queue(run):
    run("DROP FUNCTION beside() CASCADE")
    run("DROP TABLE beside_queue")


class Floor:
    """"bench" has the connection and the fast responder; see bench.py."""

    def __init__(self, bench, concurrency):
        self.bench = bench
        self.concurrency = concurrency
        self.directory = os.path.join(bench.args.socket, "floor")
        os.makedirs(self.directory, exist_ok=True)

    def prepare(self, table):
        """Write the bodies of the calls for all rows of the table, as they are sent, and make the tables of the state."""
        cursor = self.bench.db.cursor()
        cursor.execute(f"""SELECT jsonb_strip_nulls(jsonb_build_object('email', email, 'externalId', id::text, 'locale', locale, 'attributes',
                           jsonb_build_object('firstName', first_name, 'plan', plan, 'points', points))) FROM {table} ORDER BY id""")
        rows = [row[0] for row in cursor.fetchall()]
        with open(os.path.join(self.directory, "config"), "w") as config:
            for start in range(0, len(rows), BATCH):
                body = os.path.join(self.directory, f"{start}.json")
                with open(body, "w") as file:
                    json.dump({"contacts": rows[start:start + BATCH]}, file, separators=(",", ":"))
                config.write(f'{"next" if start else ""}\nurl = "http://127.0.0.1:{self.bench.port}/v1/contacts/batch"\n'
                             f'header = "Content-Type: application/json"\ndata-binary = "@{body}"\noutput = "/dev/null"\n')
        for name in COPIES:
            self.bench.run(f"DROP TABLE IF EXISTS floor_{name}")
            self.bench.run(f"CREATE TABLE floor_{name} (LIKE contactsync.{name} INCLUDING ALL) WITH (fillfactor = 70)")

    def post(self):
        """Return how many seconds the calls take."""
        started = time.perf_counter()
        subprocess.run(["curl", "--no-progress-meter", "--fail", "--parallel", "--parallel-max", str(self.concurrency),
                        "--config", os.path.join(self.directory, "config")], check=True)
        return time.perf_counter() - started

    def insert(self, watch):
        """Return how many seconds it takes to write the rows that contactsync has written for the watch."""
        return sum(self.bench.timed(f"INSERT INTO floor_{name} SELECT * FROM contactsync.{name} WHERE watch = {watch}") for name in COPIES)

    def update(self):
        """... and to change them, as far as a change of each contact does."""
        return self.bench.timed("UPDATE floor_contact SET digest = gen_random_uuid(), synced_at = now()")

    def drop(self):
        for name in COPIES:
            self.bench.run(f"DROP TABLE floor_{name}")
