"""What collectors read when Prometheus asks: here, and in workers that have sent it.

Gauges of several processes become one as `families.py` says. Counters add up, and what a worker had
counted stays when it has ended.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.observe.families import ACROSS_WORKERS, WORST_STATE

Labels = tuple[str, ...]


class Reading(NamedTuple):
    """A family, as it was read: a gauge or a counter."""

    type: str
    says: str
    labels: Labels
    values: dict[Labels, float]


class Readings(Collector):
    """The collectors of one registry, and what workers have read with theirs. It is registered as
    well, for what none of its own reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._own: list[_Own] = []
        self._workers: dict[str, dict[str, Reading]] = {}
        self._known: dict[str, Reading] = {}
        """The families that workers have ever had, without their values."""
        self._counted: dict[str, dict[Labels, float]] = {}
        """By counter, what all workers have counted, those that have ended as well."""

    def add(self, collector: Collector) -> None:
        """Register a collector of gauges and counters. It only looks, for it is asked in a
        thread."""
        own = _Own(collector, self)
        self._registry.register(own)
        self._own.append(own)

    def take(self) -> list[Any]:
        """What is so now, as JSON for `absorb` in another process."""
        return [
            [name, *reading[:3], [[labels, value] for labels, value in reading.values.items()]]
            for own in self._own
            for name, reading in own.read()
        ]

    def absorb(self, worker: str, taken: list[Any]) -> None:
        """In place of what was known of the worker."""
        known = self._workers.get(worker, {})
        readings = {
            name: Reading(kind, says, tuple(labels), {tuple(at): value for at, value in values})
            for name, kind, says, labels, values in taken
        }
        for name, reading in readings.items():
            self._known[name] = reading._replace(values={})
            if reading.type == "counter":
                before = known[name].values if name in known else {}
                self._count(name, reading.values, before)
        self._workers[worker] = readings

    def forget(self, worker: str) -> None:
        self._workers.pop(worker, None)

    def describe(self) -> list[Metric]:
        """Not known before workers report."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families that nothing reads here."""
        own = {name for own in self._own for name in own.names}
        for name, reading in self._known.copy().items():
            if name not in own:
                yield self.with_workers(name, reading)

    def with_workers(self, name: str, own: Reading) -> Metric:
        """One family, of all processes."""
        readings = [each[name] for each in self._workers.copy().values() if name in each]
        readings = [own, *(reading for reading in readings if reading.type == own.type)]
        labels = next((reading.labels for reading in readings if reading.labels), ())
        if own.type == "counter":
            counted = self._counted.get(name, {}).copy()
            counter = CounterMetricFamily(name, own.says, labels=labels)
            for at in own.values | counted:
                counter.add_metric(at, own.values.get(at, 0) + counted.get(at, 0))
            return counter
        gauge = GaugeMetricFamily(name, own.says, labels=labels)
        for at, value in _merged(name, labels, readings).items():
            gauge.add_metric(at, value)
        return gauge

    def _count(
        self, name: str, values: Mapping[Labels, float], before: Mapping[Labels, float]
    ) -> None:
        counted = self._counted.setdefault(name, {})
        for labels, value in values.items():
            old = before.get(labels, 0)
            # A target that a reload has taken away and brought back begins anew.
            more = value - old if value >= old else value
            counted[labels] = counted.get(labels, 0) + more


class _Own(Collector):
    """A collector of this process, whose families show those of workers as well."""

    def __init__(self, collector: Collector, readings: Readings) -> None:
        self._collector = collector
        self._readings = readings
        self._described = list(getattr(collector, "describe", collector.collect)())
        self.names = {family.name for family in self._described}

    def describe(self) -> list[Metric]:
        return self._described

    def collect(self) -> list[Metric]:
        with_workers = self._readings.with_workers
        return [with_workers(name, reading) for name, reading in self.read()]

    def read(self) -> Iterator[tuple[str, Reading]]:
        for family in self._collector.collect():
            labels = tuple(family.samples[0].labels) if family.samples else ()
            values = {tuple(sample.labels.values()): sample.value for sample in family.samples}
            yield family.name, Reading(family.type, family.documentation, labels, values)


def _merged(name: str, labels: Labels, readings: Sequence[Reading]) -> dict[Labels, float]:
    values: dict[Labels, list[float]] = {}
    for reading in readings:
        for at, value in reading.values.items():
            values.setdefault(at, []).append(value)
    merge = max if name in WORST_STATE else ACROSS_WORKERS.get(name, sum)
    merged = {at: merge(each) for at, each in values.items()}
    if name in WORST_STATE:
        _only_the_worst(merged, labels, *WORST_STATE[name])
    return merged


def _only_the_worst(
    values: dict[Labels, float], labels: Labels, label: str, worst_first: Sequence[str]
) -> None:
    """Of several states that are 1, set all to 0 but one."""
    place = labels.index(label)
    found: dict[Labels, str] = {}
    for state in worst_first:
        for at in values:
            if at[place] == state and values[at]:
                other = at[:place] + at[place + 1 :]
                values[at] = found.setdefault(other, state) == state
