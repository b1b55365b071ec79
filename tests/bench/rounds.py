"""Measuring: one server at a time, each of them started anew for every round."""

import concurrent.futures
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench import load
from tests.bench.process import Cpus, Process, started
from tests.bench.workloads import DIRECT, GATEWAY, PASSTHROUGH, SQLITE, Workload, config, job

_SAMPLE_EVERY = 0.1

# Where conversations are, by target; and the workloads that say what it costs to keep them.
_STORES = {GATEWAY: "memory://", SQLITE: "sqlite:///bench.db"}
_STORED = ("json", "burst")


@dataclass(frozen=True, slots=True)
class Measured:
    """One workload on one server."""

    workload: Workload
    outcome: load.Outcome
    cpu: float
    """Seconds."""
    grown: int
    """Bytes, at the most."""


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

    def round(self, number: int) -> Round:
        """Everything once; who comes first alternates. Raises `WrongAnswer`."""
        measured: Round = {}
        for target in (GATEWAY, SQLITE, PASSTHROUGH)[:: -1 if number % 2 else 1]:
            measured |= self._target(target)
        for workload in self._named("first"):
            measured[DIRECT, workload.name] = self._measure(workload, DIRECT, self.mock)
        return measured

    def _target(self, target: str) -> Round:
        # Memory is measured in a process that has not grown yet.
        fresh = self._named("open")
        groups = [[w for w in self.workloads if w not in fresh], fresh]
        if target == SQLITE:
            groups = [[w for w in self.workloads if w.name in _STORED]]
        measured: Round = {}
        for group in filter(None, groups):
            with started(*self._command(target), cpu=self.cpus.gateway) as process:
                self._measure(self.warm_up, target, process)
                for workload in group:
                    measured[target, workload.name] = self._measure(workload, target, process)
        return measured

    def _command(self, target: str) -> list[str]:
        if target == PASSTHROUGH:
            return ["tests.bench.passthrough", self.mock.url]
        return ["gateway", "run", "--config", str(self.files[target])]

    def _measure(self, workload: Workload, target: str, process: Process) -> Measured:
        cpu, idle = process.cpu(), process.memory()
        asked = job(workload, target, urlsplit(process.url).port or 0)
        running, peak = self.client.submit(load.run, asked), idle
        while concurrent.futures.wait([running], _SAMPLE_EVERY).not_done:
            peak = max(peak, process.memory())
        measured = Measured(workload, running.result(), process.cpu() - cpu, peak - idle)
        if measured.outcome.wrong:
            raise WrongAnswer(f"{target}, {workload.name}: {measured.outcome.wrong[0]}")
        answers = measured.outcome.answers
        print(f"{target}, {workload.name}: {answers} answers, all right", file=sys.stderr)
        return measured

    def _named(self, name: str) -> list[Workload]:
        return [workload for workload in self.workloads if workload.name == name]


@contextmanager
def bench(cpus: Cpus, warm_up: Workload, workloads: list[Workload]) -> Iterator[Bench]:
    """With its mock and its client running."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        started("tests.bench.mock", cpu=cpus.load) as mock,
        ProcessPoolExecutor(1, context) as client,
    ):
        files = {target: Path(folder, f"{target}.toml") for target in _STORES}
        for target, file in files.items():
            file.write_text(config(mock.url, [warm_up, *workloads], _STORES[target]))
        yield Bench(cpus, files, mock, client, warm_up, workloads)
