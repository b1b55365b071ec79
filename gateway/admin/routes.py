"""What operators and orchestrators ask."""

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import hdrs, web

from gateway.admin.sharing import Shared
from gateway.admin.status import told
from gateway.observe.exposition import Exposition, exposition, preferred
from gateway.observe.metrics import Metrics
from gateway.reload.reloader import Outcome
from gateway.wire import json


def build_admin(
    metrics: Metrics,
    fault: Callable[[], Awaitable[str | None]],
    reload: Callable[[], Awaitable[Outcome]],
    gather: Callable[[], Awaitable[None]] | None = None,
) -> web.Application:
    """`/metrics` (once they have been gathered), `/healthz` (the process answers), `/readyz` (it
    wants traffic, unless there is a `fault`), and `/reload` (the configuration is read anew, which
    the answer tells of)."""

    scrapes: Shared[Exposition] = Shared()

    async def scraped(request: web.Request) -> web.Response:
        if gather is not None:
            await gather()
        # With a hundred agents it takes longer than a stream may wait.
        form = preferred(request.headers.get(hdrs.ACCEPT, ""))
        answer = await scrapes.of(form, partial(exposition, metrics.registry, form))
        return web.Response(body=answer.body, headers={"Content-Type": answer.content_type})

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        if problem := await fault():
            return web.Response(text=f"no: {problem}\n", status=503)
        return web.Response(text="ready\n")

    async def reloaded(_request: web.Request) -> web.Response:
        outcome = await reload()
        return web.Response(
            status=422 if outcome.problems else 200,
            body=json.dumps(told(outcome)),
            content_type="application/json",
        )

    app = web.Application()
    app.router.add_get("/metrics", scraped)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_post("/reload", reloaded)
    return app
