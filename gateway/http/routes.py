"""The public paths and what answers at each."""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.core.codec import Dialect
from gateway.http.connection import OUTERMOST
from gateway.http.middleware import EXCHANGE, Outermost
from gateway.http.paths import CHAT_PATHS, HEALTH_PATH
from gateway.proxy.pipeline import Pipeline
from gateway.wire import json


def build_public(pipeline: Pipeline, outermost: Outermost, max_body: int) -> web.Application:
    """The application of the public listener."""

    @web.middleware
    async def middleware(
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        return await outermost(request, handler)

    app = web.Application(middlewares=[middleware], client_max_size=max_body)
    app[OUTERMOST] = outermost
    for path, dialect in CHAT_PATHS.items():
        app.router.add_post(path, _chat(pipeline, dialect))
    app.router.add_get(HEALTH_PATH, _health)
    return app


def _chat(
    pipeline: Pipeline, dialect: Dialect
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def chat(request: web.Request) -> web.StreamResponse:
        agent = request.match_info.get("agent")
        return await pipeline.chat(request, dialect, agent, request[EXCHANGE])

    return chat


async def _health(_request: web.Request) -> web.Response:
    body = json.dumps({"status": "ok", "timestamp": int(time.time())})
    return web.Response(body=body, content_type="application/json")
