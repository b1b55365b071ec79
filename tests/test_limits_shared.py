"""The limiter over a zone: one process's or several's, it decides as one limiter does."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.values import Rate
from gateway.core.errors import ErrorCode, GatewayError
from gateway.limits.limiter import Limiter
from gateway.limits.local import LocalLimiter
from gateway.limits.shared import SharedLimiter
from gateway.limits.zone import Zone

SLOW = Rate(10, 1e6)
GROUP = 16

SUBJECTS = st.sampled_from([f"key:{number}" for number in range(6)])
RATES = st.sampled_from([Rate(1, 10.0), Rate(3, 1.0), Rate(100, 7.0)]) | st.builds(
    Rate, st.integers(1, 10**9), st.floats(0.001, 1e6)
)
STEPS = st.sampled_from([0.0, 0.01, 1.0]) | st.floats(-100, 1000)
LIMITS = st.none() | st.integers(1, 3)

# Who does it, what, and when after the last one; an end is that of the nth turn that is open.
ACTIONS = st.tuples(
    st.integers(0, 1),
    STEPS,
    st.one_of(
        st.tuples(st.just("take"), SUBJECTS, RATES),
        st.tuples(st.just("look"), SUBJECTS, RATES),
        st.tuples(st.just("begin"), SUBJECTS, LIMITS),
        st.tuples(st.just("end"), st.integers(0, 20), st.none()),
    ),
)


class Turns:
    """One limiter, and the turns that it lets in."""

    def __init__(self, *limiters: Limiter) -> None:
        self._limiters = limiters
        self._open: list[ExitStack] = []

    def say(self, worker: int, now: float, action: tuple[str, object, object]) -> object:
        """What the worker's limiter says to it."""
        limiter = self._limiters[worker % len(self._limiters)]
        match action:
            case ("take", str(subject), Rate() as rate):
                return limiter.take(subject, rate, now), limiter.subjects
            case ("look", str(subject), Rate() as rate):
                return limiter.look(subject, rate, now), limiter.held(subject)
            case ("begin", str(subject), int() | None as limit):
                return self._begin(limiter, subject, limit), limiter.held(subject)
            case ("end", int(number), None) if self._open:
                self._open.pop(number % len(self._open)).close()
        return limiter.busy

    def _begin(self, limiter: Limiter, subject: str, limit: int | None) -> str:
        stack = ExitStack()
        try:
            stack.enter_context(limiter.slot(subject, limit))
        except GatewayError as error:
            return f"{error.code} {error.retry_after} {error.message}"
        self._open.append(stack)
        return "begun"


@given(st.lists(ACTIONS, max_size=60), st.floats(0, 1e8))
def test_workers_decide_as_one_limiter_does(
    actions: list[tuple[int, float, tuple[str, object, object]]], start: float
) -> None:
    """Whatever they do, by turns, and whatever the clock does: to the last bit."""
    # A record is its subject's from its first slot on, a bucket from its first take.
    prelude = [(0, 0.0, ("take", f"key:{number}", SLOW)) for number in range(6)]
    with TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "zone"
        Zone.create(path, workers=2, subjects=GROUP).close()
        zones = [
            stack.enter_context(closing(Zone.open(path, worker=worker))) for worker in range(2)
        ]
        shared, local = Turns(*map(SharedLimiter, zones)), Turns(LocalLimiter())
        now = start
        for worker, step, action in [*prelude, *actions]:
            now += step
            assert shared.say(worker, now, action) == local.say(0, now, action)


@pytest.fixture
def limiter(tmp_path: Path) -> Iterator[SharedLimiter]:
    """With room for one group of subjects."""
    Zone.create(tmp_path / "zone", workers=1, subjects=GROUP).close()
    with closing(Zone.open(tmp_path / "zone", worker=0)) as zone:
        yield SharedLimiter(zone)


def drained(limiter: Limiter, subject: str, rate: Rate, now: float) -> None:
    while limiter.take(subject, rate, now).allowed:
        pass


