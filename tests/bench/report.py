"""The rounds as a Markdown table."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from tests.bench.process import Cpus
from tests.bench.rounds import Measured, Round
from tests.bench.workloads import DIRECT, GATEWAY, PASSTHROUGH, SQLITE

# The pass-through does not change, so what it varies by is the machine's doing.
_NOISY = 0.15


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. `of` reads a server's run, or what it adds to the direct one."""

    workload: str
    name: str
    of: Callable[[Measured], float]
    added: bool = False

    def values(self, rounds: Sequence[Round], target: str) -> list[float]:
        """One per round."""
        values = [self.of(one[target, self.workload]) for one in rounds]
        if not self.added:
            return values
        direct = [self.of(one[DIRECT, self.workload]) for one in rounds]
        return [value - base for value, base in zip(values, direct, strict=True)]


def per_answer(measured: Measured) -> float:
    """Microseconds of CPU."""
    return measured.cpu * 1e6 / measured.outcome.answers


def per_token(measured: Measured) -> float:
    """Microseconds of CPU; the stream's head and end are shared among its tokens."""
    return per_answer(measured) / measured.workload.tokens


def per_stream(measured: Measured) -> float:
    """KiB; each connection is one stream."""
    return measured.grown / 1024 / measured.workload.connections


def first_token(percent: int) -> Callable[[Measured], float]:
    """Milliseconds, at this percentile."""

    def read(measured: Measured) -> float:
        times = sorted(measured.outcome.first_tokens)
        return 1000 * times[len(times) * percent // 100]

    return read


FIGURES = (
    Figure("json", "CPU per request, µs", per_answer),
    Figure("burst", "CPU per event, µs", per_token),
    Figure("paced", "CPU per event, µs", per_token),
    Figure("open", "memory per stream, KiB", per_stream),
    Figure("first", "added to the first token, p50, ms", first_token(50), added=True),
    Figure("first", "added to the first token, p99, ms", first_token(99), added=True),
)


def machine(cpus: Cpus) -> str:
    """What it ran on, in a line."""
    shared = " (shared: the figures say little)" if cpus.gateway == cpus.load else ""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs; the gateway on "
        f"CPU {cpus.gateway}, mock and client on CPU {cpus.load}{shared}; "
        f"Python {platform.python_version()}, aiohttp {version('aiohttp')}, "
        f"uvloop {version('uvloop')}; load average {os.getloadavg()[0]:.2f} before the first round"
    )


def table(rounds: Sequence[Round]) -> str:
    """Medians over the rounds, the ratio that of each round's own ratios."""
    rows = [
        f"| workload | figure | this build | {PASSTHROUGH} | ratio | spread of the ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    known = {workload for one in rounds for _, workload in one}
    notes: list[str] = []
    for figure in FIGURES:
        if figure.workload in known:
            ours, theirs = figure.values(rounds, GATEWAY), figure.values(rounds, PASSTHROUGH)
            rows.append(_row(figure, ours, theirs))
            notes += _noise(figure, theirs)
    return "\n".join([*rows, *notes])


def store_table(rounds: Sequence[Round]) -> str:
    """What it costs to keep conversations in SQLite: the CPU that a turn takes more, and its rate
    beside that with conversations in memory. Medians."""
    rows = [
        "| workload | CPU per turn in memory, µs | in SQLite | more | rate |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    known = {workload for one in rounds for target, workload in one if target == SQLITE}
    for workload in sorted(known):
        pairs = [(one[GATEWAY, workload], one[SQLITE, workload]) for one in rounds]
        memory = median(per_answer(without) for without, _ in pairs)
        kept = median(per_answer(stored) for _, stored in pairs)
        more = median(per_answer(stored) - per_answer(without) for without, stored in pairs)
        rate = median(stored.outcome.answers / without.outcome.answers for without, stored in pairs)
        rows.append(f"| {workload} | {memory:.0f} | {kept:.0f} | {more:.0f} | {rate:.0%} |")
    return "\n".join(rows) if known else ""


def spread(values: Sequence[float]) -> float:
    """From the least to the greatest, as a part of the median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle > 0 else 0.0


def _row(figure: Figure, ours: list[float], theirs: list[float]) -> str:
    cells = [figure.workload, figure.name, f"{median(ours):.2f}", f"{median(theirs):.2f}"]
    # A run of a few requests may add nothing that can be measured.
    if min(theirs) > 0:
        ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
        cells += [f"{median(ratios):.2f}", f"{spread(ratios):.0%}"]
    else:
        cells += ["-", "-"]
    return f"| {' | '.join(cells)} |"


def _noise(figure: Figure, theirs: list[float]) -> list[str]:
    if spread(theirs) <= _NOISY:
        return []
    what = f"{figure.workload}, {figure.name}"
    return [f"\nNoisy: {what}: the {PASSTHROUGH} itself varied by {spread(theirs):.0%}."]
