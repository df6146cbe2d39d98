#!/usr/bin/python3
"""Change one line of the source at a time, and check that the tests notice.

usage: mutate.py --tree DIR --pg-config FILE [--tested] [--day | NAME ...]
       mutate.py --check

mutations.toml lists the mutations. Each names a file, a piece that is in it exactly once, what replaces it, the rule that
this breaks, and the tests each of which has to fail then. A run builds the source as it is in the tree and runs the
tests of the mutations that are chosen, which have to pass; then it applies these mutations one by one. It prints a line "ok" or
"not ok" for each.

--tested says that the tests have passed already. --day chooses up to ten from all parts of the list by the day, so that all take
their turn within a month, except for those that are "slow", because their tests wait until they time out; a NAME chooses the
mutations whose names begin with it.
--check only looks whether the list fits the source and the tests.
"""

import argparse
import datetime
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
OF_A_DAY = 10
# A mutation may have a test wait for what never comes, or the product go on for ever.
TIMEOUT_OF_WAITS = "60"
TIMEOUT = 400
# What a TAP test prints as soon as a check fails; its other checks need not be awaited.
FAILED = re.compile(r"^#   Failed test '(.*)'$", re.M)
ENVIRONMENT = dict(os.environ, PG_TEST_TIMEOUT_DEFAULT=TIMEOUT_OF_WAITS)
KINDS = {"REGRESS": ("test/sql", ".sql"), "ISOLATION": ("test/specs", ".spec"), "TAP_TESTS": ("test/t", ".pl")}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", metavar="DIR", help="the copy of the sources to change")
    parser.add_argument("--pg-config", metavar="FILE", help="that of the PostgreSQL to install into")
    parser.add_argument("--tested", action="store_true", help="do not run the tests without a mutation first")
    parser.add_argument("--day", action="store_true", help=f"only {OF_A_DAY}, chosen by the day")
    parser.add_argument("--check", action="store_true", help="only check the list")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only the mutations whose names begin with one of these")
    options = parser.parse_args()
    if not options.check and not (options.tree and options.pg_config):
        parser.error("--tree and --pg-config are required")
    return options


def mutations():
    with open(os.path.join(HERE, "mutations.toml"), "rb") as file:
        return tomllib.load(file)["mutation"]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


# ---------- the list ----------

def kind_of(test):
    """Return the variable of the Makefile to which a test belongs, or None."""
    for kind, (folder, extension) in KINDS.items():
        if os.path.exists(os.path.join(TOP, folder, test + extension)):
            return kind
    return None


def problems():
    """Return what is wrong with the list."""
    found, names = [], set()
    for mutation in mutations():
        name = mutation.get("name", "?")
        lacks = {"name", "file", "old", "new", "breaks", "tests"} - {key for key, value in mutation.items() if value or key == "new"}
        if lacks:
            found.append(f"{name}: lacks {', '.join(sorted(lacks))}")
            continue
        if name in names:
            found.append(f"{name}: is there twice")
        names.add(name)
        path = os.path.join(TOP, mutation["file"])
        count = read(path).count(mutation["old"]) if os.path.exists(path) else 0
        if count != 1:
            found.append(f"{name}: {mutation['file']} has {count} times: {mutation['old']}")
        if changed_lines(mutation) != 1:
            found.append(f"{name}: changes {changed_lines(mutation)} lines")
        found += [f"{name}: there is no test {test}" for test in mutation["tests"] if kind_of(test) is None]
    return found


def changed_lines(mutation):
    old, new = mutation["old"].split("\n"), mutation["new"].split("\n")
    return sum(a != b for a, b in zip(old, new)) if len(old) == len(new) else max(len(old), len(new))


