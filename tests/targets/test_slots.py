"""Slots and their queue: never more than the limit, first come first served, and nothing leaks
whenever somebody leaves."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.upstreams import Queue
from gateway.core.errors import ErrorCode, GatewayError
from gateway.targets.slots import Slots
from tests.targets.making import queue

QUEUE = queue()


def taken(slots: Slots, times: int) -> Slots:
    for _ in range(times):
        slots.take()
    return slots


async def settle() -> None:
    """Let everything run that can: nothing here needs more rounds of the loop than this."""
    for _ in range(5):
        await asyncio.sleep(0)


async def waiting(slots: Slots, limit: int, by: Queue = QUEUE) -> asyncio.Task[None]:
    """One more in the queue."""
    task = asyncio.create_task(slots.wait(limit, by))
    await settle()
    return task


async def refused(task: asyncio.Task[None]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await task
    assert caught.value.code is ErrorCode.UPSTREAM_BUSY
    return caught.value


@pytest.mark.parametrize(
    ("in_use", "limit", "free"),
    [(0, 1, True), (1, 1, False), (4, 5, True), (5, 5, False), (6, 5, False), (10**6, None, True)],
)
def test_what_is_free(in_use: int, limit: int | None, free: bool) -> None:
    """More may be taken than the limit: it was higher, or another agent has a higher one."""
    assert taken(Slots(), in_use).free(limit) is free


async def test_first_come_first_served() -> None:
    """And each that is given back lets one in."""
    slots, served = taken(Slots(), 1), list[int]()

    async def turn(number: int) -> None:
        await slots.wait(1, QUEUE)
        served.append(number)

    tasks = [asyncio.create_task(turn(number)) for number in range(5)]
    await settle()
    for expected in range(5):
        assert served == list(range(expected))
        slots.give_back()
        await settle()
    await asyncio.gather(*tasks)

    assert (served, slots.taken, slots.waiting) == ([0, 1, 2, 3, 4], 1, 0)


async def test_nobody_overtakes_who_waits() -> None:
    """Not even in the moment between a slot's return and its next holder's going on."""
    slots = taken(Slots(), 1)
    first = await waiting(slots, 1)
    slots.give_back()

    assert not slots.free(1)
    await first
    assert slots.taken == 1


async def test_what_has_become_free_meanwhile_is_taken_at_once() -> None:
    """Nobody would give back what nobody holds: it would be waited for in vain."""
    slots = Slots()
    await slots.wait(1, queue(size=0))

    assert slots.taken == 1


async def test_a_full_queue_refuses_at_once() -> None:
    """With a word on when to come back."""
    slots, by = taken(Slots(), 1), queue(size=2, timeout=60.0)
    tasks = [await waiting(slots, 1, by) for _ in range(2)]

    error = await refused(asyncio.create_task(slots.wait(1, by)))

    assert error.retry_after == 60.0
    assert slots.waiting == 2
    for _ in tasks:
        slots.give_back()
    await asyncio.gather(*tasks)


async def test_no_queue_at_all() -> None:
    """`size = 0`: the limit is a hard one."""
    slots = taken(Slots(), 1)

    await refused(asyncio.create_task(slots.wait(1, queue(size=0))))

    assert (slots.taken, slots.waiting) == (1, 0)


async def test_a_wait_that_is_too_long() -> None:
    """It leaves the queue to those behind."""
    slots = taken(Slots(), 1)
    behind = asyncio.create_task(slots.wait(1, queue(timeout=0.01)))

    error = await refused(behind)

    assert error.retry_after == 1.0  # a Retry-After of 0 would be no wait
    assert (slots.taken, slots.waiting) == (1, 0)
    slots.give_back()
    assert slots.free(1)


async def test_different_limits() -> None:
    """An agent with a lower one waits for its own, and those behind it wait with it."""
    slots = taken(Slots(), 3)
    low, high = await waiting(slots, 2), await waiting(slots, 4)
    assert not slots.free(4)

    slots.give_back()
    await settle()
    assert (slots.taken, low.done(), high.done()) == (2, False, False)
    slots.give_back()
    await asyncio.gather(low, high)
    assert slots.taken == 3


async def test_who_waited_behind_a_lower_limit_goes_on_when_that_one_leaves() -> None:
    """There was room for it all the time."""
    slots = taken(Slots(), 3)
    low, high = await waiting(slots, 2), await waiting(slots, 4)

    low.cancel()
    await asyncio.wait([low])
    await high

    assert (slots.taken, slots.waiting) == (4, 0)


async def test_who_leaves_just_as_its_turn_comes() -> None:
    """The slot goes on to the next."""
    slots = taken(Slots(), 1)
    first, second = await waiting(slots, 1), await waiting(slots, 1)

    slots.give_back()
    first.cancel()
    await asyncio.wait([first])
    await second

    assert first.cancelled()
    assert (slots.taken, slots.waiting) == (1, 0)


async def test_who_has_just_left_gets_no_turn() -> None:
    """It is still in the queue, as its coroutine has not run since."""
    slots = taken(Slots(), 1)
    first, second = await waiting(slots, 1), await waiting(slots, 1)

    first.cancel()
    slots.give_back()
    await asyncio.wait([first])
    await second

    assert first.cancelled()
    assert (slots.taken, slots.waiting) == (1, 0)


async def test_who_leaves_from_the_middle_makes_room() -> None:
    """At once, and not when its turn would have come."""
    slots, by = taken(Slots(), 1), queue(size=3)
    first, second, third = [await waiting(slots, 1, by) for _ in range(3)]

    second.cancel()
    await asyncio.wait([second])
    assert slots.waiting == 2
    last = await waiting(slots, 1, by)
    for task in (first, third, last):
        slots.give_back()
        await task
    assert (slots.taken, slots.waiting) == (1, 0)


async def test_all_leave_at_once() -> None:
    """The last of them as a slot comes back."""
    slots = taken(Slots(), 1)
    tasks = [await waiting(slots, 1) for _ in range(3)]

    for task in tasks:
        task.cancel()
    slots.give_back()
    await asyncio.wait(tasks)

    assert (slots.taken, slots.waiting) == (0, 0)
    assert slots.free(1)


# What can happen to a crowd; of whom or how many is drawn as well. None: the loop runs.
STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "end", "leave", "run"]), st.integers(0, 30)), max_size=80
)


class Crowd:
    """Turns that come, wait, run and leave, and what must hold of them at every moment."""

    def __init__(self, limits: list[int], size: int) -> None:
        self.slots, self.limits, self.queue = Slots(), limits, queue(size=size)
        self.tasks: list[asyncio.Task[None]] = []
        self.running = 0
        self.ends: list[asyncio.Event] = []

    async def turn(self, limit: int) -> None:
        await self.slots.wait(limit, self.queue)
        self.running += 1
        assert self.running <= max(self.limits)
        end = asyncio.Event()
        self.ends.append(end)
        try:
            await end.wait()
        finally:
            self.running -= 1
            self.ends.remove(end)
            self.slots.give_back()

    async def step(self, what: str, which: int) -> None:
        if what == "come":
            limit = self.limits[which % len(self.limits)]
            self.tasks.append(asyncio.create_task(self.turn(limit)))
        elif what == "end" and self.ends:
            self.ends[which % len(self.ends)].set()
        elif what == "leave" and self.tasks:
            self.tasks[which % len(self.tasks)].cancel()
        elif what == "run":
            await asyncio.sleep(0)
        assert self.slots.taken <= max(self.limits)
        assert self.slots.waiting <= self.queue.size

    async def go_home(self) -> list[BaseException | None]:
        """Whoever is still there runs to its end."""
        while not all(task.done() for task in self.tasks):
            for end in self.ends:
                end.set()
            await asyncio.sleep(0)
        return await asyncio.gather(*self.tasks, return_exceptions=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 5), STEPS)
async def test_whatever_happens_nothing_leaks(
    limits: list[int], size: int, steps: list[tuple[str, int]]
) -> None:
    """Never more than the limit, never more than the queue holds, and in the end all is free."""
    crowd = Crowd(limits, size)
    for what, which in steps:
        await crowd.step(what, which)
    ends = await asyncio.wait_for(crowd.go_home(), 30)

    for end in ends:
        assert end is None or isinstance(end, asyncio.CancelledError | GatewayError), repr(end)
    assert (crowd.slots.taken, crowd.slots.waiting) == (0, 0)
    assert all(crowd.slots.free(limit) for limit in limits)


@pytest.mark.parametrize("seed", range(5))
async def test_timeouts_among_ends_leak_nothing(seed: int) -> None:
    """Waits that run out just as slots come back."""
    chance, slots, running = Random(seed), Slots(), 0

    async def turn() -> None:
        nonlocal running
        try:
            await slots.wait(2, queue(timeout=0.002))
        except GatewayError:
            return
        running += 1
        assert running <= 2
        await asyncio.sleep(chance.choice([0, 0.001, 0.002]))
        running -= 1
        slots.give_back()

    await asyncio.wait_for(asyncio.gather(*(turn() for _ in range(200))), 60)

    assert (slots.taken, slots.waiting, running) == (0, 0, 0)


async def crowd(slots: Slots, by: Queue, size: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(slots.wait(1, by)) for _ in range(size)]
    await settle()
    return tasks


async def test_a_crowd_is_refused_and_not_kept() -> None:
    """Of 10,000, as many wait as may, and the others know at once."""
    slots = taken(Slots(), 1)
    tasks = await crowd(slots, queue(size=100), 10_000)

    assert slots.waiting == 100
    assert sum(task.done() for task in tasks) == 9900
    for _ in range(100):
        slots.give_back()
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert ends[:100] == [None] * 100
    assert all(isinstance(end, GatewayError) for end in ends[100:])
    assert slots.taken == 1


@pytest.mark.parametrize("order", [1, -1])
async def test_a_long_queue_that_leaves_all_at_once(order: int) -> None:
    """10,000, from either end: none of them stays."""
    slots = taken(Slots(), 1)
    tasks = await crowd(slots, queue(size=10_000), 10_000)
    assert slots.waiting == 10_000

    for task in tasks[::order]:
        task.cancel()
    await asyncio.wait(tasks)

    assert (slots.taken, slots.waiting) == (1, 0)
