"""Token bucket arithmetic, without a clock: `now` is monotonic seconds, from wherever.

A bucket holds `capacity` tokens and refills evenly, `capacity` in `period` seconds. No state is a
full bucket, so a state whose `full_at` has passed may be forgotten.
"""

from typing import NamedTuple

from gateway.config.values import Rate

# Times are floats, so a wait of exactly one token's worth may come out a hair short of a token.
# Without this, a client that keeps to its Retry-After would now and then be refused again.
_ROUNDING = 1e-6
_ONE = 1 - _ROUNDING

# A named tuple's own way is a function in Python around this one.
_made = tuple.__new__


class State(NamedTuple):
    """A bucket as the last take left it."""

    tokens: float
    at: float
    """The latest time it has seen; an earlier one changes nothing, for clocks may go backwards."""
    full_at: float
    """When it is full again, and so equal to none."""


class Decision(NamedTuple):
    """Whether a token was taken, and what is left."""

    allowed: bool
    limit: int
    remaining: int
    """Whole tokens left."""
    retry_after: float
    """Seconds until there is one token; 0 if this take was allowed."""
    reset_after: float
    """Seconds until the bucket is full."""


def take(state: State | None, rate: Rate, now: float) -> tuple[State, Decision]:
    """Take one token, if there is one.

    `rate` may differ from the last take's (a config was reloaded): what is above the new capacity
    is lost, and the refill goes on at the new pace.
    """
    tokens, at = _refilled(state, rate, now)
    allowed = tokens >= _ONE
    if allowed:
        tokens -= 1
    return _left(tokens, at, rate, now, allowed)


def look(state: State | None, rate: Rate, now: float) -> Decision:
    """What there is, without a take: whether one would be allowed."""
    tokens, at = _refilled(state, rate, now)
    _, decision = _left(tokens, at, rate, now, tokens >= _ONE)
    return decision


# Once per request, in a section that other processes may wait for: fields by position and
# comparisons cost half of what names, min and max do.
def _left(
    tokens: float, at: float, rate: Rate, now: float, allowed: bool
) -> tuple[State, Decision]:
    capacity, period = rate
    one = period / capacity
    full_at = at + (capacity - tokens) * one
    whole = int(tokens + _ROUNDING)
    # A clock that went back has to come back to `at` before anything is refilled.
    retry_after = 0.0 if allowed else at - now + (1 - tokens) * one
    left = allowed, capacity, whole if whole > 0 else 0, retry_after, full_at - now
    return _made(State, (tokens, at, full_at)), _made(Decision, left)


def _refilled(state: State | None, rate: Rate, now: float) -> tuple[float, float]:
    """The tokens there are by `now`, and the time up to which they are counted."""
    capacity, period = rate
    if state is None:
        return capacity, now
    tokens, was, _ = state
    at = now if now > was else was
    tokens += (at - was) * capacity / period
    return tokens if tokens < capacity else capacity, at
