"""Buckets and slots by subject, in bounded memory: what any limiter does, wherever it keeps it."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.config.values import Rate
from gateway.core.errors import ErrorCode, GatewayError
from gateway.limits.limiter import Limiter
from gateway.limits.local import LocalLimiter
from gateway.limits.shared import SharedLimiter
from gateway.limits.zone import Zone

STANDARD = Rate(100, 10.0)


@pytest.fixture(params=["local", "shared"])
def limiter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Limiter]:
    """Each kind of limiter."""
    if request.param == "local":
        yield LocalLimiter()
        return
    Zone.create(tmp_path / "zone", workers=2, subjects=1000).close()
    with closing(Zone.open(tmp_path / "zone", worker=1)) as zone:
        yield SharedLimiter(zone)


def drained(limiter: Limiter, subject: str, rate: Rate, now: float) -> None:
    while limiter.take(subject, rate, now).allowed:
        pass


def refused(limiter: Limiter, subject: str, limit: int) -> GatewayError:
    with pytest.raises(GatewayError) as caught, limiter.slot(subject, limit):
        pass
    return caught.value


def test_each_subject_has_its_own_bucket(limiter: Limiter) -> None:
    """One subject's burst leaves another's bucket full."""
    drained(limiter, "key:a", STANDARD, 0.0)

    assert not limiter.take("key:a", STANDARD, 0.0).allowed
    assert limiter.take("key:b", STANDARD, 0.0).remaining == 99


def test_a_bucket_is_remembered(limiter: Limiter) -> None:
    """A second take of the same subject finds what the first left."""
    limiter.take("key:a", STANDARD, 0.0)

    assert limiter.take("key:a", STANDARD, 0.0).remaining == 98
    assert limiter.subjects == 1


def test_a_parallel_burst_is_admitted_exactly(limiter: Limiter) -> None:
    """A hundred at once with ten tokens: ten, for nothing lies between the look and the charge."""

    async def one() -> bool:
        return limiter.take("key:a", Rate(10, 3600.0), 0.0).allowed

    async def burst() -> list[bool]:
        return await asyncio.gather(*(one() for _ in range(100)))

    assert sum(asyncio.run(burst())) == 10


def test_slots_are_counted_by_subject(limiter: Limiter) -> None:
    """The third turn of two is refused, another subject's is not, and one that ends makes room."""
    with limiter.slot("key:a", 2):
        with limiter.slot("key:a", 2):
            refused(limiter, "key:a", 2)
            with limiter.slot("key:b", 2):
                pass
        with limiter.slot("key:a", 2):
            pass


def test_a_refusal_says_what_and_when(limiter: Limiter) -> None:
    """It is a 429 with a Retry-After, and a text that tells what to do."""
    with limiter.slot("key:a", 1):
        error = refused(limiter, "key:a", 1)

    assert error.code is ErrorCode.RATE_LIMITED
    assert error.retry_after == 1.0
    assert "at most 1" in error.message


def test_a_refusal_takes_no_slot(limiter: Limiter) -> None:
    """However many are refused, the one that ends makes room for exactly one."""
    with limiter.slot("key:a", 1):
        for _ in range(3):
            refused(limiter, "key:a", 1)

    with limiter.slot("key:a", 1):
        refused(limiter, "key:a", 1)
    assert limiter.busy == 0


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
def test_a_slot_is_released_on_every_way_out(limiter: Limiter, error: type[BaseException]) -> None:
    """An error or a cancellation inside lets go of it, and nothing of it stays behind."""
    with pytest.raises(error), limiter.slot("key:a", 1):
        raise error

    assert limiter.busy == 0
    with limiter.slot("key:a", 1):
        assert limiter.busy == 1


async def test_a_cancelled_task_releases_its_slot(limiter: Limiter) -> None:
    """As it is when a client goes away in the middle of a turn."""
    inside = asyncio.Event()

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


def test_without_a_limit_slots_are_still_counted(limiter: Limiter) -> None:
    """A limit that comes with a reload knows of the turns that are open."""
    with limiter.slot("key:a", None), limiter.slot("key:a", None):
        refused(limiter, "key:a", 2)
        with limiter.slot("key:a", 3):
            pass

    assert limiter.busy == 0


def test_a_look_takes_nothing(limiter: Limiter) -> None:
    """Of whom nothing is known, the bucket is full and no slot is held; a look keeps nothing."""
    assert limiter.look("key:a", STANDARD, 0.0).remaining == 100
    assert limiter.subjects == limiter.held("key:a") == 0

    limiter.take("key:a", STANDARD, 0.0)
    with limiter.slot("key:a", None), limiter.slot("key:a", None):
        assert limiter.held("key:a") == 2
        assert [limiter.look("key:a", STANDARD, 0.0).remaining for _ in range(2)] == [99, 99]
    assert limiter.held("key:a") == 0
