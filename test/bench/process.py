"""The time that a process has used."""

import os


def cpu_seconds(pid):
    """Return the CPU time that a process has used, by ticks of the clock."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_seconds(pid):
    """Return the same to the nanosecond, of its main thread, where the kernel counts it."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9
