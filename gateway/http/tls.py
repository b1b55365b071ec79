"""The handshakes of a listener, and the certificate that they present."""

import asyncio
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics

if TYPE_CHECKING:
    from gateway.config.certificate import Certificate

# How long a handshake may take; after it, the clock of the head begins.
_HANDSHAKE: Final = 10.0

# How long it may take, after the last answer on a connection, until the client has read it and has
# said goodbye as well. Without TLS nothing is cut that is still being read, so this is long.
_FAREWELL: Final = 30.0


class Handshakes:
    """Presents one certificate, and from `present` on another. What has been shaken hands upon
    stays.

    The new pair is a context of its own, taken up by reference: loading it into the one that
    listens would for a moment, and after a failure for good, leave that with a certificate and
    somebody else's key.
    """

    def __init__(self, first: "Certificate", metrics: Metrics, logger: Logger) -> None:
        self.context = first.context
        """What to listen with: its versions and protocols stay, its certificate does not."""
        self._metrics = metrics
        self._logger = logger
        self.present(first)
        self.context.sni_callback = self._choose

    def present(self, certificate: "Certificate") -> None:
        """One whose time is not now is presented as well: there may be none better, and some
        clients do not mind."""
        self._presented = certificate.context
        self._metrics.certificate_expires(certificate.expires)
        if fault := certificate.fault(time.time()):
            self._logger.error("certificate_not_valid", problem=fault)

    def _choose(self, connection: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        """Called in every handshake, also by clients that name no host."""
        connection.context = self._presented


class Site(web.TCPSite):
    """One of aiohttp's, with clocks of ours on handshakes and farewells; on `sock`, if it is bound
    already."""

    def __init__(self, *args: Any, sock: socket.socket | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sock = sock

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        secure = self._ssl_context is not None
        address: dict[str, Any] = {"host": self._host, "port": self._port}
        if self._sock is not None:
            address = {"sock": self._sock}
        self._server = await asyncio.get_running_loop().create_server(
            server,
            **address,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=_HANDSHAKE if secure else None,
            ssl_shutdown_timeout=_FAREWELL if secure else None,
        )
