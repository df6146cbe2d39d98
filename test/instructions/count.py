"""Count the instructions that capture and delivery take for a row, and compare them with those in numbers.txt.

A server without other processes (postgres --single) runs under valgrind's callgrind, inserts rows into a watched table, and
delivers them to the fast responder of the sandbox with contactsync_run(), which runs the cycle of the worker; then it updates
and delivers them again. Callgrind counts what the functions of MEASURES take, with all that they call. Such a count hardly
depends on the machine or on what else runs there, unlike a time.

test/run.sh runs this; test/run.sh --accept instructions writes the numbers that are counted to numbers.txt.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys

# How far a number may be from the one that is kept. Two runs of the same program differ by less than 1 %.
TOLERANCE = 0.05

ROWS = 6000
MAPPING = json.dumps({"email": "email", "external_id": "id", "opt_in": "newsletter", "locale": "locale",
                      "attributes": {"firstName": "first_name", "plan": "plan", "points": "points"}})

# What is measured, while rows are inserted and delivered, or updated and delivered; and the functions that do it.
MEASURES = [
    ("capture a row", "inserted", ["contactsync_capture", "at_xact_end"]),
    ("read a new contact and decide", "inserted", ["cs_reader_read"]),
    ("build a call and judge its answer", "inserted", ["cs_call_make", "cs_call_start", "cs_verdict_take"]),
    ("settle a new contact", "inserted", ["cs_settle_store"]),
    ("capture a change", "updated", ["contactsync_capture", "at_xact_end"]),
    ("read a changed contact and decide", "updated", ["cs_reader_read"]),
    ("settle a changed contact", "updated", ["cs_settle_store"]),
]


def start_provider(tree):
    """Start the fast responder; return it and its port."""
    process = subprocess.Popen(["/usr/bin/python3", os.path.join(tree, "test", "sandbox"), "--fast", "--fast-email"],
                               stdout=subprocess.PIPE, text=True)
    return process, int(re.search(r":(\d+)", process.stdout.readline()).group(1))


class Single:
    """A cluster whose statements a server without other processes runs."""

    def __init__(self, bindir, work):
        self.bindir, self.data = bindir, os.path.join(work, "instructions")
        subprocess.run([os.path.join(bindir, "initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "--locale=C", "-E", "UTF8"],
                       check=True, stdout=subprocess.DEVNULL)

    def run(self, statements, command=()):
        """Run statements; return what the server wrote. Exit if one fails."""
        server = [os.path.join(self.bindir, "postgres"), "--single", "-D", self.data, "-c", "fsync=off",
                  "-c", "contactsync.allowed_networks=127.0.0.0/8", "-c", "autovacuum=off", "postgres"]
        result = subprocess.run([*command, *server], input="\n".join(statements) + "\n", capture_output=True, text=True)
        output = result.stdout + result.stderr
        errors = [line for line in output.splitlines() if re.search("ERROR|FATAL|PANIC", line)]
        if result.returncode != 0 or errors:
            sys.exit("\n".join(errors) or output)
        return output


def profile(single, port):
    """Deliver under callgrind; return the costs of inserting and delivering, and of updating and delivering."""
    single.run([
        "CREATE EXTENSION contactsync",
        "CREATE SERVER counted FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'count',"
        f" base_url 'http://127.0.0.1:{port}', pace '10000', burst '10000', concurrency '1')",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER counted OPTIONS (api_key 'mc_test_count')",
        "CREATE TABLE customer (id bigint PRIMARY KEY, email text NOT NULL, first_name text, plan text, points int,"
        " newsletter boolean, locale text)",
        f"SELECT contactsync_watch('customer', 'counted', mapping => '{MAPPING}')"])
    out = os.path.join(single.data, "callgrind")
    output = single.run([
        "INSERT INTO customer SELECT g, 'customer' || g || '@example.com', 'First ' || g, 'free', g % 1000, g % 3 = 0, 'en'"
        f" FROM generate_series(1, {ROWS}) g",
        "CALL contactsync_run()",
        "UPDATE customer SET plan = 'paid'",
        "CALL contactsync_run()",
        "SELECT synced FROM contactsync.status"],
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-after=contactsync_run"])
    if f'synced = "{2 * ROWS}"' not in output:
        sys.exit("not all contacts were delivered:\n" + output)
    return {"inserted": Costs(out + ".1"), "updated": Costs(out + ".2")}


class Costs:
    """A file of callgrind: what each function took, with all that it called."""

    def __init__(self, path):
        self.names, self.totals = {}, collections.Counter()
        function = called = None
        with open(path) as file:
            for line in file:
                if line.startswith("fn="):
                    function, called = self.name(line[3:]), None
                elif line.startswith("cfn="):
                    called = self.name(line[4:])
                elif re.match(r"[-+*\d]", line):
                    # a call of itself is in its cost already
                    if called != function:
                        self.totals[function] += int(line.split()[1])
                    called = None

    def name(self, text):
        """Return the name that "(number) name" or, from the second time on, "(number)" means."""
        number, _, name = text.strip().partition(" ")
        if name:
            self.names[number] = name
        return self.names[number]

    def of(self, functions):
        """Return the instructions for a row; exit if a function was not called."""
        for function in functions:
            if function not in self.totals:
                sys.exit(f"{function}() was not called: name the function that does it now in {os.path.basename(__file__)}")
        return round(sum(self.totals[function] for function in functions) / ROWS)


def read_numbers(path, version):
    """Return the numbers that are kept for a version of PostgreSQL, by what is measured."""
    numbers = {}
    with open(path) as file:
        for line in file:
            if not line.startswith("#"):
                major, number, title = line.split(maxsplit=2)
                if major == version:
                    numbers[title.strip()] = int(number)
    return numbers


def write_numbers(path, version, counted):
    """Replace the numbers of a version of PostgreSQL."""
    with open(path) as file:
        kept = [line for line in file if line.startswith("#") or line.split()[0] != version]
    with open(path, "w") as file:
        file.writelines(kept)
        file.writelines(f"{version} {number:6} {title}\n" for title, number in counted.items())


def compare(counted, numbers, version):
    """Print a line for each number; return whether all are as they were."""
    well = True
    for title, number in counted.items():
        if title not in numbers:
            print(f"ok - to {title}: {number:,} instructions # SKIP no number is kept for PostgreSQL {version}")
            continue
        change = number / numbers[title] - 1
        same = abs(change) <= TOLERANCE
        well &= same
        print(f"{'ok' if same else 'not ok'} - to {title}: {number:,} instructions, {numbers[title]:,} are kept ({change:+.1%})")
        if not same:
            print(f"# It takes {'more' if change > 0 else 'fewer'} instructions than before, by more than {TOLERANCE:.0%}. If that is"
                  " what the change is worth,\n# run test/run.sh --accept instructions, and say why in the commit.")
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--write", metavar="FILE", help="keep the numbers in this copy of numbers.txt")
    args = parser.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    version = re.search(r"\d+", subprocess.run([os.path.join(args.bindir, "postgres"), "--version"], check=True,
                                               capture_output=True, text=True).stdout).group()
    provider, port = start_provider(os.path.join(here, os.pardir, os.pardir))
    try:
        costs = profile(Single(args.bindir, args.work), port)
    finally:
        provider.terminate()
    counted = {title: costs[phase].of(functions) for title, phase, functions in MEASURES}
    if args.write:
        write_numbers(args.write, version, counted)
        numbers = counted
    else:
        numbers = read_numbers(os.path.join(here, "numbers.txt"), version)
    return 0 if compare(counted, numbers, version) else 1


if __name__ == "__main__":
    sys.exit(main())
