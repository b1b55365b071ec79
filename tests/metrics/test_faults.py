"""Whose fault it is: every outcome that there is has an answer."""

import pytest

from gateway.core.errors import ErrorCode
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED, COMPLETE, Exchange
from gateway.observe.faults import FAULTS, Fault
from gateway.observe.metrics import Metrics

OUTCOMES = {*map(str, ErrorCode), CLIENT_GONE, CLIENT_STALLED, "malformed_request"}


def test_every_outcome_has_one() -> None:
    """A new code has to be put to somebody, or alerts would not know it."""
    assert set(FAULTS) == OUTCOMES
    assert COMPLETE not in FAULTS


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [
        (Fault.CLIENT, {CLIENT_GONE, "invalid_json", "key_invalid", "rate_limited"}),
        (Fault.GATEWAY, {"internal", "restarting", "unavailable", "upstream_busy"}),
        (Fault.UPSTREAM, {"upstream_failed", "upstream_down", "idle_timeout", "connect_timeout"}),
    ],
)
def test_some_by_hand(fault: Fault, outcomes: set[str]) -> None:
    """So that the table is seen to tell them apart."""
    assert {FAULTS[outcome] for outcome in outcomes} == {fault}


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
@pytest.mark.parametrize("turn", [False, True])
def test_each_is_counted(outcome: str, turn: bool) -> None:
    """Once, under its fault, whether or not it got as far as an upstream."""
    metrics = Metrics()
    metrics.observe(
        Exchange("r", "openai", 0.0, agent="1", upstream="main", outcome=outcome, turn=turn)
    )
    counted = metrics.registry.get_sample_value(
        "oc_gateway_failures_total",
        {"dialect": "openai", "agent": "1", "outcome": outcome, "fault": FAULTS[outcome]},
    )
    assert counted == 1


def test_what_ends_well_is_nobodys() -> None:
    """And makes no series."""
    metrics = Metrics()
    metrics.observe(Exchange("r", "openai", 0.0, agent="1", upstream="main", turn=True))
    family = metrics.registry.restricted_registry(["oc_gateway_failures_total"])
    assert not [sample for metric in family.collect() for sample in metric.samples]
