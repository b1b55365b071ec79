"""The exposition's two formats, and what Prometheus's own tool says of them."""

import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from gateway.core.errors import ErrorCode
from gateway.core.events import Usage
from gateway.observe.exchange import Answered, Exchange
from gateway.observe.exposition import Exposition, exposition
from gateway.observe.metrics import Metrics
from tests.e2e.conftest import Start
from tests.e2e.scripted import ScriptedUpstream
from tests.e2e.test_operations import mixed_load, serve

TEXT, OPEN = "text/plain", "application/openmetrics-text"

# As Prometheus 2.42 and 3.5 ask.
PROMETHEUS_2 = (
    f"{OPEN};version=1.0.0,{OPEN};version=0.0.1;q=0.75,{TEXT};version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    f"{OPEN};version=1.0.0;escaping=allow-utf-8;q=0.6,{OPEN};version=0.0.1;q=0.5,"
    f"{TEXT};version=1.0.0;escaping=allow-utf-8;q=0.4,{TEXT};version=0.0.4;q=0.3,*/*;q=0.2"
)


def observed(**fields: object) -> Metrics:
    """One turn."""
    metrics = Metrics()
    made = Exchange("r1", "bookbag-v2", 0.0, agent="1", upstream="main", status=200, turn=True)
    made.answered = Answered("openai", "m", 0.1, 0.2)
    made.first_event, made.events, made.usage = 0.2, 5, Usage(3, 4)
    for name, value in fields.items():
        setattr(made, name, value)
    metrics.observe(made)
    return metrics


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html", TEXT),
        (TEXT, TEXT),
        (OPEN, OPEN),
        ("Application/OpenMetrics-Text; version=1.0.0", OPEN),
        (PROMETHEUS_2, OPEN),
        (PROMETHEUS_3, OPEN),
        (f"{TEXT};version=0.0.4,{OPEN};q=0.9", TEXT),
        (f"{OPEN};q=0.2, {TEXT};q=0.9", TEXT),
        (f"{OPEN};q=nonsense, {TEXT};q=0.9", TEXT),
        (f"{OPEN};version=nonsense", OPEN),
        (";,q=;=,", TEXT),
    ],
)
def test_the_format_is_the_scrapers_choice(accept: str, wanted: str) -> None:
    """By preference, then by order; text for those who have none."""
    assert exposition(Metrics().registry, accept).content_type.startswith(wanted)


@pytest.mark.parametrize("fields", [{}, {"outcome": ErrorCode.IDLE_TIMEOUT}, {"drained": "cut"}])
def test_both_say_the_same(fields: dict[str, object]) -> None:
    """And each is what its parser takes."""
    metrics = observed(**fields)
    text, opened = (exposition(metrics.registry, accept).body.decode() for accept in (TEXT, OPEN))
    assert opened.endswith("# EOF\n")
    samples = [
        {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if not family.name.startswith(("process_", "python_"))
        }
        for families in (plain_text(text), open_metrics(opened))
    ]
    assert samples[0] == samples[1]
    assert len(samples[0]) > 50


def _exemplars(shown: Exposition) -> dict[str, dict[str, str]]:
    return {
        sample.name: dict(sample.exemplar.labels)
        for family in open_metrics(shown.body.decode())
        for sample in family.samples
        if sample.exemplar
    }


def test_a_recorded_trace_is_beside_its_figures() -> None:
    """So that a slow request of a histogram is found again; only OpenMetrics has words for it."""
    trace = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
    metrics = observed(exemplar=trace, asked=0.1, in_hand=0.2, sent=0.3)
    assert _exemplars(exposition(metrics.registry, OPEN)) == dict.fromkeys(
        [
            "oc_gateway_request_duration_seconds_bucket",
            "oc_gateway_first_event_seconds_bucket",
            "oc_gateway_event_interval_seconds_bucket",
            "oc_gateway_overhead_seconds_bucket",
            "gen_ai_client_operation_duration_seconds_bucket",
            "gen_ai_client_operation_time_to_first_chunk_seconds_bucket",
        ],
        trace,
    )
    assert b"trace_id" not in exposition(metrics.registry, TEXT).body
    assert not _exemplars(exposition(observed().registry, OPEN))


async def test_promtool_finds_nothing(start: Start, upstream: ScriptedUpstream) -> None:
    """Prometheus's own linter, on what it would scrape from a gateway that has seen everything."""
    assert shutil.which("promtool"), "tests/install brings it"
    gateway = await serve(start, upstream)
    await mixed_load(gateway, upstream)
    async with gateway.session.get(gateway.gateway.admin.url + "/metrics") as response:
        text = await response.read()
    assert linted(text) == b""


def linted(text: bytes) -> bytes:
    """What promtool has to say."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert done.returncode == 0 or done.stderr
    return done.stdout + done.stderr


def test_promtool_would_find_something() -> None:
    """A family without a word about it, and a counter that does not say that it is one."""
    assert b"should have" in linted(b"# TYPE oc_x counter\noc_x 1\n")


async def test_over_the_admin_listener(start: Start, upstream: ScriptedUpstream) -> None:
    """What a scraper asks for is what it gets."""
    gateway = await serve(start, upstream)
    for accept, wanted in ((PROMETHEUS_3, f"{OPEN}; version=1.0.0"), ("", TEXT)):
        url, headers = gateway.gateway.admin.url + "/metrics", {"Accept": accept}
        async with gateway.session.get(url, headers=headers) as response:
            assert response.headers["Content-Type"].startswith(wanted)
            assert (await response.text()).endswith("# EOF\n") is (wanted != TEXT)
