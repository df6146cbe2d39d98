#!/usr/bin/python3
"""Let each place of the code fail once while random histories run; see faults.sh.

usage: faults.py --bindir DIR --work DIR --library FILE [--seconds N] [--gap MILLISECONDS] [--seed N] [...]

The histories are those of consent.py, whose oracle judges them, in order of their seeds. They repeat statements that fail for lack
of memory. In the end the worker must run, the server must not have crashed but when it was killed, and what the processes hold must
be as before the faults. This prints how many places the code has, a history reached, and failed, and for each verdict the history.
"""

import argparse
import collections
import mmap
import os
import re
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fuzz"))

import consent  # noqa: E402  pylint: disable=wrong-import-position
import consent_world  # noqa: E402  pylint: disable=wrong-import-position
from installation import Installation  # noqa: E402  pylint: disable=wrong-import-position

MAX_PLACES = 4 << 20
HEADER = 16
REACHED, FAILED = 1, 2
PATIENCE = 10       # seconds in which a history has to come to rest in spite of the faults


class Faults:
    """The file that the processes of the server share; faults.c explains it."""

    def __init__(self, path):
        with open(path, "w+b") as file:
            file.truncate(HEADER + MAX_PLACES)
            self.map = mmap.mmap(file.fileno(), 0)

    def gap(self, seconds):
        """Let two faults be so far apart from now on; 0: no fault."""
        self.map[:HEADER] = struct.pack("qq", int(seconds * 1e9), 0)

    def places(self, least):
        return [place for place, state in enumerate(self.map[HEADER:]) if state >= least]


def calls(library):
    """Return the functions that can fail, by the address to which each call of them returns."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", library], check=True, stdout=subprocess.PIPE, text=True).stdout
    found, name = {}, None
    for address, text in re.findall(r"^ *([0-9a-f]+):\t(.*)$", code, re.M):
        if name:
            found[int(address, 16)] = name
        call = re.match(r"call\s+[0-9a-f]+ <__wrap_(\w+)", text)
        name = call and call[1]
    return found


def lines(library, places):
    """Return the source lines of places."""
    if not places:
        return []
    out = subprocess.run(["addr2line", "-e", library, *(hex(place - 1) for place in places)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [line.split("/src/")[-1] for line in out.splitlines()]


def crashes(log, library):
    """Return the lines of the server's log that tell of a crash for another reason than a kill, with the last fault of the process."""
    found, last = [], {}
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            fault = re.search(r"\[(\d+)\].*fault at ([0-9a-f]+)", line)
            crash = re.search(r"PANIC|TRAP:|\(PID (\d+)\) was terminated by signal (?!9|15)", line)
            if fault:
                last[fault[1]] = int(fault[2], 16)
            if crash:
                found.append(line.strip() + "; its last fault: " + "".join(lines(library, [last[crash[1]]] if crash[1] in last else [])))
    return found


def held(place):
    """Return the number of file descriptors and the memory of the process that runs longest of each kind."""
    found = {}
    for pid, kind in place.run(place.connect("postgres", "admin"),
                               "SELECT pid, backend_type FROM pg_stat_activity WHERE backend_type LIKE 'contactsync%' ORDER BY backend_start DESC"):
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            memory = int(re.search(r"RssAnon:\s*(\d+)", file.read())[1])
        found[kind] = len(os.listdir(f"/proc/{pid}/fd")), memory
    return found


def arguments():
    """Return the own options, and leave the others for consent.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True)
    parser.add_argument("--seconds", type=int, default=600, help="start no history after so long")
    parser.add_argument("--gap", type=int, default=200, metavar="MILLISECONDS", help="between two faults")
    options, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    return options


def leave_alone(faults, gap):
    """Let a history that does not come to rest do so: a worker that fails while it starts is started later each time."""
    def quiet(history, wait=consent.History.quiet):
        timer = threading.Timer(PATIENCE, faults.gap, [0])
        timer.start()
        try:
            wait(history)
        finally:
            timer.cancel()
            timer.join()
            faults.gap(gap)
    consent.History.quiet = quiet


def run(options, place, faults, tally, total):
    """Run histories until time is up, or two of them add nothing; return their number."""
    began, seed, failed = time.monotonic(), place.options.seed, [-2, -1]
    while time.monotonic() - began < options.seconds and failed[-1] > failed[-3 if len(failed) > 2 else 0]:
        faults.gap(options.gap / 1000)
        consent.run_history(place, seed, tally)
        faults.gap(0)
        seed += 1
        failed.append(len(faults.places(FAILED)))
        print(f"    {len(faults.places(REACHED))} of {total} places reached, {failed[-1]} failed", flush=True)
    return seed - place.options.seed


def report(options, faults, found):
    reached, failed = set(faults.places(REACHED)), set(faults.places(FAILED))
    kinds = collections.defaultdict(lambda: [0, 0, 0])
    for address, name in found.items():
        for number, count in enumerate((True, address in reached, address in failed)):
            kinds[name][number] += count
    print("\n   places  reached  failed")
    for name, numbers in sorted(kinds.items(), key=lambda kind: -kind[1][0]):
        print("".join(f"{number:9}" for number in numbers) + f"  {name}")
    print("".join(f"{sum(numbers[i] for numbers in kinds.values()):9}" for i in range(3)) + "  in all")
    strange = failed - set(found)
    if strange:
        print("not known as calls: " + " ".join(lines(options.library, sorted(strange))))


def main():
    options = arguments()
    consent_options, tally = consent.arguments(), consent.Tally()
    path = os.path.join(consent_options.work, "faults")
    faults, found = Faults(path), calls(options.library)
    os.environ["CS_FAULTS"] = path
    consent.History.ATTEMPTS = 1000
    consent_world.QUIET_SECONDS = 2 * PATIENCE + 60
    leave_alone(faults, options.gap / 1000)
    work = os.path.join(consent_options.work, "histories")
    os.mkdir(work)
    place = Installation(consent_options, work)
    before, began = held(place), time.monotonic()
    try:
        seeds = run(options, place, faults, tally, len(found))
        print(f"\nheld before: {before}, after: {held(place)}")
        crashed = crashes(place.server.log, options.library)
    finally:
        place.server.stop("immediate")
        place.sandbox.process.stdin.close()
    tally.report(seeds, time.monotonic() - began)
    report(options, faults, found)
    print(f"{len(crashed):6}  crashes")
    for line in crashed:
        print(line)
    return 1 if tally.failing or tally.broken or crashed else 0


if __name__ == "__main__":
    sys.exit(main())
