"""The rounds as Markdown tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.rounds import Measured, Round
from tests.bench.workloads import (
    DIRECT,
    GATEWAY,
    NAMES,
    NGINX,
    PASSTHROUGH,
    PASSTHROUGHS,
    SQLITE,
    WORKERS,
)

_PAIRS = (
    ("workers of this build", SQLITE, WORKERS, "≤ 1.1x"),
    ("pass-throughs", PASSTHROUGH, PASSTHROUGHS, ""),
)

# The pass-through does not change, so what it varies by is the machine's doing.
_NOISY = 0.15

# A load that is busier than this delays what it measures; CPU of the server stays right.
_BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. `of` reads a server's run, or what it adds to the direct one."""

    workload: str
    name: str
    of: Callable[[Measured], float]
    budget: float | None = None
    relative: bool = True
    """Whether the budget is a multiple of the pass-through's figure."""
    added: bool = False

    def values(self, rounds: Sequence[Round], target: str) -> list[float]:
        """One per round; none if the target was not there."""
        runs = [one.get((target, self.workload)) for one in rounds]
        values = [self.of(run) for run in runs if run is not None]
        if not self.added:
            return values
        direct = [self.of(one[DIRECT, self.workload]) for one in rounds]
        return [value - base for value, base in zip(values, direct, strict=bool(values))]

    def told(self) -> str:
        """The budget, as a cell."""
        if self.budget is None:
            return ""
        return f"≤ {self.budget:g}{'x' if self.relative else ''}"


def per_answer(measured: Measured) -> float:
    """Microseconds of CPU."""
    return measured.cpu * 1e6 / max(measured.outcome.answers, 1)


def per_token(measured: Measured) -> float:
    """Microseconds of CPU; the stream's head and end are shared among its tokens."""
    return per_answer(measured) / measured.workload.tokens


def per_connection(measured: Measured) -> float:
    """KiB; each is one stream, or idle."""
    return measured.grown / 1024 / measured.workload.connections


def lost(measured: Measured) -> float:
    """Streams."""
    return measured.outcome.lost


