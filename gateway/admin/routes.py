"""What operators and orchestrators ask."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.observe.metrics import Metrics


def build_admin(metrics: Metrics, fault: Callable[[], Awaitable[str | None]]) -> web.Application:
    """`/metrics`, `/healthz` (the process answers) and `/readyz` (it wants traffic, unless there is
    a `fault`)."""

    async def exposition(_request: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        if problem := await fault():
            return web.Response(text=f"no: {problem}\n", status=503)
        return web.Response(text="ready\n")

    app = web.Application()
    app.router.add_get("/metrics", exposition)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