def test_any_number_of_addresses_stays_within_bounds(limiter: SharedLimiter) -> None:
    """A newcomer gets what another one leaves."""
    for number in range(1000):
        assert limiter.take(f"address:{number}", SLOW, 0.0).remaining == 9

    assert limiter.subjects == GROUP


def test_a_flood_does_not_free_who_is_refused(limiter: SharedLimiter) -> None:
    """Full buckets are forgotten first: a drained one outlives any number of newcomers."""
    drained(limiter, "key:busy", Rate(10, 3600.0), 0.0)

    for number in range(5000):
        limiter.take(f"address:{number}", Rate(100, 10.0), number * 0.06)

    assert not limiter.take("key:busy", Rate(10, 3600.0), 300.0).allowed


def test_where_none_is_full_the_fullest_goes(limiter: SharedLimiter) -> None:
    """The bound holds even if every bucket is wanted; it costs those least who had the most."""
    drained(limiter, "key:busy", SLOW, 0.0)
    for number in range(500):
        limiter.take(f"address:{number}", SLOW, 0.0)

    assert not limiter.take("key:busy", SLOW, 0.0).allowed


def test_it_is_the_bucket_as_it_is_now_that_counts(limiter: SharedLimiter) -> None:
    """Not as it was before the last take."""
    limiter.take("key:busy", Rate(10, 1.0), 0.0)
    limiter.take("key:busy", Rate(10, 1e9), 0.0)
    for number in range(GROUP - 1):
        limiter.take(f"address:{number}", SLOW, 0.0)
        limiter.take(f"address:{number}", SLOW, 0.0)

    limiter.take("address:new", SLOW, 0.0)

    assert limiter.look("key:busy", SLOW, 0.0).remaining == 8


def test_who_holds_a_slot_is_not_forgotten(limiter: SharedLimiter) -> None:
    """Its bucket may be as full as it likes."""
    with limiter.slot("key:a", 1):
        for number in range(500):
            drained(limiter, f"address:{number}", SLOW, 0.0)

        assert limiter.held("key:a") == limiter.busy == 1
        with pytest.raises(GatewayError), limiter.slot("key:a", 1):
            pass
    assert limiter.busy == 0


def test_nobody_is_let_in_uncounted(limiter: SharedLimiter) -> None:
    """If all that there is room for hold slots, newcomers wait for one of them to end; those
    go on as before."""
    with ExitStack() as slots:
        for number in range(GROUP):
            slots.enter_context(limiter.slot(f"key:{number}", 1))
        with pytest.raises(GatewayError) as taking:
            limiter.take("key:new", SLOW, 0.0)
        with pytest.raises(GatewayError) as holding, limiter.slot("key:new", None):
            pass

        for caught in (taking, holding):
            assert caught.value.code is ErrorCode.UNAVAILABLE
            assert caught.value.retry_after == 1.0
        assert limiter.take("key:0", SLOW, 0.0).remaining == 9
        assert limiter.look("key:new", SLOW, 0.0).remaining == 10
        assert limiter.held("key:new") == 0

    assert limiter.take("key:new", SLOW, 0.0).remaining == 9


def test_names_that_are_no_text_are_subjects_too(limiter: SharedLimiter) -> None:
    """What a client sent may hold anything."""
    for subject in ("", "\0", "é", "\ud800", "x" * 10_000):
        assert limiter.take(subject, SLOW, 0.0).remaining == 9
        assert limiter.take(subject, SLOW, 0.0).remaining == 8


def test_an_error_in_between_frees_the_lock(
    limiter: SharedLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that comes from a signal, just when the lock has been taken."""
    locked: list[int] = []

    def lock(zone: Zone, stripe: int) -> None:
        locked.append(stripe)
        raise KeyboardInterrupt

    monkeypatch.setattr(Zone, "lock", lock)
    monkeypatch.setattr(Zone, "unlock", lambda zone, stripe: locked.remove(stripe))
    with pytest.raises(KeyboardInterrupt):
        limiter.take("key:a", SLOW, 0.0)
    with pytest.raises(KeyboardInterrupt), limiter.slot("key:a", 1):
        pass

    assert not locked
    assert limiter.subjects == 0
