"""A PostgreSQL that is away, comes back, hangs, or takes no writes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic

import pytest

from gateway.conversations import postgres as module
from gateway.conversations import postgres_pool
from gateway.conversations.guard import GuardedStore
from gateway.conversations.postgres import PostgresStore
from gateway.conversations.store import StoreError
from gateway.core.errors import GatewayError
from tests.conversations.records import ACME, EVERYTHING, NOW, dialogue, kept, later, new
from tests.e2e.running import eventually
from tests.e2e.scripted import PATIENCE
from tests.postgres import Postgres


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    """A store with a conversation, and all of its connections open."""
    store = PostgresStore(database, None, 4)
    await store.open()
    await asyncio.gather(*(store.save(new(n), []) for n in range(1, 20)))
    yield store
    await store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes many seconds takes one: time enough for what is done while the server is well."""
    monkeypatch.setattr(postgres_pool, "_CONNECT", 1.0)
    monkeypatch.setattr(postgres_pool, "_OPERATION", 1.0)
    monkeypatch.setattr(postgres_pool, "GOODBYE", 0.1)
    monkeypatch.setattr(module, "_BACKGROUND", 1.0)


async def noticed(store: PostgresStore) -> None:
    """Until the store has read that its connections were closed."""
    pool = store._connections._pool
    assert pool is not None
    await eventually(lambda: not pool.get_size())


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill])
async def test_it_works_again_when_the_server_is_back(
    store: PostgresStore, postgres: Postgres, end: Callable[[Postgres], None]
) -> None:
    """With all that was written, and by itself."""
    end(postgres)
    await noticed(store)
    with pytest.raises(StoreError, match=r": it cannot be reached$"):
        await store.check()
    with pytest.raises(StoreError):
        await store.save(later(new(1), 2, *dialogue(4)[2:]), [1])
    postgres.start()

    await store.check()
    await store.save(later(new(1), 2, *dialogue(4)[2:]), [1])

    assert len(await kept(store, new(1))) == 4


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill])
async def test_a_restart_between_two_turns_is_not_noticed(
    store: PostgresStore, postgres: Postgres, end: Callable[[Postgres], None]
) -> None:
    """Connections that the server has closed are not used."""
    end(postgres)
    postgres.start()
    await noticed(store)

    await asyncio.gather(*(store.load(ACME, n, EVERYTHING) for n in range(1, 20)))


async def test_claims_are_lost_with_the_server_that_crashed(
    store: PostgresStore, postgres: Postgres, database: str
) -> None:
    """Another gateway may take them; this one keeps no second turn of its own from waiting."""
    other = PostgresStore(database, None, 4)
    await other.open()
    assert await store.claim(7)
    postgres.kill()
    postgres.start()
    await noticed(other)

    assert await other.claim(7)
    assert not await store.claim(7)

    await other.close()


async def calls(store: PostgresStore) -> list[Awaitable[object]]:
    """One of every kind."""
    return [
        store.check(),
        store.claim(99),
        store.load(ACME, 1, EVERYTHING),
        store.save(later(new(1), 2, *dialogue(4)[2:]), [99]),
        store.mark(1, 101, None),
        store.listed(ACME, None, None, 10),
        store.everything(None, 10),
        store.answered("s", "k", NOW),
        store.prune(NOW, 1, NOW),
        store.figures(),
    ]


async def test_nothing_hangs_with_the_server(
    impatient: None, store: PostgresStore, postgres: Postgres
) -> None:
    """Every operation ends within its time, and works again as soon as the server does."""
    assert await store.claim(7)
    with postgres.hung():
        begun = monotonic()
        done = await asyncio.gather(*await calls(store), return_exceptions=True)
        took = monotonic() - begun

    assert [str(each).partition(": ")[2] for each in done] == ["it does not answer"] * len(done)
    assert took < PATIENCE
    assert len(await kept(store, new(2))) == 2


async def test_a_caller_that_gives_up_does_not_wait(
    store: PostgresStore, postgres: Postgres
) -> None:
    """A server that hangs is not asked whether it agrees."""
    with postgres.hung():
        begun = monotonic()
        for doing in await calls(store):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(doing, 0.05)
        took = monotonic() - begun

    assert took < PATIENCE
    assert len(await kept(store, new(2))) == 2


async def test_behind_the_guard_a_hung_server_is_no_more_than_down(
    store: PostgresStore, postgres: Postgres
) -> None:
    """Requests fail within the timeout, then at once; and are served again when it is back."""
    failed: list[str] = []
    guarded = GuardedStore(store, 0.1, lambda operation, exc: failed.append(operation))
    with postgres.hung():
        begun = monotonic()
        for _ in range(50):
            with pytest.raises(GatewayError):
                await guarded.load(ACME, 1, EVERYTHING)
        took = monotonic() - begun
    guarded._timeout = PATIENCE
    await guarded.check()

    assert 1 <= len(failed) <= 1 + took, "what is down is tried once a second"
    assert await guarded.load(ACME, 1, EVERYTHING) is not None


async def test_closing_does_not_wait_for_a_server_that_hangs(
    impatient: None, store: PostgresStore, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """What was being written is waited for, but not for ever; and nobody writes to the log."""
    assert await store.claim(7)
    caplog.set_level(logging.WARNING)
    with postgres.hung():
        saving = asyncio.ensure_future(store.save(later(new(1), 2, *dialogue(4)[2:]), [7]))
        begun = monotonic()
        await store.close()
        took = monotonic() - begun

    with pytest.raises(StoreError):
        await saving
    assert took < PATIENCE
    assert not caplog.records


async def test_a_server_that_hangs_when_we_start_is_told(
    impatient: None, database: str, postgres: Postgres
) -> None:
    """After a while, in one line."""
    store = PostgresStore(database, None, 4)
    with (
        postgres.hung(),
        pytest.raises(StoreError, match=r"^postgresql://\S+: it does not answer$"),
    ):
        await store.open()


async def test_a_closed_store_says_so(store: PostgresStore) -> None:
    """As any other failure; closing it again does nothing."""
    await store.close()

    with pytest.raises(StoreError):
        await store.check()
    await store.close()


async def test_a_standby_is_not_ready(store: PostgresStore, postgres: Postgres) -> None:
    """It can be read, and takes no turn."""
    postgres.stop()
    await noticed(store)
    standby = postgres.folder / "data" / "standby.signal"
    standby.touch()
    try:
        postgres.start()
        with pytest.raises(StoreError, match=r"^this server is a standby, and takes no writes$"):
            await store.check()
        with pytest.raises(StoreError, match=r": it is a standby, and takes no writes$"):
            await store.save(later(new(1), 2, *dialogue(4)[2:]), [])
        assert len(await kept(store, new(1))) == 2
    finally:
        postgres.stop()
        standby.unlink()
        postgres.start()

    await noticed(store)
    await store.check()
