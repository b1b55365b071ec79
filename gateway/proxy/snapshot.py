"""What a request is served by: one immutable value, built from one reading of the config.

A reload builds a new one and swaps the reference; a request keeps the one it began with.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachetools import FIFOCache

from gateway.auth.keyring import Keyring
from gateway.config.model import Server, Tier
from gateway.config.routes import Routes
from gateway.proxy.caller import Caller
from gateway.proxy.client import Client

if TYPE_CHECKING:
    from gateway.config.certificate import Certificate

MAX_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    server: Server
    certificate: "Certificate | None"
    """The public listener's; None: it speaks plain HTTP."""
    tiers: Mapping[str, Tier]
    routes: Routes
    keyring: Keyring
    clients: Mapping[str, Client]
    """By the upstream's name; the embedded ones have none."""
    made_of: Mapping[str, bytes]
    """What each client was made of, as a hash: the client is kept while that stays the same."""
    admin_token: str | None = field(default=None, repr=False)
    """What the admin listener wants to see of who asks for more than metrics and health."""
    callers: MutableMapping[str | None, Caller] = field(
        default_factory=lambda: FIFOCache(MAX_CALLERS), repr=False
    )
    """Those that were let in, by their `Authorization`: a key is hashed once."""
