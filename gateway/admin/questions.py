"""What operators look up on the admin listener, as JSON that can be read as it stands."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import hdrs, web

from gateway.admin.access import refused
from gateway.admin.sharing import Shared
from gateway.admin.status import Status
from gateway.admin.tasks import described
from gateway.core.events import Json
from gateway.wire import json

_NO_KEY = "the configuration has no key of this id"
_NO_REQUEST = "no request of this id is open, nor one of the last that failed: look into the log"

_Document = dict[str, Json]
_Handler = Callable[[web.Request], Awaitable[web.Response]]


class Answers(Protocol):
    """Who knows: this process, or those that it asks."""

    async def whole(self) -> _Document:
        """All of it but what is asked by name."""
        ...

    async def key(self, key_id: str) -> _Document | None: ...

    async def request(self, request_id: str) -> _Document | None: ...

    async def tasks(self) -> _Document:
        """What event loops have to do."""
        ...


class OwnAnswers:
    """Those of this process."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._documents: Shared[_Document] = Shared()

    async def whole(self) -> _Document:
        # In a thread, as a scrape is: with thousands of agents it takes longer than a stream may
        # wait.
        return await self._documents.of("status", self._status.whole)

    async def key(self, key_id: str) -> _Document | None:
        return self._status.key(key_id)

    async def request(self, request_id: str) -> _Document | None:
        return self._status.request(request_id)

    async def tasks(self) -> _Document:
        return await asyncio.to_thread(described, asyncio.all_tasks())


def add_questions(app: web.Application, answers: Answers) -> None:
    """`/status` (all of it), `/status/keys/{id}` and `/status/requests/{id}` (one of them), and
    `/debug/tasks` (what the event loop has to do)."""
    app.router.add_get("/status", _all(answers.whole))
    app.router.add_get("/status/keys/{id}", _one(answers.key, _NO_KEY))
    app.router.add_get("/status/requests/{id}", _one(answers.request, _NO_REQUEST))
    app.router.add_get("/debug/tasks", _all(answers.tasks))


def _all(ask: Callable[[], Awaitable[_Document]]) -> _Handler:
    async def all_of_it(_request: web.Request) -> web.Response:
        return _answer(await ask())

    return all_of_it


def _one(find: Callable[[str], Awaitable[_Document | None]], missing: str) -> _Handler:
    async def one(request: web.Request) -> web.Response:
        found = await find(request.match_info["id"])
        return refused(404, "not_found", missing) if found is None else _answer(found)

    return one


def _answer(said: _Document) -> web.Response:
    return web.Response(
        text=json.dumps_indented(said),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )
