"""The series that one request is counted in, looked up once for each combination of labels.

A combination is kept as long as the process lives. There are no more of them than series of the
family that has all of their labels. Those that not every request has something for are made when
one does: a series that nothing was counted in would say that it was nothing.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from gateway.observe.tallies import Counters, Histogram, Histograms, Tally


class Families(NamedTuple):
    """The gateway's own, by the names that `families.py` has for them."""

    counters: Mapping[str, Counters]
    histograms: Mapping[str, Histograms]


class RequestSeries:
    """Of every request."""

    def __init__(self, families: Families, dialect: str, agent: str, status: int) -> None:
        self.requests = families.counters["requests"].at(dialect, agent, str(status))
        self.duration = families.histograms["request_duration_seconds"].at(dialect, agent)


class KeySeries:
    """Of those whose key is known."""

    def __init__(self, families: Families, workspace: str, key: str) -> None:
        self._families = families
        self._key = workspace, key

    @cached_property
    def requests(self) -> Tally:
        return self._families.counters["key_requests"].at(*self._key)

    @cached_property
    def input_tokens(self) -> Tally:
        return self._families.counters["key_tokens"].at(*self._key, "input")

    @cached_property
    def output_tokens(self) -> Tally:
        return self._families.counters["key_tokens"].at(*self._key, "output")


class TurnSeries:
    """Of those that were put to an upstream."""

    def __init__(
        self, families: Families, dialect: str, agent: str, upstream: str, outcome: str
    ) -> None:
        self._families = families
        self._dialect = dialect
        self._where = agent, upstream
        self.turns = families.counters["turns"].at(dialect, agent, upstream, outcome)
        self.events = families.counters["events"].at(agent, upstream)

    @cached_property
    def first_event(self) -> Histogram:
        return self._families.histograms["first_event_seconds"].at(*self._where)

    @cached_property
    def event_interval(self) -> Histogram:
        return self._families.histograms["event_interval_seconds"].at(*self._where)

    @cached_property
    def overhead(self) -> Histogram:
        return self._families.histograms["overhead_seconds"].at(self._dialect)

    @cached_property
    def input_tokens(self) -> Tally:
        return self._families.counters["tokens"].at(*self._where, "input")

    @cached_property
    def output_tokens(self) -> Tally:
        return self._families.counters["tokens"].at(*self._where, "output")

    @cached_property
    def credits(self) -> Tally:
        return self._families.counters["credits"].at(*self._where)
