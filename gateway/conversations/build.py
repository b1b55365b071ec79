"""From the config to a store."""

from collections.abc import Callable
from pathlib import Path

from gateway.config.model import StoreConfig
from gateway.config.values import Secret
from gateway.conversations.memory import MemoryStore
from gateway.conversations.store import Store

MEMORY = "memory://"
_SQLITE = "sqlite:///"


def sqlite_file(url: str, base: Path) -> Path | None:
    """The file that the URL names; None for another kind of store."""
    return base / url.removeprefix(_SQLITE) if url.startswith(_SQLITE) else None


def build_store(config: StoreConfig, base: Path, reveal: Callable[[Secret], str]) -> Store:
    """The store that the config names; relative paths begin at `base`, the config's folder. Raises
    `MissingSecret`."""
    if config.url == MEMORY:
        return MemoryStore(config.max_size)
    if file := sqlite_file(config.url, base):
        from gateway.conversations.sqlite import SqliteStore

        return SqliteStore(file)
    from gateway.conversations.postgres import PostgresStore

    password = reveal(config.password) if config.password else None
    return PostgresStore(config.url, password, config.max_connections)
