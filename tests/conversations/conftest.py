"""One suite for all stores."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from gateway.conversations.memory import MemoryStore
from gateway.conversations.postgres import PostgresStore
from gateway.conversations.sqlite import SqliteStore
from gateway.conversations.store import Store
from tests.conversations.desk import Desk
from tests.postgres import Postgres

_EMPTY = "TRUNCATE conversations, messages, answered, leases"


@pytest.fixture(scope="session")
def shared_database(postgres: Postgres) -> str:
    """The URL of a database for one test after another: to create one takes half a second."""
    return postgres.create()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def closed(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind, to be opened."""
    if request.param == "memory":
        return MemoryStore(1 << 30)
    if request.param == "sqlite":
        return SqliteStore(tmp_path / "conversations.db")
    return PostgresStore(request.getfixturevalue("shared_database"), None, 10)


@pytest.fixture
async def store(closed: Store, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store of each kind, open."""
    await closed.open()
    yield closed
    await closed.close()
    if isinstance(closed, PostgresStore):
        connection = await asyncpg.connect(request.getfixturevalue("shared_database"))
        await connection.execute(_EMPTY)
        await connection.close()


@pytest.fixture
def desk(store: Store) -> Desk:
    """Where turns begin and end, over a store of each kind."""
    return Desk(store)
