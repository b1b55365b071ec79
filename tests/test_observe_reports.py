"""Several processes count, and one shows the sum."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from prometheus_client.registry import Collector

from gateway.core.errors import ErrorCode
from gateway.core.events import Json, Usage
from gateway.observe.exchange import Answered, Exchange
from gateway.observe.exposition import exposition
from gateway.observe.families import ACROSS_WORKERS, GAUGES, RARE_GAUGES, WORST_STATE
from gateway.observe.metrics import Metrics
from gateway.wire import json
from tests.metrics.test_documented import families

OPEN = "application/openmetrics-text"

Values = dict[tuple[str, ...], float]


def sent(report: Json) -> Json:
    """As it arrives."""
    return json.loads_own(json.dumps(report))


def exchange(agent: str = "1", **fields: object) -> Exchange:
    """Its figures are such that floats add up exactly, in any order."""
    made = Exchange("r1", "bookbag-v2", 0.0, agent=agent, upstream="main", status=200, turn=True)
    made.answered = Answered("openai", "m", 0.125, 0.5)
    made.workspace, made.counted_as, made.tier = "acme", "k1", "standard"
    made.first_event, made.events, made.usage = 0.25, 5, Usage(3, 4, 0.5)
    made.asked, made.in_hand, made.sent, made.duration = 0.25, 0.5, 0.5625, 1.5
    for name, value in fields.items():
        setattr(made, name, value)
    return made


EXCHANGES = (
    exchange(),
    exchange("2", usage=None, duration=90.0, drained="cut"),
    exchange(outcome=ErrorCode.RATE_LIMITED, status=429, turn=False),
    exchange(outcome=ErrorCode.IDLE_TIMEOUT, events=1, dropped={"Reasoning": 2}),
)


def shown(metrics: Metrics, *types: str) -> Values:
    """The gateway's own series of families of these types."""
    return {
        (sample.name, *map(":".join, sorted(sample.labels.items()))): sample.value
        for family in metrics.registry.collect()
        if family.type in types and not family.name.startswith(("process_", "python_"))
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


# Any number of them, in any order.

WORKERS = ("a", "b", "c")

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["observe", "observe", "open", "close", "take", "take", "come", "end"]),
        st.sampled_from(WORKERS),
        st.integers(0, 11),
    ),
    max_size=60,
)


@dataclass
class Service:
    """A supervisor and its workers, and one that sees all."""

    supervisor: Metrics = field(default_factory=Metrics)
    whole: Metrics = field(default_factory=Metrics)
    workers: dict[str, Metrics] = field(default_factory=lambda: {n: Metrics() for n in WORKERS})
    open: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WORKERS, 0))
    under_way: dict[str, list[Json]] = field(default_factory=lambda: {n: [] for n in WORKERS})

    def observe(self, worker: str, number: int) -> None:
        for metrics in (self.workers[worker], self.whole):
            metrics.observe(EXCHANGES[number % len(EXCHANGES)])
            metrics.loop_was_late(0.25)

    def open_one(self, worker: str, _number: int) -> None:
        self.workers[worker].stream_opened(EXCHANGES[0])
        self.open[worker] += 1

    def close_one(self, worker: str, _number: int) -> None:
        if self.open[worker]:
            self.workers[worker].stream_closed(EXCHANGES[0])
            self.open[worker] -= 1

    def take(self, worker: str, number: int) -> None:
        report = self.workers[worker].take_report(whole=number % 2 == 0)
        self.under_way[worker].append(sent(report))

    def come(self, worker: str, number: int) -> None:
        """One that was taken some time ago, perhaps again, and perhaps never."""
        if reports := self.under_way[worker]:
            self.supervisor.absorb(reports[number % len(reports)], worker)

    def end(self, worker: str, _number: int) -> None:
        """And another one begins in its place."""
        self.supervisor.absorb(sent(self.workers[worker].take_report()), worker)
        self.supervisor.forget(worker)
        self.workers[worker] = Metrics()
        self.open[worker], self.under_way[worker] = 0, []

    def ask_all(self) -> None:
        for worker, metrics in self.workers.items():
            self.supervisor.absorb(sent(metrics.take_report()), worker)


