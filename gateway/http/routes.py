"""The public paths and what answers at each."""

import time
from collections.abc import Awaitable

from aiohttp import web

from gateway.core.codec import Dialect
from gateway.dialects.openai import OPENAI
from gateway.http.connection import OUTERMOST
from gateway.http.front import FRONT, Front
from gateway.http.middleware import EXCHANGE, Handler, Outermost
from gateway.http.paths import RECORDS, Paths
from gateway.observe.exchange import Exchange, Operation
from gateway.proxy.models import ModelRequests
from gateway.proxy.pipeline import Pipeline
from gateway.proxy.records import RecordRequests
from gateway.proxy.resuming import Resumption
from gateway.wire import json

_CHAT = Operation.CHAT


def build_public(
    paths: Paths,
    pipeline: Pipeline,
    records: RecordRequests,
    models: ModelRequests,
    resumption: Resumption,
    outermost: Outermost,
) -> web.Application:
    """The application of the public listener."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await outermost(request, handler)

    # aiohttp's limit of a body is the application's, and ours may change with a reload.
    app = web.Application(middlewares=[middleware], client_max_size=0)
    app[OUTERMOST] = outermost
    app[FRONT] = front = Front(outermost)
    for path, dialect in paths.chats.items():
        app.router.add_post(path, _chat(pipeline, dialect, front, paths))
    for root, dialect in paths.roots.items():
        for method, path, operation in RECORDS:
            retried = operation is Operation.RETRY
            handler = _retry(pipeline, dialect) if retried else _record(records, dialect, operation)
            app.router.add_route(method, root + path, handler)
    for path, dialect in paths.streams.items():
        app.router.add_route("GET", path, _resume(resumption, dialect))
    for path in (paths.models, paths.models + "/{model}"):
        app.router.add_get(path, _models(models))
    app.router.add_get(paths.health, _health)
    return app


def _chat(pipeline: Pipeline, dialect: Dialect, front: Front, paths: Paths) -> Handler:
    def chat(request: web.Request, exchange: Exchange) -> Awaitable[web.StreamResponse]:
        exchange.operation = _CHAT
        return pipeline.chat(request, dialect, request.match_info.get("agent"), exchange)

    async def handler(request: web.Request) -> web.StreamResponse:
        front.learn(request, paths.dialect_of(request.path), chat)
        return await chat(request, request[EXCHANGE])

    return handler


def _retry(pipeline: Pipeline, dialect: Dialect) -> Handler:
    async def retry(request: web.Request) -> web.StreamResponse:
        agent, conversation = request.match_info["agent"], request.match_info["conversation"]
        exchange = _exchange(request, Operation.RETRY)
        return await pipeline.retry(request, dialect, agent, conversation, exchange)

    return retry


def _record(records: RecordRequests, dialect: Dialect, operation: Operation) -> Handler:
    async def record(request: web.Request) -> web.StreamResponse:
        exchange = _exchange(request, operation)
        return await records.serve(operation, request, dialect, exchange)

    return record


def _resume(resumption: Resumption, dialect: Dialect) -> Handler:
    async def resume(request: web.Request) -> web.StreamResponse:
        exchange = _exchange(request, Operation.RESUME)
        return await resumption.serve(request, dialect, exchange)

    return resume


def _models(models: ModelRequests) -> Handler:
    async def listed(request: web.Request) -> web.StreamResponse:
        return models.serve(request, OPENAI, _exchange(request, Operation.MODELS))

    return listed


def _exchange(request: web.Request, operation: Operation) -> Exchange:
    exchange = request[EXCHANGE]
    exchange.operation = operation
    return exchange


async def _health(_request: web.Request) -> web.Response:
    body = json.dumps({"status": "ok", "timestamp": int(time.time())})
    return web.Response(body=body, content_type="application/json")
