"""A listener: one aiohttp application on one address."""

import os

from aiohttp import web

# After an early refusal (413), how long a client that goes on sending is listened to, so that it
# reads the refusal instead of a reset.
_LINGER = 2.0

_BACKLOG = 8192

# What is still running after the turns were drained has had its time.
_SHUTDOWN = 1.0


class CannotListen(Exception):
    """An address cannot be had; says which one, where it is configured, and why."""


class Listener:
    """Serves an application until it is stopped. `section` is the config's name for it."""

    def __init__(self, app: web.Application, section: str, host: str, port: int) -> None:
        self._section = section
        self._host = host
        self._port = port
        self._runner = web.AppRunner(
            app,
            access_log=None,
            # Off by default in aiohttp: without it a handler whose client has gone goes on, and
            # the upstream with it, until the upstream speaks.
            handler_cancellation=True,
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