DOES = {
    "observe": Service.observe,
    "open": Service.open_one,
    "close": Service.close_one,
    "take": Service.take,
    "come": Service.come,
    "end": Service.end,
}


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_whatever_comes_when_it_adds_up(steps: list[tuple[str, str, int]]) -> None:
    """As if one process had counted all; and on the way no counter goes down."""
    service = Service()
    before = shown(service.supervisor, "counter", "histogram")
    for step, worker, number in steps:
        DOES[step](service, worker, number)
        if step not in ("come", "end"):
            continue
        now = shown(service.supervisor, "counter", "histogram")
        assert before.keys() <= now.keys()
        assert all(now[series] >= before[series] for series in before)
        before = now
    service.ask_all()
    whole = shown(service.whole, "counter", "histogram")
    assert shown(service.supervisor, "counter", "histogram") == whole
    at = {"dialect": "bookbag-v2", "agent": "1"}
    streams = value(service.supervisor, "oc_gateway_active_streams", **at)
    assert (streams or 0) == sum(service.open.values())


def test_scrapes_without_traffic_are_the_same() -> None:
    """Ten of them, of four workers; one that is killed takes only its gauges with it, and its
    successor has some of its own."""
    supervisor, workers = Metrics(), {str(number): Metrics() for number in range(4)}
    for metrics in workers.values():
        metrics.observe(exchange())
        metrics.stream_opened(exchange())

    def scrape() -> Values:
        for worker, metrics in workers.items():
            supervisor.absorb(sent(metrics.take_report()), worker)
        return shown(supervisor, "counter", "histogram", "gauge")

    first = scrape()
    requests = "oc_gateway_requests_total"
    at = {"dialect": "bookbag-v2", "agent": "1"}
    assert value(supervisor, requests, **at, status="200") == 4
    assert all(scrape() == first for _ in range(9))

    del workers["2"]
    supervisor.forget("2")
    streams = ("oc_gateway_active_streams", "agent:1", "dialect:bookbag-v2")
    assert scrape() == first | {streams: 3}
    workers["2"] = successor = Metrics()
    successor.stream_opened(exchange())
    assert scrape() == first


def test_one_for_every_second_is_small() -> None:
    """It has what has changed since the last."""
    metrics = Metrics()
    metrics.observe(exchange())
    assert len(json.dumps(metrics.take_report())) > 1000
    assert len(json.dumps(metrics.take_report(whole=False))) < 100
    metrics.store_failed("save")
    report = sent(metrics.take_report(whole=False))
    assert json.mapping(report)["figures"] == {"oc_gateway_store_errors": [[["save"], 1]]}
    supervisor = Metrics()
    supervisor.absorb(report, "a")
    assert value(supervisor, "oc_gateway_store_errors_total", operation="save") == 1


def test_a_late_report_hides_nothing() -> None:
    """Of gauges the newer counts, and of counters what is more."""
    worker, supervisor = Metrics(), Metrics()
    worker.stream_opened(exchange())
    worker.observe(exchange())
    early = sent(worker.take_report())
    worker.stream_closed(exchange())
    worker.observe(exchange(duration=90.0))
    at = {"dialect": "bookbag-v2", "agent": "1"}
    for report in (sent(worker.take_report()), early):
        supervisor.absorb(report, "a")
        assert value(supervisor, "oc_gateway_active_streams", **at) == 0
        assert value(supervisor, "oc_gateway_requests_total", **at, status="200") == 2
        assert value(supervisor, "oc_gateway_request_duration_seconds_count", **at) == 2
        assert value(supervisor, "oc_gateway_request_duration_seconds_sum", **at) == 91.5


def test_of_the_configuration_the_worst_counts() -> None:
    """A supervisor's own reading of it is as old as itself, and counts while there is no other."""
    supervisor, one, other = Metrics(), Metrics(), Metrics()
    supervisor.reloaded(5.0, ok=True)
    names = ("successful", "success_timestamp_seconds")

    def told() -> list[float | None]:
        for worker, metrics in (("one", one), ("other", other)):
            supervisor.absorb(sent(metrics.take_report()), worker)
        return [value(supervisor, f"oc_gateway_config_last_reload_{name}") for name in names]

    one.reloaded(10.0, ok=True)
    other.reloaded(20.0, ok=True)
    assert told() == [1, 10.0]
    one.reloaded(30.0, ok=True)
    other.reloaded(31.0, ok=False)
    assert told() == [0, 20.0]
    for worker in ("one", "other"):
        supervisor.forget(worker)
    assert value(supervisor, "oc_gateway_config_last_reload_success_timestamp_seconds") == 5.0


