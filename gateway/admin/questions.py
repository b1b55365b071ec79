"""What operators look up on the admin listener, as JSON that can be read as it stands."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from gateway.admin.access import refused
from gateway.admin.sharing import Shared
from gateway.admin.status import Status
from gateway.admin.tasks import described
from gateway.core.events import Json
from gateway.wire import json

_NO_KEY = "the configuration has no key of this id"
_NO_REQUEST = "no request of this id is open, nor one of the last that failed: look into the log"

_Handler = Callable[[web.Request], Awaitable[web.Response]]


def add_questions(app: web.Application, status: Status) -> None:
    """`/status` (all of it), `/status/keys/{id}` and `/status/requests/{id}` (one of them), and
    `/debug/tasks` (what the event loop has to do)."""

    documents: Shared[dict[str, Json]] = Shared()

    async def whole(_request: web.Request) -> web.Response:
        # In a thread, as a scrape is: with thousands of agents it takes longer than a stream may
        # wait.
        return _answer(await documents.of("status", status.whole))

    async def tasks(_request: web.Request) -> web.Response:
        return _answer(await asyncio.to_thread(described, asyncio.all_tasks()))

    app.router.add_get("/status", whole)
    app.router.add_get("/status/keys/{id}", _one(status.key, _NO_KEY))
    app.router.add_get("/status/requests/{id}", _one(status.request, _NO_REQUEST))
    app.router.add_get("/debug/tasks", tasks)


def _one(find: Callable[[str], dict[str, Json] | None], missing: str) -> _Handler:
    async def one(request: web.Request) -> web.Response:
        found = find(request.match_info["id"])
        return refused(404, "not_found", missing) if found is None else _answer(found)

    return one


def _answer(said: dict[str, Json]) -> web.Response:
    return web.Response(
        text=json.dumps_indented(said),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )
