"""How long a start takes: to the first answered request, with the default configuration, and of
`--help`.

CPU is what the process used until then, and what a machine with other work does not lengthen much.
Modules are compiled before, as those of an installed package are.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from gateway.wire import json
from tests.bench.process import allot, started
from tests.serving import DEMO_KEY, ROOT, demo_config, environment

_CHAT = "/api/v2/agents/1/chat"


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds."""

    wall: float
    cpu: float


def first_answer(cpu: int) -> Took:
    """From the start of the process to an answer. Raises `RuntimeError` for a wrong one."""
    with tempfile.TemporaryDirectory() as folder:
        path = demo_config(Path(folder))
        path.write_text(path.read_text().replace("port = 8080", "port = 0"))
        began = time.perf_counter()
        with started("gateway", "run", "--config", str(path), cpu=cpu) as process:
            address = urlsplit(process.url)
            connection = HTTPConnection("127.0.0.1", address.port or 0)
            body = json.dumps({"message": "hi", "stream": False})
            connection.request("POST", _CHAT, body, {"Authorization": f"Bearer {DEMO_KEY}"})
            answer = connection.getresponse()
            answer.read()
            took = Took(time.perf_counter() - began, process.cpu())
            connection.close()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}")
    return took


def _program(*args: str) -> Callable[[int], Took]:
    """A run of Python with these arguments, to its end."""

    def run(cpu: int) -> Took:
        before, began = _children(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, *args],
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment(),
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
            check=True,
        )
        assert done.returncode == 0
        return Took(time.perf_counter() - began, _children() - before)

    return run


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_ROWS: dict[str, tuple[Callable[[int], Took], str]] = {
    "python -c pass": (_program("-c", "pass"), ""),
    "--help": (_program("-m", "gateway", "--help"), "CPU ≤ 0.2"),
    "run, to the first answer": (first_answer, "≤ 0.5"),
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="the table has their medians")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Always exit code 0: time is for people to judge."""
    with _compiled():
        _print_table(args.rounds)
    return 0


@contextmanager
def _compiled() -> Iterator[None]:
    """Whatever this process was told, Python keeps the modules that it has compiled: an installed
    package comes with them, and they are a quarter of the start of one that does not."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _print_table(rounds: int) -> None:
    cpus = allot()
    print("| | time, s | CPU, s | least CPU, s | budget |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (measure, budget) in _ROWS.items():
        measure(cpus.gateway)  # compiles, and reads from the disk what the others find in memory
        took = [measure(cpus.gateway) for _ in range(rounds)]
        cells = (
            median(one.wall for one in took),
            median(one.cpu for one in took),
            min(one.cpu for one in took),
        )
        print(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} | {budget} |")
