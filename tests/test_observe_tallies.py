"""Our own series are shown as those of prometheus_client, which are what we measure against."""

import sys
import threading
from collections.abc import Iterator
from unittest.mock import patch

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.core.errors import ErrorCode
from gateway.observe.exposition import exposition
from gateway.observe.tallies import Counters, Gauges, Histograms

TEXT, OPEN = "text/plain", "application/openmetrics-text"

BOUNDS = (0.005, 1, 2.5, 4**13)

LABELS = st.tuples(st.text(max_size=5), st.sampled_from(["a", 'a"\\\n', "ü"]))
AMOUNTS = st.integers(0, 10**9) | st.floats(0, 1e12) | st.sampled_from(BOUNDS)
TRACES = st.none() | st.builds(lambda n: {"trace_id": f"{n:032x}"}, st.integers(0, 2**128 - 1))


Observed = tuple[tuple[str, str], float, dict[str, str] | None]


@pytest.fixture(scope="module", autouse=True)
def _no_created() -> Iterator[None]:
    """Ours have no series that says when they began."""
    prometheus_client.disable_created_metrics()
    yield
    prometheus_client.enable_created_metrics()


@given(st.lists(st.tuples(LABELS, AMOUNTS, TRACES)))
def test_as_prometheus_client_shows_them(
    observed: list[Observed],
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    names = ("one", "other")
    counters = Counters("c", 'Says "it".\n', names, ours)
    gauges = Gauges("g", "", names, ours)
    histograms = Histograms("h", "\\", names, ours, BOUNDS)
    plain = Histograms("p_seconds", "All.", (), ours, BOUNDS).at()
    counter = prometheus_client.Counter("c", 'Says "it".\n', names, registry=theirs)
    gauge = prometheus_client.Gauge("g", "", names, registry=theirs)
    histogram = prometheus_client.Histogram("h", "\\", names, registry=theirs, buckets=BOUNDS)
    single = prometheus_client.Histogram("p_seconds", "All.", registry=theirs, buckets=BOUNDS)

    with patch("time.time", lambda: 1_700_000_000.25):
        for labels, amount, trace in observed:
            counters.at(*labels).value += amount
            counter.labels(*labels).inc(amount)
            gauges.at(*labels).value = amount - 5
            gauge.labels(*labels).set(amount - 5)
            histograms.at(*labels).observe(amount, trace)
            histogram.labels(*labels).observe(amount, trace)
            plain.observe(amount)
            single.observe(amount)
    for accept in (TEXT, OPEN):
        assert exposition(ours, accept) == exposition(theirs, accept)


def test_a_code_and_its_word_are_one_series() -> None:
    counters = Counters("c", "", ("code",), CollectorRegistry())
    counters.at(ErrorCode.INTERNAL).value += 1
    assert counters.at("internal") is counters.at(ErrorCode.INTERNAL)
    assert [type(label) for (label,) in counters.figures()] == [str]


def test_two_of_one_name_are_a_mistake() -> None:
    registry = CollectorRegistry()
    Histograms("h", "", (), registry, BOUNDS)
    with pytest.raises(ValueError, match="Duplicated"):
        Counters("h_count", "", (), registry)


def test_a_scrape_while_series_are_made() -> None:
    """It is written in another thread."""
    registry, over = CollectorRegistry(), threading.Event()
    counters = Counters("c", "", ("n",), registry)
    histograms = Histograms("h", "", ("n",), registry, BOUNDS)
    problems: list[BaseException] = []

    def scrape() -> None:
        try:
            while not over.is_set():
                list(registry.collect())
                histograms.figures()
        except BaseException as exc:
            problems.append(exc)

    thread, interval = threading.Thread(target=scrape), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for number in range(2000):
            counters.at(str(number)).value += 1
            histograms.at(str(number)).observe(number, {"trace_id": "t"})
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert problems == []