def first_token(percent: int) -> Callable[[Measured], float]:
    """Milliseconds, at this percentile."""

    def read(measured: Measured) -> float:
        times = sorted(measured.outcome.first_tokens)
        return 1000 * times[len(times) * percent // 100] if times else 0.0

    return read


FIGURES = (
    Figure("json", "CPU per request, µs", per_answer, 0.8),
    Figure("burst", "CPU per event, µs", per_token, 1.1),
    Figure("paced", "CPU per event, µs", per_token, 0.8),
    Figure("first", "first token, added, p50, ms", first_token(50), 0.8, False, added=True),
    Figure("first", "first token, added, p99, ms", first_token(99), 2.0, False, added=True),
    Figure("open", "memory per stream, KiB", per_connection, 25, relative=False),
    Figure("idle", "memory per idle connection, KiB", per_connection),
    Figure("crowd-5000", "streams lost", lost, 0, relative=False),
    Figure("crowd-5000", "first token, p99, ms", first_token(99)),
    Figure("crowd-10000", "streams lost", lost, 0, relative=False),
    Figure("crowd-10000", "first token, p99, ms", first_token(99)),
)


def table(rounds: Sequence[Round]) -> str:
    """Medians over the rounds, the ratios those of each round's own ratios."""
    rows = [
        "| workload | figure | this build | pass-through | nginx | **ratio** | budget | spread |"
        " to nginx | pass-through to nginx |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    known = {workload for one in rounds for _, workload in one}
    figures = [figure for figure in FIGURES if figure.workload in known]
    rows += [_row(figure, rounds) for figure in figures]
    notes = [note for figure in figures for note in _noise(figure, rounds)]
    return "\n".join([*rows, *notes])


def spread(values: Sequence[float]) -> float:
    """From the least to the greatest, as a part of the median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle > 0 else 0.0


def _row(figure: Figure, rounds: Sequence[Round]) -> str:
    ours, theirs, least = (figure.values(rounds, of) for of in (GATEWAY, PASSTHROUGH, NGINX))
    ratios = _ratios(ours, theirs)
    cells = [
        figure.workload,
        figure.name,
        *(f"{median(values):.2f}" if values else "-" for values in (ours, theirs, least)),
        _ratio(ratios),
        figure.told(),
        f"{spread(ratios):.0%}" if ratios else "-",
        _ratio(_ratios(ours, least)),
        _ratio(_ratios(theirs, least)),
    ]
    return f"| {' | '.join(cells)} |"


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    # A run of a few requests may add nothing that can be measured.
    if not theirs or min(theirs) <= 0:
        return []
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def _ratio(ratios: list[float]) -> str:
    return f"{median(ratios):.2f}" if ratios else "-"


def _noise(figure: Figure, rounds: Sequence[Round]) -> list[str]:
    theirs = figure.values(rounds, PASSTHROUGH)
    if spread(theirs) <= _NOISY:
        return []
    what = f"{figure.workload}, {figure.name}"
    return [f"\nNoisy: {what}: the {PASSTHROUGH} itself varied by {spread(theirs):.0%}."]


def store_table(rounds: Sequence[Round]) -> str:
    """What it costs to keep conversations in SQLite: the CPU that a turn takes more, and its rate
    beside that with conversations in memory. Medians."""
    rows = [
        "| workload | CPU per turn in memory, µs | in SQLite | more | rate |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    known = {workload for one in rounds for target, workload in one if target == SQLITE}
    known -= {"workers"}
    for workload in sorted(known):
        pairs = [(one[GATEWAY, workload], one[SQLITE, workload]) for one in rounds]
        memory = median(per_answer(without) for without, _ in pairs)
        kept = median(per_answer(stored) for _, stored in pairs)
        more = median(per_answer(stored) - per_answer(without) for without, stored in pairs)
        rate = median(stored.outcome.answers / without.outcome.answers for without, stored in pairs)
        rows.append(f"| {workload} | {memory:.0f} | {kept:.0f} | {more:.0f} | {rate:.0%} |")
    return "\n".join(rows) if known else ""


def workers_table(rounds: Sequence[Round], why_not: str) -> str:
    """Two workers beside one, each on a CPU that mock and client use as well, with requests that
    no conversation is kept of; and two pass-throughs, for what this is worth on this machine."""
    rows = [
        "| CPU per request, µs | by one | by two | **ratio** | budget | spread |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, alone, both, budget in _PAIRS:
        pairs = [
            (one[alone, "workers"], one[both, "workers"])
            for one in rounds
            if (both, "workers") in one
        ]
        if pairs:
            ratios = [per_answer(two) / per_answer(one) for one, two in pairs]
            one, two = (median(per_answer(pair[at]) for pair in pairs) for at in (0, 1))
            figures = f"{one:.2f} | {two:.2f} | {median(ratios):.2f}"
            rows.append(f"| {name} | {figures} | {budget} | {spread(ratios):.0%} |")
    if why_not:
        rows.append(f"\nNo row for two workers: {why_not}")
    return "\n".join(rows) if len(rows) > 2 else ""


def load_table(rounds: Sequence[Round]) -> str:
    """How much of their CPUs servers and load used. CPU per request is the server's own, whatever
    the load is; times are right only where the load had some CPU left."""
    known = {workload for one in rounds for _, workload in one}
    names = [name for name in NAMES if name in known]
    targets = [DIRECT, GATEWAY, PASSTHROUGH, NGINX]
    rows = [f"| workload | {' | '.join(targets)} |", f"| --- {'| ---: ' * len(targets)}|"]
    notes: list[str] = []
    for name in names:
        runs = {of: [one[of, name] for one in rounds if (of, name) in one] for of in targets}
        if not runs[GATEWAY]:
            continue
        rows.append(f"| {name} | {' | '.join(_shares(runs[of]) for of in targets)} |")
        times = any(f.workload == name and "first token" in f.name for f in FIGURES)
        if times and any(run.load_busy > _BUSY for of in targets for run in runs[of]):
            notes.append(f"\nThe load itself was busy in {name}: its times are too long.")
    return "\n".join([*rows, *notes])


def _shares(runs: Sequence[Measured]) -> str:
    if not runs:
        return "-"
    return f"{median(r.busy for r in runs):.0%} / {median(r.load_busy for r in runs):.0%}"
