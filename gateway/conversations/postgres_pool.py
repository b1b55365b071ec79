"""Connections to PostgreSQL: whatever fails is a `StoreError`, and in bounded time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeAlias
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from gateway.conversations.store import StoreError

# Only the type checker can give it its parameter.
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

# Seconds: for a new connection; for an operation, with its wait for a connection; for what is said
# before we go.
_CONNECT = 5.0
_OPERATION = 10.0
GOODBYE = 2.0

_FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

# The first that fits. Messages of the server's may have what was to be written in them.
_CAUSES: list[tuple[type[BaseException], str]] = [
    (asyncpg.InvalidPasswordError, "it refuses the password"),
    (asyncpg.InvalidAuthorizationSpecificationError, "it refuses the user"),
    (asyncpg.InvalidCatalogNameError, "it has no such database: create it"),
    (asyncpg.InsufficientPrivilegeError, "the user has no right to do this there"),
    (asyncpg.DuplicateTableError, "another program's tables are in this database"),
    (asyncpg.DiskFullError, "its disk is full"),
    (asyncpg.TooManyConnectionsError, "it has no connection left"),
    (asyncpg.CannotConnectNowError, "it is starting or stopping"),
    (asyncpg.ReadOnlySQLTransactionError, "it is read-only"),
    # Of standbys, which have no unlogged tables.
    (asyncpg.FeatureNotSupportedError, "it is a standby, and takes no writes"),
    (asyncpg.PostgresConnectionError, "the connection broke"),
    (asyncpg.ClientConfigurationError, "the URL says what cannot be"),
    (TimeoutError, "it does not answer"),
    (OSError, "it cannot be reached"),
]


class Connections:
    """A pool of at most `most` connections, opened when they are needed."""

    def __init__(self, url: str, password: str | None, most: int) -> None:
        self._url = url
        self._password = password
        self._most = most
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        parts = urlsplit(url)
        self._name = f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"

    async def open(self) -> None:
        """Connects nowhere yet."""
        self._pool = await asyncpg.create_pool(
            self._url,
            password=self._password,
            timeout=_CONNECT,
            min_size=0,
            max_size=self._most,
            reset=_nothing,
        )

    async def close(self) -> None:
        """Give back what is lent first: this waits for it only for a moment."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        with suppress(*_FAILURES):
            async with asyncio.timeout(GOODBYE):
                await pool.close()
        pool.terminate()

    async def fetch(
        self, statement: str, *args: object, within: float | None = None
    ) -> list[asyncpg.Record]:
        """The rows that one statement returns, within so many seconds."""
        async with self.lend(within) as connection:
            return await connection.fetch(statement, *args)

    @asynccontextmanager
    async def lend(self, within: float | None = None) -> AsyncIterator[Connection]:
        """A connection for at most so many seconds, the wait for it included."""
        with self._failures():
            if self._pool is None:
                raise asyncpg.InterfaceError("closed")
            async with asyncio.timeout(within or _OPERATION), self._pool.acquire() as connection:
                try:
                    yield connection
                except BaseException:
                    # Its server may hang, or be no longer the one that takes writes. To end what
                    # runs in good order would mean to wait for that server.
                    with suppress(asyncpg.InterfaceError):  # the pool knows already
                        connection.terminate()
                    raise

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as exc:
            cause = next((words for kind, words in _CAUSES if isinstance(exc, kind)), None)
            raise StoreError(f"{self._name}: {cause or type(exc).__name__}") from exc


async def _nothing(connection: object) -> None:
    """Instead of the statement that resets a connection after each use: we set nothing in it."""
