"""What several workers answer, and what is said where they do not."""

import asyncio
from typing import Any

import pytest

from gateway.config.problems import Problem
from gateway.core.events import Json
from gateway.observe.metrics import Metrics
from gateway.reload.reloader import Outcome
from gateway.workers.channel import NoAnswer
from gateway.workers.crew import Crew
from gateway.workers.parts import Part

WRONG: Json = {"ok": False, "problems": [{"where": "a", "problem": "b", "found": "c"}]}
RIGHT: Json = {"ok": True, "needs_restart": ["server.port"]}
SILENT = object()


class Answering:
    """A worker in its slot, with what it answers to everything."""

    restarts = 0

    def __init__(self, number: int, answer: Any, *, ready: bool = True) -> None:
        self.part = Part(number, 3)
        self.ready = ready
        self.process = self
        self.channel = self
        self.pid = number
        self._answer = answer

    async def ask(self, _name: str, _value: Json, *, within: float) -> Json:
        await asyncio.sleep(0)
        if self._answer is SILENT:
            raise NoAnswer
        answer: Json = self._answer
        return answer


def crew(*answers: Any) -> Crew:
    slots: Any = [Answering(number, answer) for number, answer in enumerate(answers, 1)]
    return Crew(slots, Metrics(), dict)


async def test_a_reload_of_all() -> None:
    """What all of them say is said once."""
    assert await crew(RIGHT, RIGHT).reload() == Outcome(needs_restart=("server.port",))
    assert await crew(WRONG, WRONG).reload() == Outcome((Problem("a", "b", "c"),))


async def test_a_reload_of_some() -> None:
    """What is wrong comes with the worker that says so; silence is no success."""
    assert await crew(RIGHT, WRONG).reload() == Outcome(
        (Problem("a", "worker 2: b", "c"),), ("server.port",)
    )
    silent = await crew(RIGHT, SILENT).reload()
    assert [problem.text for problem in silent.problems] == [
        "worker 2: a worker did not answer: the log may say why"
    ]
    nobody = await crew(SILENT, SILENT).reload()
    assert [problem.where for problem in nobody.problems] == [""]


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ((None, "no store"), None),
        (("no store", "no store"), "no store"),
        (("no store", SILENT), "no store"),
        ((SILENT, SILENT), "no worker answers"),
        ((None, SILENT), None),
    ],
)
async def test_readiness(answers: tuple[Any, ...], fault: str | None) -> None:
    """One that serves is enough; those that say nothing do not count."""
    assert await crew(*answers).fault() == fault


class Hanging(Answering):
    """One that would answer in an hour."""

    def __init__(self, number: int) -> None:
        super().__init__(number, None)
        self.left = asyncio.Event()

    async def ask(self, _name: str, _value: Json, *, within: float) -> Json:
        try:
            await asyncio.sleep(3600)
        finally:
            self.left.set()
        return None


async def test_readiness_beside_one_that_hangs() -> None:
    """A probe has its answer with the first good one, and nobody goes on waiting for the other."""
    hanging = Hanging(1)
    slots: Any = [hanging, Answering(2, SILENT), Answering(3, None)]
    async with asyncio.timeout(30):
        assert await Crew(slots, Metrics(), dict).fault() is None
        await hanging.left.wait()


async def test_how_many_answer() -> None:
    """A scrape asks all that are ready; one that hangs or is not there does not count."""
    counted = Metrics().take_report()
    slots: Any = [
        Answering(1, counted),
        Answering(2, SILENT),
        Answering(3, counted, ready=False),
        Answering(4, counted),
    ]
    asked = Crew(slots, Metrics(), dict)
    await asked.gather()
    assert asked.answering == 2
    slots[3].ready = False
    await asked.gather()
    assert asked.answering == 1


async def test_nobody_there() -> None:
    """There is none, or none serves yet."""
    slots: Any = [Answering(1, None, ready=False)]
    assert await Crew(slots, Metrics(), dict).fault() == "no worker answers"
    assert await Crew(slots, Metrics(), dict).key("web") is None
    assert await Crew([], Metrics(), dict).request("r") is None
    outcome = await Crew(slots, Metrics(), dict).reload()
    assert outcome.problems
