"""What is special to PostgreSQL: opening it, leases, and several gateways on one database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from msgspec.structs import replace

from gateway.conversations import postgres_pool
from gateway.conversations import postgres_statements as sql
from gateway.conversations.postgres import PostgresStore
from gateway.conversations.postgres_leases import Leases, Unbroken
from gateway.conversations.postgres_pool import Connections
from gateway.conversations.postgres_schema import SCRIPTS, migrate, version
from gateway.conversations.store import Conflict, StoreError
from tests.conversations.records import ACME, EVERYTHING, NOW, answer, dialogue, kept, later, new
from tests.e2e.running import eventually
from tests.postgres import PASSWORD, Postgres

Connect = Callable[[], Awaitable[PostgresStore]]

_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture
async def connect(database: str) -> AsyncIterator[Connect]:
    """Opens stores on one database, as gateways on several machines do."""
    stores: list[PostgresStore] = []

    async def connect() -> PostgresStore:
        stores.append(PostgresStore(database, None, 4))
        await stores[-1].open()
        return stores[-1]

    yield connect
    await asyncio.gather(*(store.close() for store in stores))


@pytest.fixture
async def connections(database: str) -> AsyncIterator[Connections]:
    """Connections to a database without tables."""
    connections = Connections(database, None, 4)
    await connections.open()
    yield connections
    await connections.close()


@asynccontextmanager
async def locked(url: str, tables: str) -> AsyncIterator[None]:
    """Whoever uses these tables has to wait. They are free when somebody does."""
    owner = await asyncpg.connect(url)
    try:
        async with owner.transaction():
            await owner.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await owner.close()


async def waits(url: str) -> None:
    """Until somebody waits for a lock."""
    watcher = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(5):
            while not await watcher.fetchval(_WAITING):  # noqa: ASYNC110 - no event of ours
                await asyncio.sleep(0.002)
    finally:
        await watcher.close()


async def claimed(store: PostgresStore, name: int) -> None:
    """Until the claim is free, long before it would expire."""
    async with asyncio.timeout(5):
        while not await store.claim(name):  # noqa: ASYNC110 - it is another store's
            await asyncio.sleep(0.002)


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


async def refusal(url: str, password: str | None = None) -> str:
    """Why a store does not open. It can be closed all the same."""
    store = PostgresStore(url, password, 4)
    with pytest.raises(StoreError) as caught:
        await store.open()
    await store.close()
    return str(caught.value)


# Opening


async def test_opening_tells_the_version_before(database: str) -> None:
    """None at first, then that of the last script."""
    first, second = PostgresStore(database, None, 4), PostgresStore(database, None, 4)

    assert await first.open() == 0
    assert await second.open() == len(SCRIPTS)

    await first.close()
    await second.close()


async def test_many_may_open_at_once(database: str) -> None:
    """Only one of them makes the tables."""
    stores = [PostgresStore(database, None, 4) for _ in range(8)]

    found = await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.save(new(n + 1), []) for n, store in enumerate(stores)))

    assert sorted(found) == [0] + [len(SCRIPTS)] * 7
    assert (await stores[0].figures()).conversations == 8
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_newer_schema_is_refused(database: str, postgres: Postgres) -> None:
    """Both versions are told, and nothing is changed."""
    store = PostgresStore(database, None, 4)
    await store.open()
    await store.close()
    postgres.sql("UPDATE oc_gateway_schema SET version = 99", name_of(database))

    said = await refusal(database)

    known = len(SCRIPTS)
    assert said == (
        f"the database has version 99 of the schema, and this gateway knows {known}:"
        " run the newer gateway"
    )


async def test_later_versions_come_on_top(connections: Connections) -> None:
    """Only the scripts that are missing are run, and all of them or none."""
    first, second, broken = "CREATE TABLE a ()", "CREATE TABLE b ()", "CREATE TABLE c (); oops"
    async with connections.lend() as connection:
        assert await migrate(connection, (first,)) == 0
        assert await migrate(connection, (first, second)) == 1
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await migrate(connection, (first, second, "CREATE TABLE c ()", broken))

        assert await version(connection) == 2
        assert await connection.fetchval("SELECT to_regclass('c')") is None


async def test_a_schema_that_is_there_needs_no_rights_to_make_one(
    database: str, postgres: Postgres
) -> None:
    """The gateway may run as a user that only reads and writes."""
    guarded = database.replace("gateway@", "guarded@")
    store = PostgresStore(database, None, 4)
    await store.open()
    await store.close()
    postgres.sql(
        "ALTER SCHEMA public OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        name_of(database),
    )

    store = PostgresStore(guarded, PASSWORD, 4)
    await store.open()
    await store.save(new(1), [])

    assert (await store.figures()).messages == 2
    await store.close()


async def test_what_keeps_it_from_opening_is_told_in_one_line(
    database: str, postgres: Postgres
) -> None:
    """Where, and why; not the password, and not the user."""
    guarded = database.replace("gateway@", "guarded@")
    address = f"postgresql://127.0.0.1:{postgres.port}"
    here = f"{address}/{name_of(database)}"
    nowhere = database.replace(f":{postgres.port}/", ":1/")

    assert await refusal(guarded, "s3cret") == f"{here}: it refuses the password"
    assert await refusal(guarded, None) == f"{here}: it refuses the password"
    assert await refusal(database.replace("gateway@", "nobody@"), "s3cret") == (
        f"{here}: it refuses the password"
    )
    assert await refusal(postgres.url("nothing")) == (
        f"{address}/nothing: it has no such database: create it"
    )
    assert await refusal(nowhere, "s3cret") == (
        f"postgresql://127.0.0.1:1/{name_of(database)}: it cannot be reached"
    )
    assert await refusal(f"{database}?sslmode=sure") == f"{here}: the URL says what cannot be"


async def test_a_database_of_another_program_is_left_alone(
    database: str, postgres: Postgres
) -> None:
    """Its tables are neither used nor changed."""
    postgres.sql("CREATE TABLE messages (theirs int)", name_of(database))

    assert (await refusal(database)).endswith(": another program's tables are in this database")
    assert postgres.sql("SELECT to_regclass('conversations')", name_of(database)) == ""


async def test_a_database_has_to_hold_every_text(postgres: Postgres) -> None:
    """Another encoding than UTF-8 would fail at the first emoji."""
    postgres.sql(
        "CREATE DATABASE latin OWNER gateway ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    )

    assert await refusal(postgres.url("latin")) == (
        "the database has the encoding LATIN1: create one that has UTF8"
    )

    postgres.drop(postgres.url("latin"))


async def test_no_more_connections_than_allowed_are_opened(
    connect: Connect, postgres: Postgres
) -> None:
    """What there are too few for has to wait."""
    store = await connect()

    await asyncio.gather(*(store.save(new(n), []) for n in range(1, 50)))

    count = postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'gateway'")
    assert 1 < int(count) <= 4


# Claims


async def test_a_claim_keeps_other_gateways_out(connect: Connect) -> None:
    """Until it is released, or who held it is closed."""
    one, other = await connect(), await connect()

    assert await one.claim(7)
    assert not await other.claim(7)
    await one.release(7)
    assert await other.claim(7)
    await other.close()
    assert await one.claim(7)


async def test_a_claim_of_a_gateway_that_died_is_free_after_a_while(
    connect: Connect, database: str, postgres: Postgres
) -> None:
    """And no longer the other's, should it come back."""
    one, other, third = await connect(), await connect(), await connect()
    assert await one.claim(7)
    postgres.sql("UPDATE leases SET expires = now() - interval '1ms'", name_of(database))

    assert not await one.claim(7)  # it has not noticed, and its turn still runs
    assert await other.claim(7)
    assert not await one.claim(7)
    await one.release(7)

    assert not await third.claim(7)


async def test_claims_are_renewed_while_they_are_held(
    connections: Connections, postgres: Postgres, database: str
) -> None:
    """However long a turn takes; those that are gone are not taken again."""
    async with connections.lend() as connection:
        await migrate(connection)
    leases = Leases(connections, Unbroken(), renewal=0.01)
    leases.start()
    assert await leases.claim(7)
    assert await leases.claim(8)
    await leases.release(8)
    soon = "UPDATE leases SET expires = now() + interval '2s'"
    postgres.sql(soon, name_of(database))

    left = "SELECT name FROM leases WHERE expires > now() + interval '20s'"
    await eventually(lambda: postgres.sql(left, name_of(database)) == "7")
    await leases.stop()

    assert postgres.sql("SELECT count(*) FROM leases", name_of(database)) == "0"


async def test_a_claim_that_nobody_waits_for_is_given_back(connect: Connect, database: str) -> None:
    """Its client was gone before it came."""
    one, other = await connect(), await connect()
    async with locked(database, "leases"):
        claiming = asyncio.ensure_future(one.claim(7))
        await waits(database)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming

    await claimed(other, 7)


# Saving


async def test_of_two_changes_at_once_one_is_written(connect: Connect) -> None:
    """Though both may think that they have the claim; and it is whole."""
    one, other = await connect(), await connect()
    first = new(1)
    await one.save(first, [])

    for version_before in range(1, 20):
        before = replace(first, conversation=replace(first.conversation, version=version_before))
        changes = [later(before, 1, answer(1, number=n)) for n in (201, 202)]
        done = await asyncio.gather(
            one.save(changes[0], []), other.save(changes[1], []), return_exceptions=True
        )

        won = 201 + done.index(None)
        assert {type(each) for each in done} == {Conflict, type(None)}
        assert [said.id for said in await kept(one, first)] == [100, won]


