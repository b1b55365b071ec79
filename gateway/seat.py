"""What a gateway is given that depends on how many processes it consists of."""

from collections.abc import Callable, Sequence
from socket import socket

from msgspec import Struct

from gateway.config.model import Config
from gateway.limits.limiter import Limiter
from gateway.limits.local import LocalLimiter
from gateway.proxy.snapshot import Snapshot
from gateway.reload.build import build_snapshot


class Seat(Struct, frozen=True, kw_only=True):
    """One process's."""

    alone: bool = True
    """Else there is somebody who asks it and its like, and has the admin listener."""
    sockets: Sequence[socket] = ()
    """Bound to the public address; none: it binds one itself."""
    limiter: Limiter
    build: Callable[..., Snapshot] = build_snapshot
    """Called as `build_snapshot` is."""
    read: Config
    """What the file says by now, which may be more than what was started with."""


def only_seat(config: Config) -> Seat:
    """That of the one process of a gateway."""
    return Seat(limiter=LocalLimiter(), read=config)
