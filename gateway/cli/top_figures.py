"""Rates and quantiles from two scrapes of a gateway's metrics, as Prometheus computes them."""

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

_PREFIX = "oc_gateway_"

# The label of a bucket's upper bound.
_BOUND = "le"

Labels = tuple[tuple[str, str], ...]
"""In the order of their names."""

Values = tuple[str, ...]
"""Of some labels, in the order in which they were asked for."""


class Scrape(Struct, frozen=True):
    """What was read at one moment, in monotonic seconds."""

    at: float
    families: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str) -> float:
        """Now, of all series of this name."""
        return sum(self.families.get(name, {}).values())


def read(text: str, names: Iterable[str], at: float) -> Scrape:
    """Only the series of these names, which begin behind `oc_gateway_`: a scrape may have ten
    thousand others."""
    wanted = tuple(f"{_PREFIX}{name}" for name in names)
    lines = "".join(line for line in text.splitlines(keepends=True) if line.startswith(wanted))
    families: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(lines):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            families[sample.name.removeprefix(_PREFIX)][labels] = sample.value
    return Scrape(at, families)


class Span(Struct, frozen=True):
    """What happened between two scrapes of one process."""

    before: Scrape
    after: Scrape

    @property
    def seconds(self) -> float:
        return self.after.at - self.before.at

    def rates(self, name: str, *by: str) -> dict[Values, float]:
        """A second, by the values of these labels; what stood still is left out, as all is where no
        time has gone by."""
        sums: defaultdict[Values, float] = defaultdict(float)
        for labels, grown in self._grown(name):
            sums[_values(labels, by)] += grown
        seconds = self.seconds
        return {at: grown / seconds for at, grown in sums.items() if grown and seconds > 0}

    def rate(self, name: str) -> float:
        """The same of all series together."""
        return self.rates(name).get((), 0.0)

    def quantiles(self, shares: Sequence[float], name: str, *by: str) -> dict[Values, list[float]]:
        """Of what was measured meanwhile, one for each share; where nothing was, none."""
        counts: defaultdict[Values, defaultdict[float, float]]
        counts = defaultdict(lambda: defaultdict(float))
        for labels, grown in self._grown(f"{name}_bucket"):
            counts[_values(labels, by)][float(labels[_BOUND])] += grown
        ordered = {at: sorted(of.items()) for at, of in counts.items()}
        return {
            at: [quantile(share, buckets) for share in shares]
            for at, buckets in ordered.items()
            if buckets[-1][1]
        }

    def _grown(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        before = self.before.families.get(name, {})
        for labels, value in self.after.families.get(name, {}).items():
            yield dict(labels), increase(before.get(labels), value)


def _values(labels: Mapping[str, str], by: Iterable[str]) -> Values:
    return tuple(labels.get(label, "") for label in by)


def increase(before: float | None, after: float) -> float:
    """How much a counter has grown: one that was not there, or has become less, began anew."""
    return after if before is None or after < before else after - before


def quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float:
    """What this share of the observations is not above, by the buckets' upper bounds and cumulative
    counts, the last of which is that of all. Within a bucket they are taken as spread evenly; of
    those above the last finite bound, that bound is all there is to say."""
    rank, lower, below = share * buckets[-1][1], 0.0, 0.0
    for upper, count in buckets:
        if count >= rank:
            if math.isinf(upper):
                break
            return lower + (upper - lower) * (rank - below) / ((count - below) or 1.0)
        lower, below = upper, count
    return lower


class History:
    """The scrapes of the last while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scrapes: deque[Scrape] = deque()
        self._process = ""

    def add(self, scrape: Scrape, process: str) -> None:
        """One more; those of another process, which counted from its own beginning, are
        forgotten."""
        if process != self._process:
            self._scrapes.clear()
            self._process = process
        self._scrapes.append(scrape)
        # One that is older stays: it is where the span begins.
        while len(self._scrapes) > 2 and self._scrapes[1].at <= scrape.at - self._seconds:
            self._scrapes.popleft()

    def last(self, seconds: float) -> Span:
        """The span of so many seconds, or of what there is; at least that between the last two
        scrapes."""
        after = self._scrapes[-1]
        earlier = [each for each in self._scrapes if each.at < after.at]
        enough = [each for each in earlier if each.at <= after.at - seconds]
        before = (enough[-1:] or earlier[:1] or [after])[0]
        return Span(before, after)
