"""A listener: one aiohttp application on one address."""

import os

from aiohttp import web

from gateway.http.connection import Runner

# After an early refusal (413), how long a client that goes on sending is listened to, so that it
# reads the refusal instead of a reset.
_LINGER = 2.0

_BACKLOG = 8192

# How long an idle connection is kept: longer than the minute of most proxies in front of us, so
# that none sends a request on a connection that is being closed.
_KEEPALIVE = 75.0

# How long a client may take for a request's head.
_HEAD = 15.0

# What is still running after the turns were drained has had its time.
_SHUTDOWN = 1.0


class CannotListen(Exception):
    """An address cannot be had; says which one, where it is configured, and why."""


class Listener:
    """Serves an application until it is stopped. `section` is the config's name for it."""

    def __init__(
        self,
        app: web.Application,
        section: str,
        host: str,
        port: int,
        *,
        keepalive: float = _KEEPALIVE,
        head_timeout: float = _HEAD,
    ) -> None:
        self._section = section
        self._host = host
        self._port = port
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
        self._site = web.TCPSite(self._runner, self._host, self._port, backlog=_BACKLOG)
        try:
            await self._site.start()
        except OSError as exc:
            await self._runner.cleanup()
            reason = os.strerror(exc.errno).lower() if exc.errno else "no such address"
            raise CannotListen(
                f"cannot listen on {self._host}:{self._port}: {reason}; "
                f"[{self._section}] in the configuration says where else to"
            ) from exc

    async def refuse(self) -> None:
        """Accept no more connections; those that are open go on."""
        await self._site.stop()

    async def stop(self) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens; the port is the real one, also where any was asked for."""
        name: tuple[str, int] = self._runner.addresses[0]
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"http://{host}:{name[1]}"
