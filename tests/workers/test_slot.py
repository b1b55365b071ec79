"""How soon a worker takes another one's place."""

import asyncio
import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from socket import socket, socketpair
from typing import Any

import pytest

from gateway.observe.logs import build_logger
from gateway.workers import slot as slots
from gateway.workers.parts import Part
from gateway.workers.process import Failure, WorkerProcess
from gateway.workers.slot import Slot

FIRST, LONGEST = 0.02, 0.16


class Dying:
    """A worker's process that is gone as soon as it is there."""

    pid = 1

    def __init__(self, age: float, failure: Failure | None) -> None:
        self.age = age
        self.begun: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self.begun.set_result(failure)
        self.ready = failure is None

    async def ended(self) -> str:
        await asyncio.sleep(0)
        return "status 1"


class Place:
    """A slot whose workers die, and what was noted of it."""

    def __init__(self, age: float = 0.0, failure: Failure | None = None, until: int = 6) -> None:
        self.starts: list[float] = []
        self.sockets: list[Sequence[socket]] = []
        self.made: list[socket] = []
        self._died = (age, failure)
        self._until = until
        self.serving = asyncio.Event()
        self.slot = Slot(
            Part(1, 2),
            sockets=self._sockets,
            start=self._start,
            ended=lambda _: None,
            serving=self.serving,
            logger=build_logger(stream=io.BytesIO()),
        )

    def _sockets(self) -> list[socket]:
        pair = list(socketpair())
        self.made += pair
        return pair

    async def _start(
        self, _part: Part, sockets: Sequence[socket], _leaving: Callable[[], None]
    ) -> WorkerProcess:
        self.starts.append(asyncio.get_running_loop().time())
        self.sockets.append(sockets)
        if len(self.starts) == self._until:
            self.slot._leaving.set()
        died: Any = Dying(*self._died)
        if len(self.starts) == self._until:
            died.channel = Deaf()
        found: WorkerProcess = died
        return found

    def waits(self) -> list[float]:
        return [after - before for before, after in pairwise(self.starts)]


class Deaf:
    def tell(self, _name: str) -> None:
        pass


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, shorter."""
    monkeypatch.setattr(slots, "_FIRST_WAIT", FIRST)
    monkeypatch.setattr(slots, "_LONGEST_WAIT", LONGEST)
    monkeypatch.setattr(slots, "_KEPT_WAITING", 4 * FIRST)


async def test_dying_young_again_and_again() -> None:
    """The first time there is another one at once, then later and later."""
    place = Place(until=7)
    place.serving.set()
    await place.slot.run()

    waits = place.waits()
    assert len(waits) == 6
    assert waits[0] < waits[-1]
    for nth, wait in enumerate(waits[1:]):
        assert wait >= min(LONGEST, FIRST * 2**nth) / 2
    assert place.slot.restarts == 6


async def test_dying_old() -> None:
    """Whatever it was, the next one may live as long."""
    place = Place(age=1e6)
    place.serving.set()
    async with asyncio.timeout(20):
        await place.slot.run()

    assert place.slot.restarts == 5
    assert sum(place.waits()) < LONGEST * 5


async def test_nobody_follows_before_it_serves() -> None:
    """What keeps the first ones from starting is told once, and is not tried again."""
    place = Place(failure=Failure("no store", 1))
    running = asyncio.ensure_future(place.slot.run())
    assert await place.slot.begun == Failure("no store", 1)
    place.slot.leave()
    await running

    assert len(place.starts) == 1
    assert place.slot.restarts == 0


async def test_sockets_are_handed_on() -> None:
    """To the next one, which serves those who wait there, as long as that is soon; nobody waits for
    one that may never serve. None is left open."""
    served, failing = Place(until=6), Place(failure=Failure("no file", 2), until=3)
    for place in (served, failing):
        place.serving.set()
        await place.slot.run()

    first, second, third, *_, last = served.sockets
    assert first is second is third
    assert last is not first
    assert failing.sockets[0] is not failing.sockets[1]
    assert all(sock.fileno() < 0 for place in (served, failing) for sock in place.made)


@pytest.mark.parametrize("step", ["_start", "_make_sockets"])
async def test_one_that_cannot_even_be_started(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory, no room for another process, or for another open file."""
    place = Place()

    def failing(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(place.slot, step, failing)
    running = asyncio.ensure_future(place.slot.run())
    async with asyncio.timeout(20):
        assert await place.slot.begun == Failure(
            "a worker cannot be started: cannot allocate memory", 1
        )
    place.slot.leave()
    await running
    assert all(sock.fileno() < 0 for sock in place.made)
