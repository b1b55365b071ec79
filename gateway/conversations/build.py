"""From the config to a store."""

from collections.abc import Callable
from pathlib import Path

from gateway.config.model import StoreConfig
from gateway.config.values import Secret
from gateway.conversations.memory import MemoryStore
from gateway.conversations.store import Store

_SQLITE = "sqlite:///"


def build_store(config: StoreConfig, base: Path, reveal: Callable[[Secret], str]) -> Store:
    """The store that the config names; relative paths begin at `base`, the config's folder. Raises
    `MissingSecret`."""
    if config.url == "memory://":
        return MemoryStore(config.max_size)
    if config.url.startswith(_SQLITE):
        from gateway.conversations.sqlite import SqliteStore

        return SqliteStore(base / config.url.removeprefix(_SQLITE))
    from gateway.conversations.postgres import PostgresStore

    password = reveal(config.password) if config.password else None
    return PostgresStore(config.url, password, config.max_connections)
