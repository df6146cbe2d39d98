#!/usr/bin/python3
"""Cut the power of a server whose disk forgets what was not synced.

usage: forgetful.py build LIBRARY
       forgetful.py format DATA SHADOW
       forgetful.py cut DATA SHADOW [--tear SEED]

"build" compiles forgetful.c, which is to be preloaded into the server; it explains the shadow. "format" takes everything in the data
directory for durable; the server must not be running. "cut" kills all processes of the server at once, and gives the data
directory the contents that a disk would have then: nothing that was not synced; or, with --tear, for each directory either the
durable names or the last ones, and for each file a random selection of the sectors of 512 bytes that were written since it was synced.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SECTOR = 512
BLOCK = 64 * SECTOR


def build(library):
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "forgetful.c")], check=True)


def environment(library, data, shadow):
    """Return the variables with which the server is to be started."""
    return {"LD_PRELOAD": library, "FORGETFUL_DATA": os.path.realpath(data), "FORGETFUL_SHADOW": os.path.realpath(shadow)}


def format_disk(data, shadow):
    """Take everything in the data directory for durable."""
    shutil.rmtree(shadow, ignore_errors=True)
    for folder in ("files", "live", "names"):
        os.makedirs(os.path.join(shadow, folder))
    for directory, folders, files in os.walk(data):
        there = os.path.join(shadow, "names", os.path.relpath(directory, data))
        for folder in folders:
            os.mkdir(os.path.join(there, folder), 0o700)
        for name in files:
            path = os.path.join(directory, name)
            inode = str(os.stat(path).st_ino)
            durable = os.path.join(shadow, "files", inode)
            shutil.copy(path, durable)
            os.link(path, os.path.join(shadow, "live", inode))
            os.link(durable, os.path.join(there, name))
    with open(os.path.join(shadow, "synced"), "w", encoding="utf-8"):
        pass


def processes(data):
    """Return the processes of the server, which all work in the data directory."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/cwd") == os.path.realpath(data):
                found.append(int(name))
        except OSError:
            pass
    return found


def kill(data):
    """Kill all processes of the server, none of which may do anything when another one has gone."""
    killed = set()
    for number in (signal.SIGSTOP, signal.SIGSTOP, signal.SIGKILL):
        for pid in processes(data):
            killed.add(pid)
            send(pid, number)
    # the server does not start while a process with the number in one of its lock files exists
    while processes(data) or any(send(pid, 0) for pid in killed):
        time.sleep(0.01)


def send(pid, number):
    """Send a signal to a process; return whether it exists."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Disk:
    """What is on the disk when the power is cut."""

    def __init__(self, data, shadow, rng):
        self.data, self.shadow, self.rng = data, shadow, rng
        self.synced = os.stat(os.path.join(shadow, "synced")).st_mtime_ns

    def write(self, to, name=""):
        """Write the contents of a directory into another one."""
        live, durable = os.path.join(self.data, name), os.path.join(self.shadow, "names", name)
        there = {path: set(os.listdir(path)) if os.path.isdir(path) else set() for path in (live, durable)}
        is_durable = self.rng is None or self.rng.random() < 0.5
        names = there[live] if not is_durable else there[durable] | {
            entry for entry in there[live] - there[durable] if self.has_name(os.path.join(live, entry))}
        for entry in sorted(names):
            target, paths = os.path.join(to, entry), [os.path.join(path, entry) for path in (live, durable)]
            if any(map(os.path.isdir, paths)):
                os.mkdir(target, 0o700)
                self.write(target, os.path.join(name, entry))
            elif entry in there[durable] and (is_durable or self.is_same(*paths)):
                self.write_file(target, read(paths[1]), read(paths[0]) if entry in there[live] and self.is_same(*paths) else None)
            else:
                synced = self.synced_contents(paths[0])
                self.write_file(target, read(synced) if os.path.exists(synced) else b"", read(paths[0]))

    def has_name(self, path):
        """Whether an unsynced name is durable: the journal of the file system has it if anything was synced since."""
        return os.path.isdir(path) or os.stat(path).st_ctime_ns < self.synced

    def synced_contents(self, path):
        return os.path.join(self.shadow, "files", str(os.stat(path).st_ino))

    def is_same(self, live, durable):
        """Whether a name is still that of the same file."""
        synced = self.synced_contents(live)
        return os.path.exists(synced) and os.path.samefile(synced, durable)

    def write_file(self, target, old, new):
        """Write a file of which old was synced; new is what it had at last, if that is known."""
        content = old if self.rng is None or new in (None, old) else self.tear(old, new)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(content)

    def tear(self, old, new):
        """Return a mixture of two contents."""
        share, size = self.rng.choice([0, 0.5, 1]), len(self.rng.choice([old, new]))
        old, new = (content.ljust(size, b"\0")[:size] for content in (old, new))
        pieces = []
        for start in range(0, size, BLOCK):
            blocks = old[start:start + BLOCK], new[start:start + BLOCK]
            if blocks[0] == blocks[1]:
                pieces.append(blocks[0])
                continue
            for offset in range(0, len(blocks[0]), SECTOR):
                pieces.append(blocks[self.rng.random() < share][offset:offset + SECTOR])
        return b"".join(pieces)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def cut(data, shadow, tear=None):
    """Cut the power; tear is a seed, or None if nothing that was not synced survives."""
    kill(data)
    after = data.rstrip("/") + ".after"
    os.mkdir(after, 0o700)
    Disk(data, shadow, None if tear is None else random.Random(tear)).write(after)
    # a process that its parent has not waited for looks as if it were still running
    pathlib.Path(after, "postmaster.pid").unlink(missing_ok=True)
    shutil.rmtree(data)
    os.rename(after, data)
    format_disk(data, shadow)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("library")
    for name in ("format", "cut"):
        command = commands.add_parser(name)
        command.add_argument("data")
        command.add_argument("shadow")
    command.add_argument("--tear", type=int, metavar="SEED")
    options = parser.parse_args()
    if options.command == "build":
        build(options.library)
    elif options.command == "format":
        format_disk(options.data, options.shadow)
    else:
        cut(options.data, options.shadow, options.tear)


if __name__ == "__main__":
    main()
