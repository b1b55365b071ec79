"""What an operator can ask of requests: those that are open, and the last that failed."""

from itertools import count

import pytest

from gateway.core.errors import ErrorCode
from gateway.observe.exchange import CLIENT_GONE, COMPLETE, Exchange
from gateway.observe.faults import Fault
from gateway.observe.ledger import Ledger


@pytest.fixture
def ledger() -> Ledger:
    """Its clock goes on by a second with each failure."""
    seconds = count(1)
    return Ledger(lambda: float(next(seconds)))


def ended(ledger: Ledger, name: str, outcome: str = COMPLETE, *, turn: bool = True) -> None:
    exchange = Exchange(name, "bookbag-v2", 0.0, agent="1", turn=turn, outcome=outcome)
    ledger.begin(exchange)
    ledger.end(exchange)


def test_open_requests(ledger: Ledger) -> None:
    """In the order in which they came, until they are over; equal ones are two."""
    first, *others = [Exchange("same", "bookbag-v2", 0.0) for _ in range(3)]
    for exchange in (first, *others):
        ledger.begin(exchange)
    ledger.end(first)

    assert [id(exchange) for exchange in ledger.open] == [id(exchange) for exchange in others]


def test_what_never_began(ledger: Ledger) -> None:
    """What does not parse as HTTP has an end only."""
    ledger.end(Exchange("r", "bookbag-v2", 0.0, outcome="malformed_request"))

    assert ledger.open == []
    assert [failed.fault for failed in ledger.find("r")] == [Fault.CLIENT]


def test_turns_are_counted(ledger: Ledger) -> None:
    """By agent and outcome; other requests are none."""
    ended(ledger, "a")
    ended(ledger, "b")
    ended(ledger, "c", ErrorCode.IDLE_TIMEOUT)
    ended(ledger, "d", turn=False)

    assert ledger.turns == {("1", COMPLETE): 2, ("1", "idle_timeout"): 1}


def test_the_last_failures(ledger: Ledger) -> None:
    """The newest first, and no more than a hundred, however many clients are refused meanwhile."""
    for number in range(150):
        ended(ledger, f"u{number}", ErrorCode.UPSTREAM_FAILED)
    for number in range(1000):
        ended(ledger, f"c{number}", ErrorCode.KEY_INVALID, turn=False)
    ended(ledger, "gone", CLIENT_GONE)
    ended(ledger, "fine")

    failures = ledger.failures
    assert [failed.request_id for failed in failures] == [f"u{n}" for n in range(149, 49, -1)]
    assert {failed.fault for failed in failures} == {Fault.UPSTREAM}
    assert ledger.find("u49") == ledger.find("c899") == ledger.find("fine") == []
    assert [failed.outcome for failed in ledger.find("c999")] == ["key_invalid"]
    assert [failed.outcome for failed in ledger.find("gone")] == [CLIENT_GONE]


def test_an_id_that_was_used_twice(ledger: Ledger) -> None:
    """Callers choose ids: all that failed under it are found, the newest first."""
    ended(ledger, "mine", ErrorCode.UPSTREAM_FAILED)
    ended(ledger, "mine", ErrorCode.RATE_LIMITED, turn=False)
    ended(ledger, "mine", ErrorCode.INTERNAL)

    found = [(failed.at, failed.outcome) for failed in ledger.find("mine")]
    assert found == [(3.0, "internal"), (2.0, "rate_limited"), (1.0, "upstream_failed")]


def test_an_outcome_that_nobody_thought_of(ledger: Ledger) -> None:
    """Is a bug of ours, and shown as one."""
    ended(ledger, "r", "something new")

    assert [failed.fault for failed in ledger.failures] == [Fault.GATEWAY]
