"""Buckets and slots by subject, in bounded memory."""

import asyncio
import tracemalloc

import pytest

from gateway.config.values import Rate
from gateway.core.errors import ErrorCode, GatewayError
from gateway.limits.limiter import MAX_SUBJECTS, Limiter

STANDARD = Rate(100, 10.0)


def drained(limiter: Limiter, subject: str, rate: Rate, now: float) -> None:
    while limiter.take(subject, rate, now).allowed:
        pass


def refused(limiter: Limiter, subject: str, limit: int) -> GatewayError:
    with pytest.raises(GatewayError) as caught, limiter.slot(subject, limit):
        pass
    return caught.value


def test_each_subject_has_its_own_bucket() -> None:
    """One subject's burst leaves another's bucket full."""
    limiter = Limiter()
    drained(limiter, "key:a", STANDARD, 0.0)

    assert not limiter.take("key:a", STANDARD, 0.0).allowed
    assert limiter.take("key:b", STANDARD, 0.0).remaining == 99


def test_a_bucket_is_remembered() -> None:
    """A second take of the same subject finds what the first left."""
    limiter = Limiter()
    limiter.take("key:a", STANDARD, 0.0)

    assert limiter.take("key:a", STANDARD, 0.0).remaining == 98
    assert limiter.subjects == 1


def test_a_parallel_burst_is_admitted_exactly() -> None:
    """A hundred at once with ten tokens: ten, for nothing lies between the look and the charge."""
    limiter = Limiter()

    async def one() -> bool:
        return limiter.take("key:a", Rate(10, 3600.0), 0.0).allowed

    async def burst() -> list[bool]:
        return await asyncio.gather(*(one() for _ in range(100)))

    assert sum(asyncio.run(burst())) == 10


def test_any_number_of_addresses_stays_within_bounds() -> None:
    """Memory is that of the buckets allowed, however many subjects there are."""
    limiter = Limiter(max_subjects=1000)
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
    limiter = Limiter()
    for number in range(MAX_SUBJECTS + 10_000):
        limiter.take(f"{number}", STANDARD, 0.0)

    assert limiter.subjects == MAX_SUBJECTS


def test_a_flood_does_not_free_who_is_refused() -> None:
    """Full buckets are forgotten first: a drained one outlives any number of newcomers."""
    limiter = Limiter(max_subjects=50)
    drained(limiter, "key:busy", Rate(10, 3600.0), 0.0)

    for number in range(5000):
        limiter.take(f"address:{number}", STANDARD, number * 0.06)

    assert not limiter.take("key:busy", Rate(10, 3600.0), 300.0).allowed


def test_where_none_is_full_the_least_recently_used_goes() -> None:
    """The bound holds even if every bucket is wanted; who takes all the time keeps theirs."""
    limiter = Limiter(max_subjects=20)
    slow = Rate(10, 1e6)
    drained(limiter, "key:busy", slow, 0.0)
    for number in range(500):
        limiter.take(f"address:{number}", slow, 0.0)
        assert not limiter.take("key:busy", slow, 0.0).allowed

    assert limiter.subjects == 20


def test_room_for_one() -> None:
    """The smallest bound works: each newcomer replaces the last."""
    limiter = Limiter(max_subjects=1)
    slow = Rate(10, 1e6)
    for subject in ("a", "b", "a"):
        assert limiter.take(subject, slow, 0.0).remaining == 9

    assert limiter.subjects == 1


def test_slots_are_counted_by_subject() -> None:
    """The third turn of two is refused, another subject's is not, and one that ends makes room."""
    limiter = Limiter()
    with limiter.slot("key:a", 2):
        with limiter.slot("key:a", 2):
            refused(limiter, "key:a", 2)
            with limiter.slot("key:b", 2):
                pass
        with limiter.slot("key:a", 2):
            pass


def test_a_refusal_says_what_and_when() -> None:
    """It is a 429 with a Retry-After, and a text that tells what to do."""
    limiter = Limiter()
    with limiter.slot("key:a", 1):
        error = refused(limiter, "key:a", 1)

    assert error.code is ErrorCode.RATE_LIMITED
    assert error.retry_after == 1.0
    assert "at most 1" in error.message


def test_a_refusal_takes_no_slot() -> None:
    """However many are refused, the one that ends makes room for exactly one."""
    limiter = Limiter()
    with limiter.slot("key:a", 1):
        for _ in range(3):
            refused(limiter, "key:a", 1)

    with limiter.slot("key:a", 1):
        refused(limiter, "key:a", 1)
    assert limiter.busy == 0


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
def test_a_slot_is_released_on_every_way_out(error: type[BaseException]) -> None:
    """An error or a cancellation inside lets go of it, and nothing of it stays behind."""
    limiter = Limiter()
    with pytest.raises(error), limiter.slot("key:a", 1):
        raise error

    assert limiter.busy == 0
    with limiter.slot("key:a", 1):
        assert limiter.busy == 1


async def test_a_cancelled_task_releases_its_slot() -> None:
    """As it is when a client goes away in the middle of a turn."""
    limiter, inside = Limiter(), asyncio.Event()

    async def turn() -> None:
        with limiter.slot("key:a", 1):
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(turn())
        await inside.wait()
        refused(limiter, "key:a", 1)
        running.cancel()

    assert limiter.busy == 0


def test_without_a_limit_slots_are_still_counted() -> None:
    """A limit that comes with a reload knows of the turns that are open."""
    limiter = Limiter()
    with limiter.slot("key:a", None), limiter.slot("key:a", None):
        refused(limiter, "key:a", 2)
        with limiter.slot("key:a", 3):
            pass

    assert limiter.busy == 0


def test_a_look_takes_nothing() -> None:
    """Of whom nothing is known, the bucket is full and no slot is held; a look keeps nothing."""
    limiter = Limiter()
    assert limiter.look("key:a", STANDARD, 0.0).remaining == 100
    assert limiter.subjects == limiter.held("key:a") == 0

    limiter.take("key:a", STANDARD, 0.0)
    with limiter.slot("key:a", None), limiter.slot("key:a", None):
        assert limiter.held("key:a") == 2
        assert [limiter.look("key:a", STANDARD, 0.0).remaining for _ in range(2)] == [99, 99]
    assert limiter.held("key:a") == 0