def test_certificates_and_a_stop() -> None:
    supervisor, one, other = Metrics(), Metrics(), Metrics()
    one.certificate_expires(3e9)
    other.certificate_expires(2e9)
    other.draining()
    for worker, metrics in (("one", one), ("other", other)):
        supervisor.absorb(sent(metrics.take_report()), worker)
    expiry = "oc_gateway_tls_certificate_expiry_timestamp_seconds"
    assert (value(supervisor, expiry), value(supervisor, "oc_gateway_draining")) == (2e9, 1)
    supervisor.forget("other")
    assert (value(supervisor, expiry), value(supervisor, "oc_gateway_draining")) == (3e9, 0)
    supervisor.forget("one")
    assert value(supervisor, expiry) is None


def traces(metrics: Metrics) -> dict[float, str]:
    """Of requests, by their durations."""
    return {
        sample.exemplar.value: sample.exemplar.labels["trace_id"]
        for family in open_metrics(exposition(metrics.registry, OPEN).body.decode())
        if family.name == "oc_gateway_request_duration_seconds"
        for sample in family.samples
        if sample.exemplar
    }


def test_the_latest_trace_is_beside_its_figures() -> None:
    """Of each bucket, whoever reports first."""
    supervisor, one, other = Metrics(), Metrics(), Metrics()
    one.observe(exchange(exemplar={"trace_id": "early"}, duration=1.25))
    one.observe(exchange(exemplar={"trace_id": "slow"}, duration=90.0))
    other.observe(exchange(exemplar={"trace_id": "late"}, duration=1.5))
    for worker, metrics in (("other", other), ("one", one)):
        supervisor.absorb(sent(metrics.take_report()), worker)
    assert traces(supervisor) == {1.5: "late", 90.0: "slow"}


# What collectors read.

TARGET = ("target", "upstream")
AT = {"target": "main/m", "upstream": "main"}


class State(Collector):
    """Of a worker, with one target or none."""

    def __init__(self, state: str, *, streams: int = 1, opened: int = 0, healthy: int = 1) -> None:
        self.state, self.streams, self.opened, self.healthy = state, streams, opened, healthy
        self.there = True

    def describe(self) -> list[Metric]:
        return list(self._families())

    def collect(self) -> list[Metric]:
        gauges, opened = list(self._families()), self._opened()
        if self.there:
            gauges[0].add_metric(("main/m", "main"), self.streams)
            for state in ("closed", "half_open", "open"):
                gauges[1].add_metric(("main/m", "main", state), state == self.state)
            gauges[2].add_metric(("main",), self.healthy)
            gauges[3].add_metric((), 100)
            opened.add_metric(("main/m", "main"), self.opened)
        return [*gauges, opened]

    def _families(self) -> Iterator[GaugeMetricFamily]:
        for name, labels in (
            ("target_streams", TARGET),
            ("breaker_state", (*TARGET, "state")),
            ("upstream_healthy", ("upstream",)),
            ("limiter_subjects", ()),
        ):
            yield GaugeMetricFamily(f"oc_gateway_{name}", name, labels=labels)

    def _opened(self) -> CounterMetricFamily:
        return CounterMetricFamily("oc_gateway_breaker_opened", "opened", labels=TARGET)


def reading(*states: State) -> tuple[Metrics, list[Metrics]]:
    """A supervisor, and a worker for each state."""
    workers = [Metrics() for _ in states]
    for metrics, state in zip(workers, states, strict=True):
        metrics.reads(state)
    return Metrics(), workers


def ask(supervisor: Metrics, workers: list[Metrics]) -> None:
    for number, metrics in enumerate(workers):
        supervisor.absorb(sent(metrics.take_report()), str(number))


def read(metrics: Metrics, name: str, **labels: str) -> float | None:
    return value(metrics, f"oc_gateway_{name}", **labels)


def test_what_is_so_now_in_all_of_them() -> None:
    """Streams add up; of health and of a zone that all see it is the least and the most."""
    supervisor, workers = reading(State("closed", streams=2), State("closed", streams=3, healthy=0))
    ask(supervisor, workers)
    assert read(supervisor, "target_streams", **AT) == 5
    assert read(supervisor, "upstream_healthy", upstream="main") == 0
    assert read(supervisor, "limiter_subjects") == 100
    supervisor.forget("1")
    assert read(supervisor, "target_streams", **AT) == 2
    assert read(supervisor, "upstream_healthy", upstream="main") == 1


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        (("closed", "closed"), "closed"),
        (("closed", "half_open"), "half_open"),
        (("half_open", "open"), "open"),
        (("open", "closed"), "open"),
    ],
)
def test_breakers_are_in_their_worst_state(states: tuple[str, ...], worst: str) -> None:
    """And in no other: dashboards tell one from its figure."""
    supervisor, workers = reading(*map(State, states))
    ask(supervisor, workers)
    found = {state: read(supervisor, "breaker_state", **AT, state=state) for state in ORDER}
    assert found == {state: float(state == worst) for state in ORDER}


