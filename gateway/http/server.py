"""A listener: one aiohttp application on one address."""

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence

from aiohttp import web

from gateway.core.errors import GatewayError
from gateway.http.accepting import settle
from gateway.http.runner import Runner
from gateway.http.tls import Handshakes, Site

# After an early refusal (413), how long a client that goes on sending is listened to, so that it
# reads the refusal instead of a reset.
_LINGER = 2.0

_BACKLOG = 8192

# How long an idle connection is kept: longer than the minute of most proxies in front of us, so
# that none sends a request on a connection that is being closed.
_KEEPALIVE = 75.0

# How long one is kept once the gateway is about to leave. Whoever has a request for it within this
# time is served, and told to use another connection for the next one.
_LAST_REQUEST = 1.0

# How often it is looked which connections are idle, while the gateway leaves.
_TICK = 0.02

# How long a client may take for a request's head.
_HEAD = 15.0

# What is still running after the turns were drained has had its time.
_SHUTDOWN = 1.0


class CannotListen(Exception):
    """An address cannot be had; says which one, where it is configured, and why."""

    def __init__(self, section: str, host: str, port: int, exc: OSError) -> None:
        unknown = isinstance(exc, socket.gaierror) or not exc.errno
        reason = "no such address" if unknown else os.strerror(exc.errno or 0).lower()
        super().__init__(
            f"cannot listen on {host}:{port}: {reason}; "
            f"[{section}] in the configuration says where else to"
        )


class Listener:
    """Serves an application until it is stopped, with `handshakes` over TLS. `section` is the
    config's name for it. `sockets`, if there are any, are bound to the address already.

    A stop that loses no request takes several steps: `part`, `refuse`, and `emptied`.
    """

    def __init__(
        self,
        app: web.Application,
        section: str,
        host: str,
        port: int,
        *,
        handshakes: Handshakes | None = None,
        sockets: Sequence[socket.socket] = (),
        keepalive: float = _KEEPALIVE,
        head_timeout: float = _HEAD,
    ) -> None:
        self._section = section
        self._host = host
        self._port = port
        self._handshakes = handshakes
        self._sockets = sockets
        self._url = ""
        self._parting_at = 0.0
        self._patience = _LAST_REQUEST
        self._runner = Runner(
            app,
            access_log=None,
            # A body that unpacks to a thousand times its size would be unpacked on the event loop,
            # also after it was refused.
            auto_decompress=False,
            keepalive_timeout=keepalive,
            head_timeout=head_timeout,
            lingering_time=_LINGER,
            shutdown_timeout=_SHUTDOWN,
        )

    async def start(self) -> None:
        """Raises `CannotListen`."""
        await self._runner.setup()
        try:
            for site in self._sites():
                await site.start()
        except OSError as exc:
            await self._runner.cleanup()
            raise CannotListen(self._section, self._host, self._port, exc) from exc
        self._url = url_at(self._runner.addresses[0], secure=self._handshakes is not None)

    def _sites(self) -> Iterator[Site]:
        context = self._handshakes.context if self._handshakes else None
        for sock in self._sockets or (None,):
            yield Site(
                self._runner,
                self._host,
                self._port,
                sock=sock,
                ssl_context=context,
                backlog=_BACKLOG,
            )

    def part(self) -> None:
        """From now on, each answer is the last on its connection; new ones are still accepted."""
        if not self._parting_at:
            self._runner.part()
            self._parting_at = asyncio.get_running_loop().time()

    async def refuse(self) -> None:
        """Accept no more connections, but for those that the kernel has accepted; those that are
        open go on."""
        self.part()
        await settle(self._runner.listening(), busy=bool(self._runner.connections))
        for site in self._runner.sites:
            await site.stop()

    async def emptied(self) -> None:
        """Until the last client has gone. Who has asked for nothing for a while is let go."""
        loop = asyncio.get_running_loop()
        while self._runner.connections or self._runner.arriving(loop.time() - self._patience):
            now = loop.time()
            for connection in self._runner.connections:
                idle_since = max(self._parting_at, connection.idle_since)
                connection.leave(idle_since + self._patience, now)
            await asyncio.sleep(_TICK)

    def end(self, error: GatewayError) -> None:
        """The time is up: requests that are still arriving are answered with this error, and
        connections without any are closed."""
        self._patience = 0.0
        for connection in self._runner.connections:
            connection.end(error)

    async def stop(self) -> None:
        connections = self._runner.connections
        await self._runner.cleanup()
        for connection in connections:
            connection.hang_up()

    @property
    def url(self) -> str:
        """Where it listens; the port is the real one, also where any was asked for."""
        return self._url


def url_at(name: tuple[str, int], *, secure: bool) -> str:
    """The URL of what listens at a socket of this name."""
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if secure else 'http'}://{host}:{name[1]}"
