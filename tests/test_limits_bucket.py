"""The token bucket: never too many, never too few, whatever the clock does."""

from collections.abc import Iterable
from itertools import accumulate
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.values import Rate
from gateway.limits.bucket import Decision, State, look, take

RATES = st.builds(
    Rate,
    st.integers(1, 500),
    st.sampled_from([0.25, 1.0, 2.0, 10.0, 60.0, 3600.0]) | st.floats(0.01, 5000),
)
# What a monotonic clock says at first: seconds since the machine came up.
STARTS = st.sampled_from([0.0, 0.1, 0.3]) | st.floats(0, 1e8)
GAPS = st.sampled_from([0.0, 0.01, 0.1, 1.0]) | st.floats(0, 50)
STEPS = GAPS | st.floats(-100, -0.001)

A_HAIR = 1e-4


def decide(rate: Rate, times: Iterable[float]) -> list[Decision]:
    state: State | None = None
    decisions = []
    for now in times:
        state, decision = take(state, rate, now)
        decisions.append(decision)
    return decisions


def drain(state: State | None, rate: Rate, now: float) -> tuple[State, int]:
    """Take until refused: the state, and how many were had."""
    for taken in range(rate.capacity + 2):
        state, decision = take(state, rate, now)
        if not decision.allowed:
            return state, taken
    raise AssertionError("the bucket has no bottom")


def test_a_burst_is_exactly_the_capacity() -> None:
    """A full bucket gives its capacity at once, counting down, and then nothing."""
    decisions = decide(Rate(3, 30.0), [7.0] * 5)

    assert [d.allowed for d in decisions] == [True, True, True, False, False]
    assert [d.remaining for d in decisions] == [2, 1, 0, 0, 0]
    assert {d.limit for d in decisions} == {3}


def test_times_are_seconds_until_a_token_and_until_all() -> None:
    """Retry-after is the wait for one token, reset-after the one for a full bucket."""
    first, second, third = decide(Rate(2, 20.0), [0.0, 0.0, 4.0])

    assert [d.retry_after for d in (first, second, third)] == pytest.approx([0.0, 0.0, 6.0])
    assert [d.reset_after for d in (first, second, third)] == pytest.approx([10.0, 20.0, 16.0])


def test_it_refills_evenly_and_no_higher_than_its_capacity() -> None:
    """One token per period / capacity; a long silence saves up one bucket and no more."""
    rate = Rate(10, 10.0)
    state, _ = drain(None, rate, 0.0)

    state, taken = drain(state, rate, 3.0)
    assert taken == 3
    state, taken = drain(state, rate, 1e6)
    assert taken == 10


def test_a_refused_take_costs_nothing() -> None:
    """A client that keeps asking is admitted as soon as one that waited."""
    rate = Rate(1, 10.0)

    patient = decide(rate, [0.0, 10.0])
    hasty = decide(rate, [0.0, *(float(t) for t in range(1, 10)), 10.0])

    assert patient[-1].allowed
    assert hasty[-1].allowed
    assert not any(d.allowed for d in hasty[1:-1])


@settings(deadline=None)
@given(RATES, STARTS, st.lists(GAPS, max_size=60), st.integers(1, 20))
def test_never_admits_over_capacity_plus_rate_times_time(
    rate: Rate, start: float, gaps: list[float], at_once: int
) -> None:
    """In every window, at most what the bucket can hold and what flows in meanwhile."""
    times = [now for now in accumulate(gaps, initial=start) for _ in range(at_once)]

    admitted = [
        t for t, decision in zip(times, decide(rate, times), strict=True) if decision.allowed
    ]

    for first in range(0, len(admitted), 7):
        for last in range(first, len(admitted), 5):
            inflow = (admitted[last] - admitted[first]) * rate.capacity / rate.period
            assert last - first + 1 <= floor(rate.capacity + inflow + A_HAIR)