async def test_a_change_is_written_though_nobody_waits_for_it(
    connect: Connect, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And closing waits for it, longer than for the server's goodbye; its claims are free then."""
    monkeypatch.setattr(postgres_pool, "GOODBYE", 0.001)
    one, other = await connect(), await connect()
    assert await one.claim(1)
    async with locked(database, "messages"):
        saving = asyncio.ensure_future(one.save(new(1), [1]))
        await waits(database)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        closing = asyncio.ensure_future(one.close())
        await other.check()
        assert not closing.done()
    await closing

    assert len(await kept(other, new(1))) == 2
    assert await other.claim(1)


async def test_what_fails_to_be_written_releases_its_claims(
    connect: Connect, database: str, postgres: Postgres
) -> None:
    """And leaves nothing of itself."""
    one, other = await connect(), await connect()
    postgres.sql("ALTER TABLE messages ADD CHECK (position < 2)", name_of(database))
    assert await one.claim(1)

    with pytest.raises(StoreError, match=r"CheckViolationError$"):
        await one.save(new(1, *dialogue(4)), [1])

    await claimed(other, 1)
    assert await other.load(ACME, 1, EVERYTHING) is None


async def test_text_that_postgres_cannot_hold_fails_nobody(connect: Connect) -> None:
    """NUL and half surrogate pairs, which clients' paths may have; and numbers beyond all."""
    store = await connect()
    await store.save(new(1, user_id="u"), [])
    far = 1 << 80

    assert (await store.listed(ACME, "u\0", None, 10)).total == 0
    assert (await store.listed(ACME, "u\ud800", None, 10)).total == 0
    assert await store.answered("s\0", "\udfff", NOW) is None
    assert len((await store.listed(ACME, "u", (far, far), 10)).conversations) == 1
    assert not (await store.listed(ACME, None, (-far, -far), 10)).conversations


async def test_a_reader_that_leaves_costs_no_connection(connect: Connect, database: str) -> None:
    """New ones are slow to make: the one that it read by serves the next."""
    store = await connect()
    await store.save(new(1), ())
    opened = await _connected(database)
    async with locked(database, "conversations"):
        reading = asyncio.ensure_future(store.load(ACME, 1, EVERYTHING))
        await waits(database)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()

    assert await store.load(ACME, 1, EVERYTHING) is not None
    assert await _connected(database) & opened == opened


async def _connected(url: str) -> set[int]:
    """The server's names for the connections to it, but for this one."""
    watcher = await asyncpg.connect(url)
    try:
        rows = await watcher.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    finally:
        await watcher.close()
    return {row["pid"] for row in rows}


# Pruning


async def test_several_gateways_may_prune_at_once(connect: Connect) -> None:
    """Each conversation is counted by who deleted it, and no turn has to wait for all of them."""
    stores = [await connect() for _ in range(3)]
    await asyncio.gather(
        *(stores[0].save(new(n, updated=NOW - n), []) for n in range(1, 501)),
        *(stores[1].save(new(n, user_id="u", updated=NOW + n), []) for n in range(501, 1001)),
    )

    gone = await asyncio.gather(*(store.prune(NOW, 10, NOW) for store in stores))

    left = await stores[0].listed(ACME, None, None, 100)
    assert [each.id for each in left.conversations] == list(range(1000, 990, -1))
    assert sum(gone) == 990
    assert (await stores[0].figures()).messages == 20


async def test_what_is_being_written_is_not_pruned(connect: Connect, database: str) -> None:
    """Nor waited for."""
    store = await connect()
    await store.save(new(1, updated=NOW - 2), [])
    await store.save(new(2, updated=NOW - 1), [])
    turn = await asyncpg.connect(database)
    async with turn.transaction():
        await turn.execute("UPDATE conversations SET updated = $1 WHERE id = 1", NOW + 1)

        assert await store.prune(NOW, None, NOW) == 1
    await turn.close()

    assert [each.id for each in await store.everything(None, 10)] == [1]


async def test_what_goes_on_meanwhile_is_no_longer_the_oldest(
    connect: Connect, database: str
) -> None:
    """It stays, and what was found in its place goes the next time."""
    store = await connect()
    for number in range(1, 5):
        await store.save(new(number, user_id="u", updated=NOW + number), [])
    turn = await asyncpg.connect(database)
    async with turn.transaction():
        await turn.execute("UPDATE conversations SET updated = $1 WHERE id = 1", NOW + 9)

        assert await store.prune(None, 2, NOW) == 1
    await turn.close()

    assert [each.id for each in await store.everything(None, 10)] == [1, 3, 4]
    assert await store.prune(None, 2, NOW) == 1
    assert [each.id for each in await store.everything(None, 10)] == [1, 4]


async def test_what_went_on_since_it_was_found_is_not_pruned(
    connect: Connect, connections: Connections
) -> None:
    """Between the look for what is beyond the newest, and its deletion."""
    store = await connect()
    await store.save(new(1, updated=NOW), [])
    await store.save(new(2, updated=NOW), [])

    gone = await connections.fetch(sql.FORGET, [1, 2], [NOW - 1, NOW])

    assert [row["id"] for row in gone] == [2]
