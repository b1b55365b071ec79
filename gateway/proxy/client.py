"""HTTP/1.1 to one upstream: a pool of connections and the head that all its requests share."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection
from cachetools import TTLCache

from gateway import __version__
from gateway.config.upstreams import Upstream
from gateway.core.codec import UpstreamRequest
from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.connection import Connection
from gateway.proxy.deadlines import Deadlines
from gateway.proxy.patience import Patience
from gateway.proxy.relay import MESSAGES
from gateway.proxy.remote import RemoteAnswer

# How long a name's addresses are believed, as aiohttp's client does.
_DNS_TTL = 10.0

# RFC 8305: how long one address may take before the next is tried beside it.
_HAPPY_EYEBALLS_DELAY = 0.25

_AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


Trusting = Callable[[bool | str], ssl.SSLContext]
"""From an upstream's `verify` to a context."""


class Client:
    """Connections to one upstream. What it sends is the gateway's own: no header of a caller."""

    def __init__(
        self, upstream: Upstream, credential: str | None, trusting: Trusting | None = None
    ) -> None:
        """`trusting` makes what TLS is spoken with; what it raises passes through."""
        url = urlsplit(upstream.base_url or "")
        trusting = trusting or tls_context
        self._tls = trusting(upstream.verify) if url.scheme == "https" else None
        self._host = url.hostname or ""
        self._port = url.port or (443 if self._tls else 80)
        self._prefix = url.path.rstrip("/")
        self._lines = _lines(_own(url.netloc, upstream.headers) | _authority(upstream, credential))
        self._fields = "".join(self._lines.values())
        self._connect_timeout = upstream.timeouts.connect
        self._keepalive = upstream.keepalive
        self._max_answer = upstream.max_answer
        self._max_connections = upstream.max_connections
        self.deadlines = Deadlines(_too_late)
        """Of the answers whose heads are waited for."""
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._addresses: TTLCache[str, list[_AddrInfo]] = TTLCache(1, _DNS_TTL)

    @property
    def open_connections(self) -> int:
        """In use or idle."""
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        return len(self._idle)

    async def send(
        self, request: UpstreamRequest, request_id: str, connect: float | None = None
    ) -> RemoteAnswer:
        """Send a request; the answer has no head yet: await its `head`. A new connection may take
        `connect` seconds, if not the upstream's own.

        Raises `GatewayError`: `UPSTREAM_UNREACHABLE`, `CONNECT_TIMEOUT`, or `UNAVAILABLE` when
        all connections are taken.
        """
        at_once = self.send_at_once(request, request_id)
        if at_once is not None:
            return at_once
        connection = await self._connect(connect)
        return connection.exchange(self._written(request, request_id), self._max_answer)

    def send_at_once(self, request: UpstreamRequest, request_id: str) -> RemoteAnswer | None:
        """The same, if a connection is idle. Raises `GatewayError(UPSTREAM_UNREACHABLE)`."""
        # The one used last is the least likely to have been given up by the other side.
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection.exchange(self._written(request, request_id), self._max_answer)
        return None

    def close(self) -> None:
        """Close what is idle; what is in use closes with its turn."""
        self._keepalive = 0.0
        self._sweep()

    def _written(self, request: UpstreamRequest, request_id: str) -> bytes:
        head = (
            f"{request.method} {self._prefix}{request.path} HTTP/1.1\r\n"
            f"{self._fields_of(request)}X-Request-Id: {request_id}\r\n"
        )
        if request.method == "GET":
            return f"{head}\r\n".encode("latin-1")
        head += f"Content-Type: application/json\r\nContent-Length: {len(request.body)}\r\n\r\n"
        return head.encode("latin-1") + request.body

    def _fields_of(self, request: UpstreamRequest) -> str:
        if not request.headers:
            return self._fields
        return "".join({**self._lines, **_lines(request.headers)}.values())

    async def _connect(self, within: float | None) -> Connection:
        if len(self._open) >= self._max_connections:
            raise GatewayError(
                ErrorCode.UNAVAILABLE, "all connections to the upstream are in use", retry_after=1.0
            )
        connection = Connection(self._take_back, self._forget)
        self._open.add(connection)
        connected = False
        try:
            async with Patience(within or self._connect_timeout):
                await self._dial(connection)
            connected = True
            return connection
        except TimeoutError as exc:
            raise GatewayError(
                ErrorCode.CONNECT_TIMEOUT, "connecting to the upstream took too long"
            ) from exc
        except (OSError, UnicodeError) as exc:  # the latter: a name that no host can have
            # The dialer's frame holds what it has raised: a cycle for each attempt.
            raise GatewayError(
                ErrorCode.UPSTREAM_UNREACHABLE, "the upstream cannot be reached"
            ) from exc.with_traceback(None)
        finally:
            if not connected:
                # Cancelled just as it was made, asyncio calls connection_lost and uvloop does not.
                self._forget(connection)

    async def _dial(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        sock = await start_connection(
            await self._resolve(), happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY, loop=loop
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )
        except BaseException:
            sock.close()
            raise

    async def _resolve(self) -> list[_AddrInfo]:
        known = self._addresses.get(self._host)
        if known is None:
            loop = asyncio.get_running_loop()
            known = list(await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM))
            self._addresses[self._host] = known
        return known

    def _take_back(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._keepalive, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def _sweep(self) -> None:
        """Close what has been idle for too long, and come again for the rest."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        loop = asyncio.get_running_loop()
        limit = loop.time() - self._keepalive
        old = [connection for connection in self._idle if connection.idle_since <= limit]
        self._idle = [connection for connection in self._idle if connection.idle_since > limit]
        for connection in old:
            connection.transport.close()
        if self._idle:
            when = self._idle[0].idle_since + self._keepalive
            self._sweeper = loop.call_at(when, self._sweep)


def _too_late(answer: RemoteAnswer) -> None:
    code = ErrorCode.FIRST_EVENT_TIMEOUT
    answer.fail(GatewayError(code, MESSAGES[code]))


def _own(netloc: str, further: Mapping[str, str]) -> dict[str, str]:
    return {
        "Host": netloc.rpartition("@")[2],
        "User-Agent": f"oc-gateway/{__version__}",
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        **further,
    }


def _authority(upstream: Upstream, credential: str | None) -> dict[str, str]:
    """The header that carries the credential."""
    if credential is None:
        return {}
    if upstream.credential_header is not None:
        return {upstream.credential_header: credential}
    return {"Authorization": f"Bearer {credential}"}


def _lines(fields: Mapping[str, str]) -> dict[str, str]:
    """Each as it is sent, by its name in lower case: a later one of the same name holds."""
    return {name.lower(): f"{name}: {value}\r\n" for name, value in fields.items()}


def tls_context(verify: bool | str, base: Path = Path()) -> ssl.SSLContext:
    """For upstreams that are believed in this way; `base` is the folder that the config's paths are
    relative to. It takes 30 ms and 1 MB to make one, and it serves any number of them.

    Raises `ValueError` for a CA bundle that cannot be read.
    """
    bundle = base / verify if isinstance(verify, str) else None
    try:
        context = ssl.create_default_context(cafile=bundle)
    except OSError as exc:
        raise ValueError(f"the CA bundle {verify!r} cannot be read") from exc
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
