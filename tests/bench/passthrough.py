"""The yardstick: a proxy on aiohttp and uvloop that hands bytes through and does nothing else.

What it costs is what the stack costs. `python -m tests.bench.passthrough MOCK_PORT [PROCESSES]`:
several share the port, as the gateway's workers do.
"""

import asyncio
import os
import socket
import sys

import aiohttp
import uvloop
from aiohttp import web

from tests.bench.process import announce

_BACKLOG = 8192


class Proxy:
    """Every POST goes to the upstream, under the same path."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._upstream, self._other = f"http://127.0.0.1:{port}", f"http://127.0.0.2:{port}"
        self._session = session

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {"Content-Type": request.content_type}
        # A crowd's streams are asked for at another address, for its range of ports.
        crowd = request.path_qs.startswith("/20x")
        url = (self._other if crowd else self._upstream) + request.path_qs
        async with self._session.post(url, data=body, headers=headers) as answer:
            if answer.content_type == "text/event-stream":
                return await _stream(request, answer)
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )


async def _stream(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status)
    response.content_type = answer.content_type
    await response.prepare(request)
    async for data in answer.content.iter_any():
        await response.write(data)
    await response.write_eof()
    return response


async def serve(port: int, own: int, parent: int | None) -> None:
    """On a port of its own, until the process is ended or `parent`, a pipe of its, is."""
    if parent is not None:
        asyncio.get_running_loop().add_reader(parent, os._exit, 0)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
    unlimited = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, timeout=unlimited, auto_decompress=False
    ) as session:
        app = web.Application()
        app.router.add_post("/{path:.*}", Proxy(port, session).answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", own, backlog=_BACKLOG, reuse_port=True).start()
        if parent is None:
            announce("pass-through", own)
        await asyncio.Event().wait()


def main(port: int, processes: int = 1) -> None:
    """`port` is the upstream's."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        reading, writing = os.pipe()
        parent = None
        for _ in range(processes - 1):
            if os.fork() == 0:
                os.close(writing)
                parent = reading
                break
        uvloop.run(serve(port, held.getsockname()[1], parent))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
