"""A listener: one aiohttp application on one address."""

from aiohttp import web

# After an early refusal (413), how long a client that goes on sending is listened to, so that it
# reads the refusal instead of a reset.
_LINGER = 2.0

_BACKLOG = 8192


class Listener:
    """Serves an application until it is stopped."""

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._runner = web.AppRunner(
            app,
            access_log=None,
            # Off by default in aiohttp: without it a handler whose client has gone goes on, and
            # the upstream with it, until the upstream speaks.
            handler_cancellation=True,
            lingering_time=_LINGER,
        )

    async def start(self) -> None:
        """Raises `OSError` if the address cannot be had."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=_BACKLOG)
        await site.start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens; the port is the real one, also where any was asked for."""
        name: tuple[str, int] = self._runner.addresses[0]
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"http://{host}:{name[1]}"