def chosen(options):
    """Return the mutations to try."""
    every = mutations()
    if options.day:
        every = [mutation for mutation in every if not mutation.get("slow")]
        stride = -(-len(every) // OF_A_DAY)
        return every[datetime.date.today().toordinal() % stride::stride]
    for name in options.names:
        if not any(mutation["name"].startswith(name) for mutation in every):
            sys.exit(f"no mutation is called {name}")
    return [m for m in every if not options.names or any(m["name"].startswith(name) for name in options.names)]


# ---------- building and testing ----------

def end(process):
    """End a command with all that it has started, and wait for that; a server ends in order."""
    try:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
        for _ in range(200):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    except subprocess.TimeoutExpired:
        pass
    except ProcessLookupError:
        return
    os.killpg(process.pid, signal.SIGKILL)


def make(options, *goals, timeout=None, enough=None):
    """Run make until it ends or prints a line that matches enough, and return its exit status and its output; status None: it did not
    end in time."""
    output, late = [], threading.Event()
    with subprocess.Popen(["make", "--no-print-directory", "-s", "-C", options.tree, f"PG_CONFIG={options.pg_config}", *goals],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          start_new_session=True, env=ENVIRONMENT) as process:
        timer = threading.Timer(timeout or threading.TIMEOUT_MAX, lambda: (late.set(), end(process)))
        timer.daemon = True
        timer.start()
        try:
            for line in process.stdout:
                output.append(line)
                if enough and enough.search(line):
                    end(process)
                    return 1, "".join(output)
            status = process.wait()
        except BaseException:
            end(process)
            raise
        finally:
            timer.cancel()
    return None if late.is_set() else status, "".join(output)


def install(options):
    status, output = make(options, "-j2", "install")
    if status != 0:
        raise RuntimeError(f"it does not compile:\n{output}")


def run(options, tests, **limits):
    """Run tests; return whether all passed, or None if they did not end, and the output until then, or until what is enough."""
    goals = [f"{kind}=" + " ".join(f"test/t/{test}.pl" if kind == "TAP_TESTS" else test for test in tests if kind_of(test) == kind)
             for kind in KINDS]
    status, output = make(options, "installcheck", "PROVE_FLAGS=-j2", *goals, **limits)
    return None if status is None else status == 0, output


def how_it_failed(passed, output):
    """Name the first check that failed, where a test names its checks."""
    if passed is None:
        return " does not end"
    check = FAILED.search(output) or re.search(r"^(timed out waiting for .*)$", output, re.M)
    return f' "{check.group(1)}"' if check else ""


def try_mutation(options, mutation):
    """Return the tests that do not notice, and how the others did."""
    path = os.path.join(options.tree, mutation["file"])
    source = read(path)
    try:
        write(path, source.replace(mutation["old"], mutation["new"]))
        install(options)
        survivors, noticed = [], ""
        for test in mutation["tests"]:
            passed, output = run(options, [test], timeout=TIMEOUT, enough=FAILED)
            if passed:
                survivors.append(test)
            else:
                noticed += f": {test}{how_it_failed(passed, output)}"
        return survivors, noticed
    finally:
        write(path, source)


def test_unchanged(options, tests):
    """Run the tests without a mutation; they have to pass."""
    started = time.monotonic()
    install(options)
    passed, output = run(options, tests)
    if not passed:
        sys.exit(f"without a mutation these tests do not pass: {' '.join(tests)}\n{output}")
    print(f"# without a mutation {len(tests)} tests pass ({time.monotonic() - started:.0f} s)", flush=True)


def report(number, name, started, survived, comment):
    print(f"{'not ok' if survived else 'ok'} {number} - {name}{comment} ({time.monotonic() - started:.0f} s)", flush=True)


def main():
    options = arguments()
    found = problems()
    if found or options.check:
        print("\n".join(found), end="\n" if found else "")
        return 1 if found else 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    todo, failed, started = chosen(options), 0, time.monotonic()
    if not options.tested:
        test_unchanged(options, sorted({test for mutation in todo for test in mutation["tests"]}))
    for number, mutation in enumerate(todo, 1):
        since, name = time.monotonic(), mutation["name"]
        try:
            survivors, comment = try_mutation(options, mutation)
        except RuntimeError as error:
            survivors, comment = [name], f": {error}"
        if survivors and not comment.startswith(": it does not compile"):
            comment = f" survived {', '.join(survivors)}; it breaks: {mutation['breaks']}"
        failed += bool(survivors)
        report(number, name, since, survivors, comment)
    install(options)
    print(f"# {len(todo) - failed} of {len(todo)} mutations were caught in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
