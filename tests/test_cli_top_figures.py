"""Rates and quantiles: what two scrapes say of the time between them."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.top_figures import History, Labels, Scrape, Span, increase, quantile, read

INF = math.inf


def scrape(at: float, name: str, **values: float) -> Scrape:
    """One family with a series for each agent."""
    return Scrape(at, {name: {(("agent", agent),): value for agent, value in values.items()}})


def measured(at: float, counts: Mapping[str, float], agent: str = "1") -> Scrape:
    """A histogram's buckets: the upper bound, and how many are not above it."""
    series: dict[Labels, float]
    series = {(("agent", agent), ("le", bound)): count for bound, count in counts.items()}
    return Scrape(at, {"seconds_bucket": series})


@pytest.mark.parametrize(
    ("before", "after", "grown"),
    [(3, 5, 2), (3, 3, 0), (None, 4, 4), (7, 2, 2), (0, 0, 0)],
)
def test_increase(before: float | None, after: float, grown: float) -> None:
    """A counter that was not there, or has become less, began at 0."""
    assert increase(before, after) == grown


def test_rates_by_labels() -> None:
    """Per second, and added up where labels are not asked for; what stands still is left out."""
    span = Span(scrape(10, "turns_total", a=5, b=7), scrape(14, "turns_total", a=15, b=7, c=2))

    assert span.rates("turns_total", "agent") == {("a",): 2.5, ("c",): 0.5}
    assert span.rates("turns_total", "agent", "other") == {("a", ""): 2.5, ("c", ""): 0.5}
    assert span.rate("turns_total") == 3.0
    assert span.rate("nothing") == 0.0
    assert span.after.total("turns_total") == 24


def test_no_time_no_rate() -> None:
    """The first look has none before it."""
    only = scrape(1, "turns_total", a=5)

    assert Span(only, only).rate("turns_total") == 0.0


BUCKETS = [(0.1, 10.0), (0.5, 30.0), (1.0, 40.0), (INF, 40.0)]


@pytest.mark.parametrize(
    ("share", "value"),
    [(0.0, 0.0), (0.125, 0.05), (0.25, 0.1), (0.5, 0.3), (0.75, 0.5), (0.875, 0.75), (1.0, 1.0)],
)
def test_quantile(share: float, value: float) -> None:
    """Between the bounds of a bucket, in proportion."""
    assert quantile(share, BUCKETS) == pytest.approx(value)


def test_quantile_above_all_bounds() -> None:
    """More cannot be said than that it is above the last one."""
    assert quantile(0.5, [(0.1, 1.0), (2.5, 1.0), (INF, 10.0)]) == 2.5


@given(st.lists(st.integers(0, 50), min_size=2, max_size=10).filter(any), st.floats(0, 1))
def test_quantiles_are_in_their_bucket(counts: list[int], share: float) -> None:
    """Whatever was counted: between the bounds where the share is reached, and never more for a
    lesser share."""
    bounds = [*(float(n + 1) for n in range(len(counts) - 1)), INF]
    below = [float(sum(counts[: n + 1])) for n in range(len(counts))]
    buckets = list(zip(bounds, below, strict=True))
    found = quantile(share, buckets)

    assert 0 <= found <= bounds[-2]
    assert quantile(share / 2, buckets) <= found
    if found < bounds[-2]:
        assert below[int(found)] >= share * below[-1] - 1e-6


def test_quantiles_of_what_came_in_between() -> None:
    """Of the observations since the first scrape only, by label; who had none is left out."""
    before = measured(1, {"0.1": 90, "1.0": 90, "+Inf": 90})
    after = measured(2, {"0.1": 90, "1.0": 100, "+Inf": 100})
    span = Span(before, after)

    assert span.quantiles([0.5, 1.0], "seconds") == {(): pytest.approx([0.55, 1.0])}
    assert list(span.quantiles([0.5], "seconds", "agent")) == [("1",)]
    assert Span(after, after).quantiles([0.5], "seconds") == {}


TEXT = """\
# HELP oc_gateway_turns_total Turns.
# TYPE oc_gateway_turns_total counter
oc_gateway_turns_total{agent="1",upstream="a \\"b\\" {c}"} 3.0
oc_gateway_first_event_seconds_bucket{le="+Inf"} 2.0
oc_gateway_first_event_seconds_sum 1e-05
oc_gateway_turns_total_of_another_kind 9.0
process_cpu_seconds_total 7.0
"""


def test_reading_a_scrape() -> None:
    """Only what was asked for."""
    found = read(TEXT, ["turns_total", "first_event_seconds_bucket"], 5.0)

    assert found.at == 5.0
    assert found.families["turns_total"] == {(("agent", "1"), ("upstream", 'a "b" {c}')): 3.0}
    assert found.families["first_event_seconds_bucket"] == {(("le", "+Inf"),): 2.0}
    assert "process_cpu_seconds_total" not in found.families


def test_history_looks_back() -> None:
    """As far as was asked for, or as far as there is; never less than to the scrape before."""
    history = History(60)
    for at in range(0, 101, 20):
        history.add(scrape(at, "turns_total", a=at), "one")

    assert history.last(60).seconds == 60
    assert history.last(30).seconds == 40
    assert history.last(1).seconds == 20
    assert history.last(1000).seconds == 60


def test_history_of_one() -> None:
    """It has no length yet."""
    history = History(60)
    history.add(scrape(3, "turns_total", a=9), "one")

    assert history.last(10).seconds == 0
    assert history.last(10).rate("turns_total") == 0


def test_history_after_a_restart() -> None:
    """The new process counts from 0, and nothing is said of both together."""
    history = History(60)
    history.add(scrape(0, "turns_total", a=100), "one")
    history.add(scrape(2, "turns_total", a=300), "two")
    assert history.last(10).rate("turns_total") == 0

    history.add(scrape(4, "turns_total", a=306), "two")
    assert history.last(10).rate("turns_total") == 3
