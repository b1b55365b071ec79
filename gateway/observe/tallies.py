"""What is counted, as plain numbers, and the families that show them to Prometheus.

The event loop alone counts, so there are no locks. A scrape reads in a thread of its own, and
copies in one step whatever it goes through. The metrics of several processes can be added up: a
family's figures are sums since the start, and `absorb` adds what is new in a worker's to its own.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]

Figure = Any
"""What a series has come to, as JSON: a number, or a histogram's counts, sum and exemplars."""

Merge = Callable[[Sequence[float]], float]

Noted = tuple[dict[str, str], float, float]
"""An exemplar: its labels, its value, and when it was, in Unix seconds."""

Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class Tally:
    """One series that is a number: add to its `value`, or set it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """One series of a histogram."""

    __slots__ = ("_bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Not cumulative."""
        self.sum: float = 0
        self.exemplars: dict[int, Noted] = {}
        """By bucket, the last that it has had."""

    def observe(self, value: float, exemplar: dict[str, str] | None = None) -> None:
        index = bisect_left(self._bounds, value)
        self.counts[index] += 1
        self.sum += value
        if exemplar:
            self.exemplars[index] = exemplar, value, time.time()


Series = TypeVar("Series", Tally, Histogram)


class Family(Collector, Generic[Series]):
    """A name, and its series by their labels: each is made when it is asked for first."""

    def __init__(
        self, name: str, says: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self.name = name
        self._says = says
        self._labels = labels
        self._series: dict[Labels, Series] = {}
        self._workers: dict[str, dict[Labels, Figure]] = {}
        """What is known of each."""
        registry.register(self)

    def at(self, *labels: str) -> Series:
        """The series with these labels, which have to be bounded."""
        if (series := self._series.get(labels)) is None:
            # Members of enumerations are shown and reported as what they are worth.
            series = self._series[tuple(map(str, labels))] = self._new()
        return series

    def describe(self) -> list[Metric]:
        """The family without its series, for the registry."""
        raise NotImplementedError

    def collect(self) -> list[Metric]:
        raise NotImplementedError

    def figures(self) -> dict[Labels, Figure]:
        """What each series has come to."""
        return {labels: self._figure(series) for labels, series in self._series.copy().items()}

    def absorb(self, worker: str, labels: Sequence[str], figure: Figure) -> None:
        """What a series of a worker's has come to. One that does not fit is left out."""
        if len(labels) == len(self._labels):
            self._take(self._workers.setdefault(worker, {}), tuple(labels), figure)

    def forget(self, worker: str) -> None:
        """Its figures begin anew."""
        self._workers.pop(worker, None)

    def _new(self) -> Series:
        raise NotImplementedError

    def _figure(self, series: Series) -> Figure:
        raise NotImplementedError

    def _take(self, known: dict[Labels, Figure], labels: Labels, figure: Figure) -> None:
        raise NotImplementedError


class _Numbers(Family[Tally]):
    def _new(self) -> Tally:
        return Tally()

    def _figure(self, series: Tally) -> Figure:
        return series.value


class Counters(_Numbers):
    """`name` is without `_total`."""

    def describe(self) -> list[Metric]:
        return [self._empty()]

    def collect(self) -> list[Metric]:
        family = self._empty()
        for labels, series in self._series.copy().items():
            family.add_metric(labels, series.value)
        return [family]

    def _empty(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.name, self._says, labels=self._labels)

    def _take(self, known: dict[Labels, Figure], labels: Labels, figure: Figure) -> None:
        series, before = self.at(*labels), known.get(labels, 0)
        # A report that comes late knows less.
        if figure > before:
            series.value += figure - before
            known[labels] = figure


class Gauges(_Numbers):
    """With workers, one figure is made of all of theirs."""

    def __init__(
        self,
        name: str,
        says: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        merge: Merge = sum,
    ) -> None:
        super().__init__(name, says, labels, registry)
        self._merge = merge

    def describe(self) -> list[Metric]:
        return [self._empty()]

    def collect(self) -> list[Metric]:
        family = self._empty()
        for labels, values in self._values().items():
            family.add_metric(labels, self._merge(values))
        return [family]

    def _values(self) -> Mapping[Labels, list[float]]:
        values: dict[Labels, list[float]] = {}
        for figures in self._workers.copy().values():
            for labels, figure in figures.copy().items():
                values.setdefault(labels, []).append(figure)
        for labels, series in self._series.copy().items():
            # The least of the workers' is theirs alone: what a supervisor has is of its start.
            if self._merge is not min or labels not in values:
                values.setdefault(labels, []).append(series.value)
        return values

    def _empty(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self._says, labels=self._labels)

    def _take(self, known: dict[Labels, Figure], labels: Labels, figure: Figure) -> None:
        known[labels] = figure


class Histograms(Family[Histogram]):
    """`bounds` are the upper ones of the buckets, in order; the last bucket has none."""

    def __init__(
        self,
        name: str,
        says: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        bounds: Sequence[float],
    ) -> None:
        super().__init__(name, says, labels, registry)
        self._bounds = tuple(float(bound) for bound in bounds)
        self._names = [floatToGoString(bound) for bound in (*self._bounds, float("inf"))]

    def describe(self) -> list[Metric]:
        return [self._empty()]

    def collect(self) -> list[Metric]:
        family = self._empty()
        for labels, series in self._series.copy().items():
            # The sum first: with what comes meanwhile it is rather behind its count than ahead.
            total = series.sum
            family.add_metric(labels, list(self._buckets(series)), total)
        return [family]

    def _buckets(self, series: Histogram) -> Iterator[Bucket]:
        exemplars, seen = series.exemplars.copy(), 0
        for index, count in enumerate(series.counts.copy()):
            seen += count
            if index in exemplars:
                yield self._names[index], seen, Exemplar(*exemplars[index])
            else:
                yield self._names[index], seen

    def _empty(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self._says, labels=self._labels)

    def _new(self) -> Histogram:
        return Histogram(self._bounds)

    def _figure(self, series: Histogram) -> Figure:
        total = series.sum
        shown = [[index, *exemplar] for index, exemplar in series.exemplars.copy().items()]
        return [series.counts.copy(), total, shown]

    def _take(self, known: dict[Labels, Figure], labels: Labels, figure: Figure) -> None:
        counts, total, exemplars = figure
        if len(counts) != len(self._names):
            return
        series = self.at(*labels)
        old, before, _ = known.get(labels, ([0] * len(counts), 0, ()))
        if total >= before and sum(counts) >= sum(old):
            # A new list at once: a scrape may be at the old one.
            series.counts = [
                own + new - known
                for own, new, known in zip(series.counts, counts, old, strict=True)
            ]
            series.sum += total - before
            known[labels] = figure
        _keep_latest(series.exemplars, exemplars)


def _keep_latest(kept: dict[int, Noted], exemplars: list[list[Any]]) -> None:
    for index, labels, value, at in exemplars:
        if index not in kept or at > kept[index][2]:
            kept[index] = labels, value, at
