"""A decision as headers: whole seconds, rounded up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.values import Rate
from gateway.limits.bucket import Decision
from gateway.limits.headers import headers, retry_after

DECISION = Decision(allowed=True, limit=100, remaining=57, retry_after=0.0, reset_after=2.5)


def test_both_families_of_headers() -> None:
    """What Bookbag's clients read (the reset in Unix seconds), and the IETF's (in seconds)."""
    assert headers(DECISION, "standard", Rate(100, 10.0), 1_700_000_000.0) == {
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "57",
        "X-RateLimit-Reset": "1700000003",
        "RateLimit-Policy": '"standard";q=100;w=10',
        "RateLimit": '"standard";r=57;t=3',
    }


def test_the_reset_is_rounded_once() -> None:
    """The wall clock's fraction counts: 0.6 s after .9 is in the next second but one."""
    decision = DECISION._replace(reset_after=0.6)

    said = headers(decision, "standard", Rate(100, 10.0), 1000.9)

    assert said["X-RateLimit-Reset"] == "1002"
    assert said["RateLimit"] == '"standard";r=57;t=1'


def test_a_window_shorter_than_a_second_is_one() -> None:
    """The draft has whole seconds, and 0 is no window."""
    said = headers(DECISION, "fast", Rate(100, 0.5), 0.0)

    assert said["RateLimit-Policy"] == '"fast";q=100;w=1'


def test_a_full_bucket_resets_now() -> None:
    """Nothing to wait for is 0."""
    said = headers(DECISION._replace(reset_after=0.0), "standard", Rate(100, 10.0), 1000.0)

    assert said["X-RateLimit-Reset"] == "1000"
    assert said["RateLimit"].endswith(";t=0")


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "1"), (0.001, "1"), (1.0, "1"), (1.01, "2"), (29.5, "30"), (3600.0, "3600")],
)
def test_retry_after_is_rounded_up_and_never_zero(seconds: float, written: str) -> None:
    """Whoever waits as told is not too early, and "0" is never said."""
    assert retry_after(seconds) == written


@given(st.floats(0, 1e9))
def test_retry_after_is_never_too_short(seconds: float) -> None:
    """Not by a fraction; nor longer than needed by a whole second, but for the least of 1."""
    waited = int(retry_after(seconds))

    assert waited >= seconds
    assert waited == 1 or waited - seconds < 1
