"""One process's buckets: so many and no more, and who is forgotten first."""

import tracemalloc

from gateway.config.values import Rate
from gateway.limits.limiter import MAX_SUBJECTS
from gateway.limits.local import LocalLimiter

STANDARD = Rate(100, 10.0)


def drained(limiter: LocalLimiter, subject: str, rate: Rate, now: float) -> None:
    while limiter.take(subject, rate, now).allowed:
        pass


def test_any_number_of_addresses_stays_within_bounds() -> None:
    """Memory is that of the buckets allowed, however many subjects there are."""
    limiter = LocalLimiter(max_subjects=1000)
    tracemalloc.start()
    try:
        for number in range(1000):
            limiter.take(f"address:{number}", STANDARD, number * 1e-4)
        full, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for number in range(1000, 30_000):
            limiter.take(f"address:{number}", STANDARD, number * 1e-4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert limiter.subjects == 1000
    assert peak < full * 1.5


def test_there_is_a_bound_by_default() -> None:
    """At its real size it holds too."""
    limiter = LocalLimiter()
    for number in range(MAX_SUBJECTS + 10_000):
        limiter.take(f"{number}", STANDARD, 0.0)

    assert limiter.subjects == MAX_SUBJECTS


def test_a_flood_does_not_free_who_is_refused() -> None:
    """Full buckets are forgotten first: a drained one outlives any number of newcomers."""
    limiter = LocalLimiter(max_subjects=50)
    drained(limiter, "key:busy", Rate(10, 3600.0), 0.0)

    for number in range(5000):
        limiter.take(f"address:{number}", STANDARD, number * 0.06)

    assert not limiter.take("key:busy", Rate(10, 3600.0), 300.0).allowed


def test_where_none_is_full_the_least_recently_used_goes() -> None:
    """The bound holds even if every bucket is wanted; who takes all the time keeps theirs."""
    limiter = LocalLimiter(max_subjects=20)
    slow = Rate(10, 1e6)
    drained(limiter, "key:busy", slow, 0.0)
    for number in range(500):
        limiter.take(f"address:{number}", slow, 0.0)
        assert not limiter.take("key:busy", slow, 0.0).allowed

    assert limiter.subjects == 20


def test_room_for_one() -> None:
    """The smallest bound works: each newcomer replaces the last."""
    limiter = LocalLimiter(max_subjects=1)
    slow = Rate(10, 1e6)
    for subject in ("a", "b", "a"):
        assert limiter.take(subject, slow, 0.0).remaining == 9

    assert limiter.subjects == 1