ORDER = WORST_STATE["oc_gateway_breaker_state"][1]


def test_what_collectors_count_stays() -> None:
    """Also when a target was gone and is back, whether that was seen or not, and when its worker
    ends."""
    one, other = State("open", opened=3), State("open", opened=2)
    supervisor, workers = reading(one, other)
    opened = []
    for there, so_often in ((True, (3, 2)), (False, (3, 2)), (True, (2, 2)), (True, (1, 4))):
        one.there, (one.opened, other.opened) = there, so_often
        for _ in range(2):
            ask(supervisor, workers)
            opened.append(read(supervisor, "breaker_opened_total", **AT))
    assert opened == [5, 5, 5, 5, 7, 7, 10, 10]
    for worker in ("0", "1"):
        supervisor.forget(worker)
    assert read(supervisor, "breaker_opened_total", **AT) == 10
    assert read(supervisor, "target_streams", **AT) is None


def test_the_process_is_all_of_them() -> None:
    """Here one and the same process stands for three."""
    supervisor, workers = reading(State("closed"), State("closed"))
    alone = value(supervisor, "process_resident_memory_bytes") or 0
    began, limit = (value(supervisor, f"process_{n}") for n in ("start_time_seconds", "max_fds"))
    ask(supervisor, workers)
    busy = value(supervisor, "process_cpu_seconds_total") or 0
    assert (value(supervisor, "process_resident_memory_bytes") or 0) > 2.5 * alone > 0
    assert value(supervisor, "process_start_time_seconds") == began
    assert value(supervisor, "process_max_fds") == limit
    own = value(workers[0], "process_cpu_seconds_total") or 0
    assert busy > 2.5 * own * 0.9 > 0
    supervisor.forget("0")
    assert (value(supervisor, "process_cpu_seconds_total") or 0) >= busy
    info = [
        f for f in supervisor.registry.collect() if f.name in ("python_info", "oc_gateway_build")
    ]
    assert [len(family.samples) for family in info] == [1, 1]


def test_what_a_supervisor_shows_can_be_read() -> None:
    """Each family is there once, in both formats."""
    supervisor, workers = reading(State("closed"), State("open", opened=1))
    for metrics in workers:
        metrics.observe(exchange(exemplar={"trace_id": "t"}))
        metrics.certificate_expires(2e9)
    ask(supervisor, workers)
    for accept, parse in (("", plain_text), (OPEN, open_metrics)):
        text = exposition(supervisor.registry, accept).body.decode()
        names = [family.name for family in parse(text)]
        assert len(names) == len(set(names))
        assert "oc_gateway_breaker_state" in names
        documented = {row.name.removesuffix("_total") for row in families()}
        ours = {name.removesuffix("_info") for name in documented if name.startswith("oc_")}
        shown = {n.removesuffix("_info").removesuffix("_total") for n in names}
        assert {name for name in shown if name.startswith("oc_")} <= ours


def test_a_worker_of_another_version() -> None:
    """What nobody knows here is left out: a family, a label, a bucket."""
    supervisor = Metrics()
    before = shown(supervisor, "counter", "histogram", "gauge")
    supervisor.absorb(
        {
            "number": 1,
            "figures": {
                "oc_gateway_new": [[["a"], 1]],
                "oc_gateway_requests": [[["bookbag-v2", "1", "200", "more"], 1]],
                "oc_gateway_event_loop_lag_seconds": [[[], [[1, 2], 3.0, []]]],
            },
            "readings": None,
        },
        "a",
    )
    assert shown(supervisor, "counter", "histogram", "gauge") == before


def test_the_rules_are_for_what_there_is() -> None:
    """A name that is wrong would be a gauge that adds up what does not."""
    gauges = {row.name for row in families() if row.type == "gauge"}
    process = {f.name for f in Metrics().registry.collect() if f.name.startswith("process_")}
    assert ACROSS_WORKERS.keys() | WORST_STATE.keys() <= gauges | process
    assert {f"oc_gateway_{name}" for name in GAUGES | RARE_GAUGES} <= ACROSS_WORKERS.keys()
