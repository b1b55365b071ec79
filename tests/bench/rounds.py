"""Measuring: one server at a time, each of them started anew for every round."""

import concurrent.futures
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench import load, nginx
from tests.bench.process import Cpus, Process, started
from tests.bench.workloads import (
    DIRECT,
    GATEWAY,
    NGINX,
    PASSTHROUGH,
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
_PARTS = {SQLITE: ("json", "burst", "workers"), WORKERS: ("workers",)}


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
        targets = [GATEWAY, SQLITE, WORKERS, PASSTHROUGH]
        if nginx.binary():
            targets.append(NGINX)
        measured: Round = {}
        for target in targets[:: -1 if number % 2 else 1]:
            if target not in self.skipped:
                measured |= self._target(target)
        for workload in self.workloads:
            if workload.name == "first":
                measured[DIRECT, workload.name] = self._measure(workload, DIRECT, self.mock)
        return measured

    def _target(self, target: str) -> Round:
        measured: Round = {}
        for group in self._groups(target):
            try:
                measured |= self._group(target, group)
            except RuntimeError as exc:
                if target != WORKERS:
                    raise
                self.skipped[target] = str(exc).splitlines()[-1]
        return measured

    def _groups(self, target: str) -> list[list[Workload]]:
        """What one process after the other is asked for."""
        asked = [w for w in self.workloads if self._concerns(target, w)]
        together = [workload for workload in asked if not workload.fresh]
        alone = [[workload] for workload in asked if workload.fresh]
        return [group for group in (together, *alone) if group]

    def _concerns(self, target: str, workload: Workload) -> bool:
        if target in _PARTS:
            return workload.name in _PARTS[target]
        return workload.name != "workers"

    def _group(self, target: str, group: list[Workload]) -> Round:
        with started(*self._command(target), cpu=self.cpus.gateway) as process:
            self._measure(self.warm_up, target, process)
            return {
                (target, workload.name): self._measure(workload, target, process)
                for workload in group
            }

    def _command(self, target: str) -> list[str]:
        port = str(_port(self.mock))
        if target == PASSTHROUGH:
            return ["tests.bench.passthrough", port]
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
