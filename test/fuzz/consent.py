#!/usr/bin/python3
"""Run random histories over the providers, and check by an oracle that nobody's consent is violated.

usage: consent.py --bindir DIR [--work DIR] [--seed N] [--seeds N] [--steps N] [--jobs N] [--providers NAME,...] [--verbose]

Each seed is one history in a database of its own. It inserts, updates, deletes and moves rows of one or two tables, which are
watched by a server at each provider: the five built-in ones, and those of shipped definitions; ends and recreates watches; lets people opt out, opt in and complain at the provider;
and adds lost answers, reloads, kills, restarts, restores and erasures. The sandbox tells what reached people, and
consent_oracle.py judges it; its header explains the verdicts. For each failing verdict this prints the seed and the history of
that person, with rows, words and requests in order.

The same seed makes the same choices, but not with the same timing. Features that the product does not have yet (opt_in_at,
claims, delete_delay, ...) are left out; they are recognised by the arguments of contactsync_watch().
"""

import argparse
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2

from consent_accounts import BUILT_IN, DEFINED
from consent_history import History
from consent_oracle import FAILING, SHOWN
from installation import Installation


GROUPS = {"built-in": BUILT_IN, "defined": DEFINED, "all": BUILT_IN + DEFINED}


def provider_names(text):
    """Return the providers that a list of names and groups means, in one order."""
    chosen = {name for item in text.split(",") for name in GROUPS.get(item, (item,))}
    unknown = chosen - set(GROUPS["all"])
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no provider {', '.join(sorted(unknown))}")
    return [name for name in GROUPS["all"] if name in chosen]


def kept_seeds():
    """Return (seed, providers) of the lines of consent_seeds.txt."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "consent_seeds.txt")
    with open(path, encoding="utf-8") as file:
        lines = [line.split(maxsplit=2) for line in file if line.strip() and not line.startswith("#")]
    return [(int(seed), provider_names(names)) for seed, names, _ in lines]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--work")
    parser.add_argument("--seed", type=int, help="first seed; random by default")
    parser.add_argument("--seeds", type=int, default=6, help="number of seeds")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes, each with a server of its own")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--providers", type=provider_names, default=provider_names("all"), metavar="NAME,...",
                        help="run only these, or built-in or defined, the providers of shipped definitions; other providers make other choices")
    parser.add_argument("--acts", help="comma-separated names of functions in consent_history.py; run only these")
    parser.add_argument("--show", type=int, default=3, help="number of histories to print for each kind of verdict and provider")
    parser.add_argument("--these", metavar="SEED,...", help="run these seeds")
    parser.add_argument("--kept", action="store_true", help="run the seeds of consent_seeds.txt, which failed once")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if options.kept:
        options.jobs, options.seeds = 1, len(kept_seeds())
    if options.these:
        options.these = [int(seed) for seed in options.these.split(",")]
        options.jobs, options.seed, options.seeds = 1, min(options.these), len(options.these)
    if options.seed is None:
        options.seed = random.randrange(10**6)
    return options


class Tally:
    """The verdicts of all histories."""

    def __init__(self):
        self.counts, self.shown, self.broken, self.failing = collections.Counter(), collections.Counter(), 0, []

    def add(self, history, show):
        """Count the verdicts of a history, and print some of them."""
        found = [(name, verdict) for name, ledger in history.ledgers.items() for verdict in ledger.verdicts]
        for name, verdict in found:
            self.counts[name, verdict.kind] += 1
            if verdict.kind in FAILING and self.shown[name, verdict.kind] < show:
                self.shown[name, verdict.kind] += 1
                history.tell(name, verdict)
        for text in history.broken:
            print(f"seed {history.seed}: {text}", flush=True)
        self.broken += len(history.broken)
        if history.broken or any(verdict.kind in FAILING for _, verdict in found):
            self.failing.append(history.seed)
        kinds = collections.Counter(verdict.kind for _, verdict in found)
        print(f"seed {history.seed}: " + (", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "well"), flush=True)

    def report(self, seeds, seconds):
        print(f"\n{seeds} seeds in {seconds:.0f} s")
        for kind in FAILING + SHOWN:
            counts = {name: self.counts[name, kind] for name in GROUPS["all"] if self.counts[name, kind]}
            line = ", ".join(f"{name} {number}" for name, number in counts.items())
            print(f"{sum(counts.values()):6}  {kind}{f' ({line})' if line else ''}")
        print(f"{self.broken:6}  broken")
        if self.failing:
            print("failing seeds: " + " ".join(map(str, self.failing)))

    def add_report(self, text):
        """Add the report of another process."""
        for number, name, counts in re.findall(r"^ *(\d+)  (\w+)(?: \((.*)\))?$", text, re.M):
            for provider, count in re.findall(r"(\w+) (\d+)", counts):
                self.counts[provider, name] += int(count)
            self.broken += int(number) if name == "broken" else 0
        for seeds in re.findall(r"^failing seeds: (.*)$", text, re.M):
            self.failing += map(int, seeds.split())


def run_history(place, seed, tally):
    history = History(place, seed)
    try:
        history.run()
    except (psycopg2.Error, subprocess.CalledProcessError, OSError) as error:
        history.broken.append(f"step {history.step_number}: {type(error).__name__}: {error}")
    tally.add(history, place.options.show)
    if not place.options.keep:
        history.clean_up()


def run_seeds(options, tally):
    work = tempfile.mkdtemp(prefix="consent.", dir=options.work)
    place = Installation(options, work)
    missing = sorted(name for name, there in place.features.items() if not there)
    print(f"seeds {options.seed} to {options.seed + options.seeds - 1}, {options.steps} steps"
          + (f"; the product does not have yet: {', '.join(missing)}" if missing else ""), flush=True)
    try:
        seeds = [(seed, options.providers) for seed in options.these or range(options.seed, options.seed + options.seeds)]
        for seed, options.providers in kept_seeds() if options.kept else seeds:
            run_history(place, seed, tally)
    finally:
        place.server.stop("immediate")
        place.sandbox.process.stdin.close()
    if options.keep or tally.broken:
        print(f"kept {work}")
    else:
        shutil.rmtree(work)


def follow(job, tally, lock):
    """Print the output of a process, a seed at a time, and add its report."""
    text, unprinted = "", ""
    for line in job.stdout:
        text, unprinted = text + line, unprinted + line
        if re.match(r"seed \d+: ", line):
            with lock:
                print(unprinted, end="", flush=True)
            unprinted = ""
    with lock:
        print(unprinted, flush=True)
        tally.add_report(text)
        if job.wait() not in (0, 1):
            tally.broken += 1


def run_jobs(options, tally):
    """Run the seeds in several processes."""
    share, rest = divmod(options.seeds, options.jobs)
    first, threads, lock = options.seed, [], threading.Lock()
    for number in range(min(options.jobs, options.seeds)):
        seeds = share + (number < rest)
        job = subprocess.Popen([sys.executable, *sys.argv, "--jobs", "1", "--seed", str(first), "--seeds", str(seeds)],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threads.append(threading.Thread(target=follow, args=(job, tally, lock)))
        threads[-1].start()
        first += seeds
    for thread in threads:
        thread.join()


def main():
    options, tally, started = arguments(), Tally(), time.monotonic()
    (run_jobs if options.jobs > 1 else run_seeds)(options, tally)
    tally.report(options.seeds, time.monotonic() - started)
    return 1 if tally.failing or tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
