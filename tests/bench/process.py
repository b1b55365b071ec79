"""Processes on a CPU of their own, and what they use of it."""

import functools
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.serving import ROOT, environment

_LISTENS = " listens on "


def announce(name: str, port: int) -> None:
    """Say where one listens, in the words of `oc-gateway run`."""
    print(f"{name}{_LISTENS}http://127.0.0.1:{port}", flush=True)


@dataclass(frozen=True, slots=True)
class Cpus:
    """Which CPU is whose; the same one if there is no other."""

    gateway: int
    load: int


@functools.cache
def allot() -> Cpus:
    """Move to the load's CPU, where what this process starts will be as well."""
    allowed = sorted(os.sched_getaffinity(0))
    cpus = Cpus(allowed[0], allowed[-1])
    os.sched_setaffinity(0, {cpus.load})
    return cpus


def allow_sockets() -> None:
    """As many as the system lets this process and its children have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def most_streams() -> int:
    """How many a proxy may have open: each is a connection on either side."""
    return (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100) // 2


@dataclass(frozen=True, slots=True)
class Process:
    """A running server: a process, and the children that it started with."""

    pids: tuple[int, ...]
    url: str

    def cpu(self) -> float:
        """Seconds on a CPU so far, by the scheduler's own count in nanoseconds."""
        tasks = (Path(f"/proc/{pid}/task").glob("*/schedstat") for pid in self.pids)
        return sum(int(task.read_text().split()[0]) for of in tasks for task in of) / 1e9

    def spread(self, cpus: Cpus) -> None:
        """Have its processes take turns at both CPUs."""
        for number, pid in enumerate(self.pids):
            pin(pid, cpus.load if number % 2 else cpus.gateway)

    def memory(self) -> int:
        """Resident bytes."""
        read = (Path(f"/proc/{pid}/statm").read_text() for pid in self.pids)
        return sum(int(text.split()[1]) for text in read) * resource.getpagesize()


def pin(pid: int, *cpus: int) -> None:
    """All its threads, to these."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)


def _family(pid: int) -> tuple[int, ...]:
    """The process and its children."""
    others = (int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat"))
    return pid, *(other for other in others if _parent(other) == pid)


def _parent(pid: int) -> int:
    try:
        # The name, in parentheses, may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


@contextmanager
def started(*args: str, cpu: int) -> Iterator[Process]:
    """`python -m` with these arguments, pinned to `cpu`, once it has said where it listens.

    Raises `RuntimeError` with what it wrote to standard error if it ends instead.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *args],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        try:
            os.sched_setaffinity(process.pid, {cpu})  # before it has any thread but this one
            url = _url(process, log)
            # A greeting that nobody reads would hold up what has a lot to say.
            reading = threading.Thread(target=_read_on, args=(process,))
            reading.start()
            yield Process(_family(process.pid), url)
        finally:
            _stop(process)


def _url(process: "subprocess.Popen[str]", log: IO[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if _LISTENS not in line:
        process.stdout.close()
        process.wait()
        log.seek(0)
        raise RuntimeError(f"{process.args!r} did not start: {log.read()}")
    return line.partition(_LISTENS)[2].strip()


def _read_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    with process.stdout as rest:
        for _ in rest:
            pass


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