@settings(deadline=None)
@given(RATES, STARTS, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_never_admits_under_it_by_more_than_one(
    rate: Rate, start: float, parts: list[float]
) -> None:
    """Who takes all there is, again and again, misses less than one token of the whole inflow."""
    rate = rate._replace(capacity=rate.capacity + 1)
    # Inflow is lost only to a full bucket, and up to a token is left over from the last time.
    longest = rate.period * (rate.capacity - 1) / rate.capacity
    times = list(accumulate((part * longest for part in parts), initial=start))
    state, total = None, 0
    for now in times:
        state, taken = drain(state, rate, now)
        total += taken

    inflow = (times[-1] - times[0]) * rate.capacity / rate.period
    assert total > rate.capacity + inflow - 1 - A_HAIR


@settings(deadline=None)
@given(RATES, STARTS, st.lists(STEPS, max_size=60))
def test_a_clock_that_goes_back_gains_nothing(rate: Rate, start: float, steps: list[float]) -> None:
    """Decisions are those of a clock that stands still until the time is reached again."""
    times = list(accumulate(steps, initial=start))
    marks = list(accumulate(times, max))

    jumping, standing = decide(rate, times), decide(rate, marks)

    assert [d.allowed for d in jumping] == [d.allowed for d in standing]
    assert [d.remaining for d in jumping] == [d.remaining for d in standing]


@settings(deadline=None)
@given(RATES, STARTS, st.lists(STEPS, max_size=30))
def test_retry_after_is_the_truth(rate: Rate, start: float, steps: list[float]) -> None:
    """Whoever waits that long, in whole seconds, is admitted, if nobody else takes."""
    state: State | None = None
    for now in accumulate(steps, initial=start):
        state, _ = drain(state, rate, now)
        _, refused = take(state, rate, now)
        assert refused.retry_after > 0

        _, later = take(state, rate, now + ceil(refused.retry_after))
        assert later.allowed


@settings(deadline=None)
@given(RATES, STARTS)
def test_retry_after_asks_for_no_longer_than_needed(rate: Rate, start: float) -> None:
    """A tenth of a token's time earlier, there is no token yet."""
    state, _ = drain(None, rate, start)
    _, refused = take(state, rate, start)
    early = start + refused.retry_after - 0.1 * rate.period / rate.capacity

    # Where the clock is too coarse to tell the two times apart, there is nothing to see.
    if start + 0.01 * rate.period / rate.capacity > start:
        assert not take(state, rate, early)[1].allowed


@settings(deadline=None)
@given(RATES, STARTS, st.lists(STEPS, max_size=20))
def test_reset_after_is_the_truth(rate: Rate, start: float, steps: list[float]) -> None:
    """Once it has passed, the bucket is as good as a new one."""
    times = list(accumulate(steps, initial=start))
    state: State | None = None
    for now in times:
        state, decision = take(state, rate, now)
        assert now + decision.reset_after == pytest.approx(state.full_at, rel=0, abs=1e-6)

    assert state is not None
    later = state.full_at + 1e-3
    kept, fresh = take(state, rate, later)[1], take(None, rate, later)[1]
    assert (kept.allowed, kept.limit) == (fresh.allowed, fresh.limit)
    assert kept.remaining == fresh.remaining


@settings(deadline=None)
@given(RATES, STARTS)
def test_remaining_falls_by_one_in_a_burst(rate: Rate, now: float) -> None:
    """What is said to remain is what can be had."""
    decisions = decide(rate, [now] * (rate.capacity + 3))

    expected = [*range(rate.capacity - 1, -1, -1), 0, 0, 0]
    assert [d.remaining for d in decisions] == expected


@settings(deadline=None)
@given(RATES, RATES, STARTS, GAPS, st.integers(1, 30))
def test_a_new_rate_takes_effect_at_once(
    old: Rate, new: Rate, start: float, gap: float, takes: int
) -> None:
    """After a reload no more is admitted than the new capacity, or than the old one left over."""
    state: State | None = None
    for _ in range(takes):
        state, _ = take(state, old, start)

    state, taken = drain(state, new, start + gap)

    left = max(0, old.capacity - takes)
    assert taken <= new.capacity
    assert taken <= left + gap * new.capacity / new.period + A_HAIR
    assert take(state, new, start + gap)[1].limit == new.capacity


def test_a_smaller_capacity_clamps() -> None:
    """Tokens above the new capacity are lost."""
    state, _ = take(None, Rate(100, 10.0), 0.0)

    state, decision = take(state, Rate(5, 10.0), 0.0)

    assert (decision.limit, decision.remaining) == (5, 4)


def test_a_larger_capacity_fills_at_its_own_pace() -> None:
    """Tokens that the old capacity never had do not appear out of nothing."""
    state, _ = drain(None, Rate(5, 10.0), 0.0)

    state, decision = take(state, Rate(100, 10.0), 1.0)

    assert decision.remaining == 9


def test_the_largest_rate_the_config_allows() -> None:
    """Nothing overflows: a billion in the shortest time, one in the longest."""
    _, fast = take(None, Rate(999_999_999, 1e-12), 1e8)
    assert (fast.allowed, fast.remaining) == (True, 999_999_998)

    slow = Rate(1, 999_999_999 * 86400.0)
    state, _ = take(None, slow, 1e8)
    _, refused = take(state, slow, 1e8)
    assert not refused.allowed
    assert refused.retry_after == pytest.approx(slow.period)


@given(rate=RATES, start=STARTS, steps=st.lists(STEPS, max_size=20))
def test_a_look_is_what_a_take_would_meet(rate: Rate, start: float, steps: list[float]) -> None:
    """And changes nothing: the take says the same, with one token less if it was allowed."""
    state: State | None = None
    for now in accumulate([start, *steps]):
        seen = look(state, rate, now)
        state, decision = take(state, rate, now)

        assert seen.allowed is decision.allowed
        assert seen.retry_after == decision.retry_after
        assert seen.remaining == decision.remaining + decision.allowed
        assert seen.reset_after <= decision.reset_after
