"""The public address, that workers share.

Each has a listening socket of its own (SO_REUSEPORT), and the kernel deals connections out among
them. The sockets are made here and handed down: what has queued up at the one of a worker that died
is there for the next, as it is with nginx.
"""

import asyncio
import socket
from contextlib import ExitStack

from gateway.http.server import CannotListen, url_at

Name = tuple[str, int]


class PublicAddress:
    """Holds it for as long as it is wanted, also while no worker listens there."""

    def __init__(self, held: list[socket.socket]) -> None:
        self._held = held

    @classmethod
    async def take(cls, host: str, port: int) -> "PublicAddress":
        """Raises `CannotListen`, also where somebody else listens there who would share it."""
        try:
            return cls(_taken(await _addresses(host, port)))
        except OSError as exc:
            raise CannotListen("server", host, port, exc) from exc

    @property
    def name(self) -> Name:
        """Where it is; the port is the real one, also where any was asked for."""
        return _name(self._held[0])

    def url(self, *, secure: bool) -> str:
        return url_at(self.name, secure=secure)

    def sockets(self) -> list[socket.socket]:
        """Bound to it, for one worker: one for each address that its host stands for."""
        with ExitStack() as opened:
            made = []
            for held in self._held:
                made.append(opened.enter_context(_socket(held.family)))
                made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                made[-1].bind(held.getsockname())
            opened.pop_all()
        return made

    def close(self) -> None:
        """Others may have it, once no worker listens there any more."""
        for held in self._held:
            held.close()


async def _addresses(host: str, port: int) -> list[tuple[int, Name]]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, name) for family, _, _, _, name in found))  # type: ignore[misc]


def _taken(addresses: list[tuple[int, Name]]) -> list[socket.socket]:
    with ExitStack() as opened:
        held = []
        for family, name in addresses:
            held.append(opened.enter_context(_socket(family)))
            # Alone at first: only so does it fail where somebody listens already.
            held[-1].bind(name)
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # From now on only those who share it may bind to it, and those are of this user.
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        opened.pop_all()
    return held


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    # As asyncio does it: connections of a gateway that has just ended are no reason not to start,
    # and one socket is for one family of addresses.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _name(held: socket.socket) -> Name:
    name: Name = held.getsockname()[:2]
    return name
