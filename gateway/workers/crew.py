"""What the supervisor's admin listener answers: what its workers say, as one."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from gateway.config.problems import Problem
from gateway.core.events import Json
from gateway.observe.metrics import Metrics
from gateway.reload.reloader import Outcome
from gateway.wire import json
from gateway.workers.channel import NoAnswer
from gateway.workers.merging import Document, Said, merged_request, merged_status, merged_tasks
from gateway.workers.slot import Slot

# Seconds that a worker may take. A reload reads files, and waits for key sets that are new to it.
_QUICK, _SLOW = 3.0, 10.0

_SILENT = Problem("", "a worker did not answer: the log may say why")


class Crew:
    """All workers, asked together. `about` is what the supervisor knows itself."""

    def __init__(
        self, slots: Sequence[Slot], metrics: Metrics, about: Callable[[], Document]
    ) -> None:
        self._slots = slots
        self._metrics = metrics
        self._about = about
        self.answering = 0
        """How many said what they have counted when they were asked last. One that hangs is ready
        all the same, and the kernel goes on dealing connections out to it."""

    async def fault(self) -> str | None:
        """Why none of them wants traffic; None as soon as one says that it does, for a probe does
        not wait for as long as one that hangs."""
        asked = [asyncio.ensure_future(_fault(slot)) for slot in self._slots if slot.ready]
        try:
            return await _unanimous(asked)
        finally:
            for answer in asked:
                answer.cancel()

    async def gather(self) -> None:
        """Have what they have counted in the metrics, as it is now."""
        ready = [slot for slot in self._slots if slot.ready]
        said = await asyncio.gather(*map(self._absorb, ready), return_exceptions=True)
        self.answering = sum(each is None for each in said)

    async def reload(self) -> Outcome:
        """What became of it in all of them."""
        said = await self._documents("reload", within=_SLOW)
        outcomes = {number: _outcome(document) for number, document in said.items()}
        for slot in self._slots:
            if slot.ready and slot.part.number not in outcomes:
                outcomes[slot.part.number] = Outcome((_SILENT,))
        if not outcomes:
            return Outcome((_SILENT,))
        same = len(set(outcomes.values())) == 1
        return next(iter(outcomes.values())) if same else _together(outcomes)

    async def whole(self) -> Document:
        said = await self._documents("status")
        return {**self._about(), "workers": self._workers(said), **merged_status(said)}

    async def key(self, key_id: str) -> Document | None:
        """Any of them knows all of it: they count together."""
        said = await self._documents("key", key_id)
        return next(iter(said.values()), None)

    async def request(self, request_id: str) -> Document | None:
        return merged_request(await self._documents("request", request_id))

    async def tasks(self) -> Document:
        return merged_tasks(await self._documents("tasks"))

    async def _absorb(self, slot: Slot) -> None:
        process = slot.process
        report = await _ask(slot, "report", None, _QUICK)
        if slot.process is process:  # it has not died meanwhile
            self._metrics.absorb(report, str(slot.part.number))

    def _workers(self, said: Said) -> list[Json]:
        return [_worker(slot, said.get(slot.part.number)) for slot in self._slots]

    async def _documents(
        self, name: str, value: Json = None, *, within: float = _QUICK
    ) -> dict[int, Document]:
        """Of those that have something to say."""
        said = await self._all(name, value, within=within)
        return {number: json.mapping(answer) for number, answer in said.items() if answer}

    async def _all(
        self, name: str, value: Json = None, *, within: float = _QUICK
    ) -> dict[int, Json]:
        """The answers of those that give one, by their numbers."""
        ready = [slot for slot in self._slots if slot.ready]
        asked = (_ask(slot, name, value, within) for slot in ready)
        answers: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        return {
            slot.part.number: answer
            for slot, answer in zip(ready, answers, strict=True)
            if not isinstance(answer, BaseException)
        }


async def _ask(slot: Slot, name: str, value: Json, within: float) -> Json:
    if slot.process is None:
        raise NoAnswer
    return await slot.process.channel.ask(name, value, within=within)


async def _fault(slot: Slot) -> str | None:
    """Why this one wants no traffic: "" if it does not say."""
    try:
        said = await _ask(slot, "fault", None, _QUICK)
    except NoAnswer:
        return ""
    return None if said is None else json.text(said)


async def _unanimous(asked: Sequence["asyncio.Future[str | None]"]) -> str | None:
    """What is wrong by all of them; None with the first one that nothing is."""
    fault = ""
    for answer in asyncio.as_completed(asked):
        said = await answer
        if said is None:
            return None
        fault = fault or said
    return fault or "no worker answers"


def _worker(slot: Slot, said: Document | None) -> Json:
    process = slot.process
    return {
        "worker": slot.part.number,
        "pid": process.pid if process else None,
        "ready": slot.ready,
        "restarts": slot.restarts,
        "answers": said is not None,
        **{name: said[name] for name in ("started", "uptime", "draining", "config") if said},
    }


def _outcome(said: Document) -> Outcome:
    problems = [json.mapping(each) for each in json.array(said.get("problems"))]
    return Outcome(
        tuple(
            Problem(*(json.text(each.get(part)) for part in ("where", "problem", "found")))
            for each in problems
        ),
        tuple(map(json.text, json.array(said.get("needs_restart")))),
    )


def _together(outcomes: dict[int, Outcome]) -> Outcome:
    """They do not say the same: what is wrong, with the worker that says so."""
    problems = tuple(
        Problem(each.where, f"worker {number}: {each.text}", each.found)
        for number, outcome in sorted(outcomes.items())
        for each in outcome.problems
    )
    named = dict.fromkeys(name for outcome in outcomes.values() for name in outcome.needs_restart)
    return Outcome(problems, tuple(named))
