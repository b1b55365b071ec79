"""What a request is served by: one immutable value, built from one reading of the config.

A reload builds a new one and swaps the reference; a request keeps the one it began with.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.auth.keyring import Keyring
from gateway.config.model import Server, Tier
from gateway.config.routes import Routes
from gateway.proxy.client import Client


@dataclass(frozen=True, slots=True)
class Snapshot:
    server: Server
    tiers: Mapping[str, Tier]
    routes: Routes
    keyring: Keyring
    clients: Mapping[str, Client]
    """By the upstream's name; the embedded ones have none."""
