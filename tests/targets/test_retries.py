"""Retries: which failures may be tried again at the same target, after how long, and how many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ErrorCode, GatewayError
from gateway.targets.retries import Budget, wait
from tests.targets.making import target

STATUSES = {
    400: ErrorCode.UPSTREAM_REJECTED,
    401: ErrorCode.UPSTREAM_REFUSED,
    402: ErrorCode.UPSTREAM_CREDITS,
    403: ErrorCode.UPSTREAM_REFUSED,
    404: ErrorCode.UPSTREAM_FAILED,
    422: ErrorCode.UPSTREAM_REJECTED,
    429: ErrorCode.UPSTREAM_RATE_LIMITED,
    500: ErrorCode.UPSTREAM_FAILED,
    501: ErrorCode.UPSTREAM_FAILED,
    502: ErrorCode.UPSTREAM_FAILED,
    503: ErrorCode.UPSTREAM_FAILED,
    504: ErrorCode.UPSTREAM_FAILED,
}

# A target that is told the whole conversation each time, one that keeps it and would have the
# question twice, and each of them told that it may have it twice.
MODEL, HOSTED = target(), target("main/7", kind="bookbag")
MODEL_AGAIN = target(retry_after_send=True)
HOSTED_AGAIN = target("main/7", kind="bookbag", retry_after_send=True)
TARGETS = (MODEL, HOSTED, MODEL_AGAIN, HOSTED_AGAIN)

ALWAYS, NEVER = (True,) * 4, (False,) * 4
IF_STATELESS, IF_TOLD = (True, False, True, True), (False, False, True, True)


def failed(code: ErrorCode, status: int | None = None, after: float | None = None) -> GatewayError:
    return GatewayError(code, "failed", retry_after=after, upstream_status=status)


def answered(status: int, after: float | None = None) -> GatewayError:
    return failed(STATUSES[status], status, after)


def half() -> float:
    return 0.5


@pytest.mark.parametrize(
    ("status", "retried"),
    [
        (400, NEVER),
        (401, NEVER),
        (402, NEVER),
        (403, NEVER),
        (404, NEVER),
        (422, NEVER),
        (429, ALWAYS),
        (500, IF_TOLD),
        (501, NEVER),
        (502, IF_STATELESS),
        (503, ALWAYS),
        (504, IF_STATELESS),
    ],
)
def test_statuses(status: int, retried: tuple[bool, ...]) -> None:
    """A proxy's 502 and 504 do not say whether a hosted agent has the question already."""
    error = answered(status)

    assert tuple(wait(error, each, 0, half) is not None for each in TARGETS) == retried


# What an upstream's failure without a status says of being asked again. The codes that no
# upstream's answer leads to are the others.
CODES = {
    ErrorCode.UPSTREAM_UNREACHABLE: ALWAYS,
    ErrorCode.CONNECT_TIMEOUT: ALWAYS,
    ErrorCode.UPSTREAM_TRUNCATED: IF_TOLD,
    ErrorCode.FIRST_EVENT_TIMEOUT: IF_TOLD,
}


@pytest.mark.parametrize("code", ErrorCode)
def test_codes(code: ErrorCode) -> None:
    """What was not sent may be sent again; what may have run, only where the file says so. An error
    in a stream of 200 is no status that says to come back."""
    expected = CODES.get(code, NEVER)

    assert tuple(wait(failed(code), each, 0, half) is not None for each in TARGETS) == expected


def test_an_account_without_credits_is_not_asked_again() -> None:
    """Whatever its status: it is a 429 at OpenAI, and no wait will help."""
    assert wait(failed(ErrorCode.UPSTREAM_CREDITS, 429), MODEL_AGAIN, 0, half) is None


@pytest.mark.parametrize(
    ("retries", "retried", "again"), [(0, 0, False), (1, 0, True), (1, 1, False), (3, 2, True)]
)
def test_only_so_often(retries: int, retried: int, again: bool) -> None:
    """`retries` of the file, for one turn at one target."""
    error = failed(ErrorCode.UPSTREAM_UNREACHABLE)

    assert (wait(error, target(retries=retries), retried, half) is not None) is again


@pytest.mark.parametrize(
    ("retried", "drawn", "seconds"),
    [
        (0, 0.0, 0.05),
        (0, 0.5, 0.075),
        (0, 1.0, 0.1),
        (1, 1.0, 0.2),
        (2, 1.0, 0.4),
        (4, 1.0, 1.6),
        (5, 1.0, 2.0),
        (9, 0.0, 1.0),
        (9, 1.0, 2.0),
    ],
)
def test_backoff(retried: int, drawn: float, seconds: float) -> None:
    """Twice as long each time, up to two seconds, drawn from the upper half."""
    error = failed(ErrorCode.UPSTREAM_UNREACHABLE)

    assert wait(error, target(retries=10), retried, lambda: drawn) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("after", "longest", "seconds"),
    [
        (None, 2.0, 0.075),
        (0.0, 2.0, 0.075),  # at once, for all of a crowd: it is still spread
        (0.01, 2.0, 0.075),
        (1.0, 2.0, 1.0),
        (2.0, 2.0, 2.0),
        (2.001, 2.0, None),
        (60.0, 2.0, None),
        (60.0, 90.0, 60.0),
        (0.001, 0.0, None),
        (None, 0.0, 0.075),
    ],
)
def test_retry_after(after: float | None, longest: float, seconds: float | None) -> None:
    """Not before the upstream wants it, and not at all if that is too long for a client."""
    found = wait(answered(429, after), target(max_retry_wait=longest), 0, half)

    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("turns", "allowed"), [(0, 3), (1, 3), (15, 3), (16, 4), (20, 4), (100, 20), (101, 21)]
)
def test_the_budget(turns: int, allowed: int) -> None:
    """A fifth of the turns, and a few however little there is to do."""
    budget = Budget()
    given = 0
    while budget.allows(turns):
        budget.__enter__()
        given += 1

    assert given == allowed


def test_the_budget_is_given_back() -> None:
    """Also by a retry that failed."""
    budget = Budget()
    with pytest.raises(GatewayError), budget, budget, budget:
        raise failed(ErrorCode.UPSTREAM_FAILED)

    assert budget.retrying == 0


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 100))
def test_retries_never_multiply_an_outage(asks: list[bool], turns: int) -> None:
    """However turns come and go: at most a fifth of them, or three."""
    budget = Budget()
    for ask in asks:
        if ask and budget.allows(turns):
            budget.__enter__()
        elif not ask and budget.retrying:
            budget.__exit__()
        assert budget.retrying < max(3, turns / 5) + 1
