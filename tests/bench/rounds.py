"""Measuring: one server at a time, each of them started anew for every round.

What one workload costs is asked of one server after the other: machines that are shared change from
one minute to the next, and ratios are what counts.
"""

import concurrent.futures
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench import load, nginx
from tests.bench.process import Cpus, Process, pin, started
from tests.bench.workloads import (
    DIRECT,
    GATEWAY,
    NGINX,
    PASSTHROUGH,
    PASSTHROUGHS,
    SQLITE,
    WORKERS,
    Workload,
    config,
    job,
)

_SAMPLE_EVERY = 0.1

# Where conversations are, by target, and how many workers there are.
_GATEWAYS = {
    GATEWAY: ("memory://", 1),
    SQLITE: ("sqlite:///bench.db", 1),
    WORKERS: ("sqlite:///workers.db", 2),
}

# The targets that are asked for a part of the workloads only.
_PARTS = {
    SQLITE: ("json", "burst", "workers"),
    WORKERS: ("workers",),
    PASSTHROUGHS: ("workers",),
}

# The targets that are asked for whatever is not a part.
_ALONE = (GATEWAY, NGINX)


@dataclass(frozen=True, slots=True)
class Measured:
    """One workload on one server. Times in seconds."""

    workload: Workload
    outcome: load.Outcome
    cpu: float
    grown: int
    """Bytes, at the most."""
    mock: float
    """CPU of the upstream."""

    @property
    def busy(self) -> float:
        """The share of its core that the server used."""
        return self.cpu / self.outcome.took

    @property
    def load_busy(self) -> float:
        """That of mock and client."""
        return (self.mock + self.outcome.cpu) / self.outcome.took


Round = dict[tuple[str, str], Measured]
"""By target and workload."""


class WrongAnswer(Exception):
    """Some answer was not what the upstream had said, so there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The mock and the client, which stay the same for all rounds."""

    cpus: Cpus
    files: dict[str, Path]
    """The gateway's configurations, by target."""
    mock: Process
    client: ProcessPoolExecutor
    warm_up: Workload
    workloads: list[Workload]
    skipped: dict[str, str] = field(default_factory=dict)
    """Why a target was left out."""

    def round(self, number: int) -> Round:
        """Everything once; who comes first alternates. Raises `WrongAnswer`."""
        targets = [GATEWAY, SQLITE, WORKERS, PASSTHROUGH, PASSTHROUGHS]
        if nginx.binary():
            targets.append(NGINX)
        targets = [t for t in targets if any(_concerns(t, w) for w in self.workloads)]
        targets = targets[:: -1 if number % 2 else 1]
        together = [workload for workload in self.workloads if not workload.fresh]
        alone = [[workload] for workload in self.workloads if workload.fresh]
        measured: Round = {}
        for group in (together, *alone):
            measured |= self._group(targets, group)
        for workload in self.workloads:
            if workload.name == "first":
                measured[DIRECT, workload.name] = self._measure(workload, DIRECT, self.mock)
        return measured

    def _group(self, targets: list[str], group: list[Workload]) -> Round:
        """What one process of each is asked for."""
        measured: Round = {}
        with ExitStack() as stack:
            running = {}
            for target in targets:
                if any(_concerns(target, workload) for workload in group):
                    running[target] = stack.enter_context(self._started(target))
            for workload in group:
                with self._load_everywhere() if workload.name == "workers" else nullcontext():
                    for target, process in running.items():
                        if process is not None and _concerns(target, workload):
                            measured[target, workload.name] = self._measure(
                                workload, target, process
                            )
        return measured

    @contextmanager
    def _load_everywhere(self) -> Iterator[None]:
        """Two workers have a CPU each, as anybody would run them, so mock and client have both."""
        loads = *self.mock.pids, self.client.submit(os.getpid).result()
        for pid in loads:
            pin(pid, self.cpus.gateway, self.cpus.load)
        try:
            yield
        finally:
            for pid in loads:
                pin(pid, self.cpus.load)

    @contextmanager
    def _started(self, target: str) -> Iterator[Process | None]:
        """None: there can be no workers here."""
        if target in self.skipped:
            yield None
            return
        with ExitStack() as stack:
            try:
                command = started(*self._command(target), cpu=self.cpus.gateway)
                process = stack.enter_context(command)
            except RuntimeError as exc:
                if target != WORKERS:
                    raise
                self.skipped[target] = str(exc).splitlines()[-1]
                yield None
                return
            if target in (WORKERS, PASSTHROUGHS):
                process.spread(self.cpus)
            self._measure(self.warm_up, target, process)
            yield process

    def _command(self, target: str) -> list[str]:
        port = str(_port(self.mock))
        if target in (PASSTHROUGH, PASSTHROUGHS):
            return ["tests.bench.passthrough", port, "2" if target == PASSTHROUGHS else "1"]
        if target == NGINX:
            return ["tests.bench.nginx", port]
        return ["gateway", "run", "--config", str(self.files[target])]

    def _measure(self, workload: Workload, target: str, process: Process) -> Measured:
        cpu, mock, idle = process.cpu(), self.mock.cpu(), process.memory()
        running = self.client.submit(load.run, job(workload, target, _port(process)))
        peak = idle
        while concurrent.futures.wait([running], _SAMPLE_EVERY).not_done:
            peak = max(peak, process.memory())
        measured = Measured(
            workload, running.result(), process.cpu() - cpu, peak - idle, self.mock.cpu() - mock
        )
        _check(measured, target)
        return measured


def _concerns(target: str, workload: Workload) -> bool:
    if target in _PARTS:
        return workload.name in _PARTS[target]
    return workload.name != "workers" or target not in _ALONE


def _port(process: Process) -> int:
    return urlsplit(process.url).port or 0


def _check(measured: Measured, target: str) -> None:
    workload, outcome = measured.workload, measured.outcome
    # How many of a crowd are lost is what is measured.
    if outcome.wrong and not workload.name.startswith("crowd"):
        raise WrongAnswer(f"{target}, {workload.name}: {outcome.wrong[0]}")
    right = f"{outcome.lost} lost: {outcome.wrong[0]}" if outcome.wrong else "all right"
    print(f"{target}, {workload.name}: {outcome.answers} answers, {right}", file=sys.stderr)


@contextmanager
def bench(cpus: Cpus, warm_up: Workload, workloads: list[Workload]) -> Iterator[Bench]:
    """With its mock and its client running."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        started("tests.bench.mock", cpu=cpus.load) as mock,
        ProcessPoolExecutor(1, context) as client,
    ):
        files = {target: Path(folder, f"{number}.toml") for number, target in enumerate(_GATEWAYS)}
        for target, file in files.items():
            store, workers = _GATEWAYS[target]
            file.write_text(config(_port(mock), [warm_up, *workloads], store, workers))
        yield Bench(cpus, files, mock, client, warm_up, workloads)
