"""Processes on a CPU of their own, and what they use of it."""

import os
import resource
import subprocess
import sys
import tempfile
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


def allot() -> Cpus:
    """Move to the load's CPU, where what this process starts will be as well."""
    allowed = sorted(os.sched_getaffinity(0))
    cpus = Cpus(allowed[0], allowed[-1])
    os.sched_setaffinity(0, {cpus.load})
    return cpus


def allow_sockets() -> None:
    """As many as the system lets us have: a thousand streams are two thousand."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclass(frozen=True, slots=True)
class Process:
    """A running server."""

    pid: int
    url: str

    def cpu(self) -> float:
        """Seconds on a CPU so far, by the scheduler's own count in nanoseconds."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()


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
            yield Process(process.pid, _url(process, log))
        finally:
            _stop(process)


def _url(process: "subprocess.Popen[str]", log: IO[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if _LISTENS not in line:
        process.wait()
        log.seek(0)
        raise RuntimeError(f"{process.args!r} did not start: {log.read()}")
    return line.partition(_LISTENS)[2].strip()


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
