"""What is special to SQLite: one file on a disk, which may be slow, full, or gone."""

import asyncio
import gc
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.conversations import sqlite_queries, sqlite_schema
from gateway.conversations.sqlite import SqliteStore
from gateway.conversations.sqlite_queries import Stale
from gateway.conversations.sqlite_schema import connect
from gateway.conversations.store import Conflict, Span, StoreError
from gateway.core.conversation import Feedback, Owner, Place
from gateway.core.events import TextDelta
from tests.conversations.records import (
    ACME,
    EVERYTHING,
    NOW,
    answer,
    answered,
    dialogue,
    ids,
    kept,
    later,
    new,
)

CLAIM = 7
BIG = answer(1, TextDelta("x" * 1_000_000))

# Opens a store, writes into it and ends without closing it.
CARELESS = """
import asyncio, sys
from pathlib import Path
from gateway.conversations.sqlite import SqliteStore
from tests.conversations.records import new

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await store.save(new(1), ())
    asyncio.ensure_future(store.save(new(2), ()))
    await asyncio.sleep(0)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "conversations.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store, open."""
    store = SqliteStore(path)
    await store.open()
    yield store
    await store.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program is writing into the database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


@contextmanager
def full(path: Path) -> Iterator[None]:
    """No file can grow beyond the largest of the database's: each write that would fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = max(each.stat().st_size for each in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def read(path: Path) -> bytes:
    return path.read_bytes()


def size(path: Path) -> int:
    return sum(each.stat().st_size for each in (path, Path(f"{path}-wal")))


async def total(store: SqliteStore) -> int:
    return (await store.listed(ACME, None, None, 0)).total


# A slow disk, and other programs


async def test_reads_do_not_wait_for_writes(store: SqliteStore, path: Path) -> None:
    """What was committed can be read while a commit takes its time."""
    await store.save(new(1), ())
    with locked(path):
        saving = asyncio.ensure_future(store.save(new(2), ()))
        assert await ids(store, 1, EVERYTHING) == [0, 1]
        assert await total(store) == 1
        assert await store.answered("s", "k", NOW) is None
        assert not saving.done()

    await saving
    assert await total(store) == 2


async def test_a_write_waits_for_other_programs(store: SqliteStore, path: Path) -> None:
    """And holds its claim until it is done, though its caller has left."""
    assert await store.claim(CLAIM)
    with locked(path):
        saving = asyncio.ensure_future(store.save(new(1), (CLAIM,)))
        await asyncio.sleep(0)
        saving.cancel()
        await asyncio.wait([saving])
        assert saving.cancelled()
        assert not await store.claim(CLAIM)

    await store.mark(1, 101, Feedback.POSITIVE)  # it comes after the save
    assert await store.claim(CLAIM)
    assert await ids(store, 1, EVERYTHING) == [0, 1]


async def test_a_program_that_does_not_let_go_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For those that wait for it, and for as long as it is there."""
    monkeypatch.setattr(sqlite_schema, "BUSY_TIMEOUT", 0.02)
    store = SqliteStore(path)
    await store.open()
    await store.claim(CLAIM)
    with locked(path):
        ends = await asyncio.gather(
            store.save(new(1), (CLAIM,)), store.check(), return_exceptions=True
        )
        assert [str(end) for end in ends] == ["database is locked"] * 2
        assert {type(end) for end in ends} == {StoreError}
        assert await store.claim(CLAIM)

    await store.check()
    await store.save(new(1), ())
    await store.close()


async def test_a_write_that_fails_when_nobody_waits_says_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller has noted that it took too long; the event loop has nothing to add."""
    monkeypatch.setattr(sqlite_schema, "BUSY_TIMEOUT", 0.02)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
    store = SqliteStore(path)
    await store.open()
    with locked(path):
        saving = asyncio.ensure_future(store.save(new(1), ()))
        await asyncio.sleep(0)
        saving.cancel()
        await store.close()
    await asyncio.wait([saving])
    assert saving.cancelled()
    del saving  # what it was cancelled at refers to what would complain
    gc.collect()

    assert complaints == []


# A disk that fails


async def test_a_full_disk_is_an_error_until_there_is_room(store: SqliteStore, path: Path) -> None:
    """What was there can be read, what failed is not there, and then all goes on."""
    change = new(1)
    await store.save(change, ())
    await store.claim(CLAIM)
    with full(path):
        for _ in range(3):
            with pytest.raises(StoreError):
                await store.save(later(change, 1, BIG), (CLAIM,))
            assert await store.claim(CLAIM)
            with pytest.raises(StoreError):
                await store.check()
            assert await kept(store, change) == dialogue(2)

    await store.check()
    second = later(change, 1, BIG)
    await store.save(second, (CLAIM,))
    assert await kept(store, second) == (*dialogue(1), BIG)


async def test_what_fits_is_kept_when_another_does_not(store: SqliteStore, path: Path) -> None:
    """One conversation that is too large takes no other along."""
    # The log is as long as it takes, and can be written again from its beginning.
    await store.save(new(99, *dialogue(300)), ())
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
    changes = [new(1), new(2, *dialogue(1), BIG), new(3)]
    with full(path), locked(path):
        saves = [asyncio.ensure_future(store.save(change, ())) for change in changes]
        await asyncio.sleep(0)
    with full(path):
        ends = await asyncio.gather(*saves, return_exceptions=True)

    assert [type(end) for end in ends] == [type(None), StoreError, type(None)]
    assert await total(store) == 3


async def test_a_file_that_is_gone_is_an_error_until_it_is_back(
    store: SqliteStore, path: Path
) -> None:
    """Nothing is written where nobody would find it."""
    change = new(1)
    await store.save(change, ())
    away = path.with_suffix(".away")
    os.rename(path, away)
    for _ in range(2):
        with pytest.raises(StoreError, match="was moved, deleted or replaced"):
            await store.save(later(change, 2, *dialogue(4)[2:]), ())
        with pytest.raises(StoreError, match="put it back"):
            await store.load(ACME, 1, EVERYTHING)
        with pytest.raises(StoreError, match="put it back"):
            await store.check()
    assert os.listdir(path.parent).count(path.name) == 0

    os.rename(away, path)
    await store.check()
    await store.save(later(change, 2, *dialogue(4)[2:]), ())
    assert await ids(store, 1, EVERYTHING) == [0, 1, 2, 3]


async def test_a_file_that_was_replaced_is_left_alone(store: SqliteStore, path: Path) -> None:
    """The log beside it belongs to the other one, and would destroy this one."""
    await store.save(new(1), ())
    os.rename(path, path.with_suffix(".away"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (number INTEGER)")
    content = read(path)

    with pytest.raises(StoreError, match="replaced"):
        await store.save(new(2), ())
    await store.close()

    assert read(path) == content


# The beginning and the end


async def test_a_close_finishes_what_is_being_written(path: Path) -> None:
    """All of it is in the one file, and no thread or file is left."""
    threads, files = threading.active_count(), os.listdir("/proc/self/fd")
    store = SqliteStore(path)
    await store.open()
    saves = [asyncio.ensure_future(store.save(new(number), ())) for number in range(1, 51)]
    await asyncio.sleep(0)

    await store.close()

    await asyncio.gather(*saves)
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}-claims"]
    assert threading.active_count() == threads
    assert os.listdir("/proc/self/fd") == files
    await store.open()
    assert await total(store) == 50
    await store.close()


async def test_a_closed_store_can_do_nothing(path: Path) -> None:
    """Nor can one that was not opened."""
    store = SqliteStore(path)
    await store.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="is not open"):
            await store.save(new(1), (CLAIM,))
        with pytest.raises(StoreError, match="is not open"):
            await store.load(ACME, 1, EVERYTHING)
        with pytest.raises(StoreError, match="is not open"):
            await store.claim(CLAIM)
        await store.release(CLAIM)
        await store.open()
        await store.close()


def test_a_process_that_does_not_close_its_store_ends(path: Path) -> None:
    """Without a word, and what it saw written is there."""
    done = subprocess.run(
        [sys.executable, "-c", CARELESS, str(path)], capture_output=True, timeout=30, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
    with closing(connect(path)) as connection:
        (found,) = connection.execute("SELECT count(*) FROM conversations").fetchone()
    assert found in (1, 2)


async def test_two_stores_have_one_file(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    """Each sees what the other wrote and holds, whatever the file is called."""
    link = tmp_path / "folder" / "link.db"
    os.mkdir(link.parent)
    os.symlink(path, link)
    other = SqliteStore(link)
    await other.open()
    change = new(1)

    assert await store.claim(CLAIM)
    assert not await other.claim(CLAIM)
    await store.save(change, (CLAIM,))
    assert await other.claim(CLAIM)
    assert not await store.claim(CLAIM)
    await other.save(later(change, 2, *dialogue(4)[2:]), ())
    with pytest.raises(Conflict):
        await store.save(later(change, 2, *dialogue(4)[2:]), ())
    await other.close()

    assert await store.claim(CLAIM)
    assert await ids(store, 1, EVERYTHING) == [0, 1, 2, 3]


# What it costs


async def test_every_query_has_an_index(path: Path) -> None:
    """No turn reads through all conversations, and no list sorts them."""
    await make(path)
    change = new(1, user_id="user_1", answered=answered())
    with explained(path) as (connection, plans):
        sqlite_queries.write(connection, change)
        sqlite_queries.write(connection, later(change, 2, *dialogue(4)[2:]))
        sqlite_queries.mark(connection, 1, 101, Feedback.POSITIVE)
        for span in (EVERYTHING, Span(limit=1, upto=101), Span(limit=1, before=2)):
            assert sqlite_queries.load(connection, ACME, 1, span) is not None
        for where in (ACME, Place(Owner(None, "https://a.example"), 1)):
            sqlite_queries.listed(connection, where, None, None, 20)
            sqlite_queries.listed(connection, where, "user_1", (NOW, 1), 20)
        sqlite_queries.everything(connection, 5, 20)
        sqlite_queries.answered(connection, "s", "k", NOW)
        sqlite_queries.old(connection, NOW, 20)
        sqlite_queries.forget(connection, [Stale(1, NOW, 4)])
        sqlite_queries.expire(connection, NOW, 20)

    assert len(plans) > 15
    assert {said: steps for said, steps in plans.items() if slow(steps)} == {}


async def test_users_are_counted_in_an_index(path: Path) -> None:
    """All of it has to be looked at, but no conversation is, and nothing is sorted."""
    await make(path)
    with explained(path) as (connection, plans):
        for number in range(1, 5):
            sqlite_queries.write(connection, new(number, user_id="user_1"))
        plans.clear()
        assert len(sqlite_queries.beyond(connection, 1, 20)) == 3

    steps = [step for steps in plans.values() for step in slow(steps)]
    assert steps == ["SCAN conversations USING COVERING INDEX by_user"]


async def make(path: Path) -> None:
    """An empty database."""
    store = SqliteStore(path)
    await store.open()
    await store.close()


@contextmanager
def explained(path: Path) -> Iterator[tuple[sqlite3.Connection, dict[str, list[str]]]]:
    """A connection, and by what is said on it how SQLite goes about it (known at the end)."""
    plans: dict[str, list[str]] = {}
    with closing(connect(path)) as connection:
        connection.set_trace_callback(lambda said: plans.setdefault(said, []))
        yield connection, plans
        connection.set_trace_callback(None)
        for said in plans:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {said}")
            plans[said] = [detail for _, _, _, detail in rows]


def slow(steps: Iterable[str]) -> list[str]:
    """Reading through a table or an index, and sorting."""
    return [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]


async def test_pruning_deletes_a_little_at_a_time(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No turn waits for more than some hundred messages to go, or one conversation."""
    lengths: list[list[int]] = []

    def forget(connection: sqlite3.Connection, stale: Iterable[Stale]) -> int:
        stale = list(stale)
        lengths.append([each.length for each in stale])
        return original(connection, stale)

    original = sqlite_queries.forget
    monkeypatch.setattr(sqlite_queries, "forget", forget)
    sizes = [2] * 300 + [700, 400, 100, 1]
    changes = [new(n, *dialogue(size), updated=n) for n, size in enumerate(sizes, 1)]
    await asyncio.gather(*(store.save(change, ()) for change in changes))

    assert await store.prune(NOW, None, NOW) == len(sizes)
    assert [len(each) for each in lengths] == [250, 50, 1, 2, 1]
    assert [sum(each) for each in lengths] == [500, 100, 700, 500, 1]
    assert (await store.figures()).messages == 0


async def test_what_goes_on_while_it_is_to_be_forgotten_stays(store: SqliteStore) -> None:
    """It was found by its last activity, and has another one by now."""
    change = new(1, updated=NOW)
    await store.save(change, ())
    await store.save(later(change, 2, *dialogue(4)[2:], updated=NOW + 1), ())
    await store.save(new(2, updated=NOW), ())

    gone = await store._writer.ask(
        lambda connection: sqlite_queries.forget(
            connection, [Stale(1, NOW, 2), Stale(2, NOW, 2), Stale(3, NOW, 2)]
        )
    )

    assert gone == 1
    assert await total(store) == 1


async def test_many_expired_keys_go(store: SqliteStore) -> None:
    """More than one write deletes at once."""
    await asyncio.gather(
        *(store.save(new(n, answered=answered(f"k{n}", expires=n)), ()) for n in range(1, 1102))
    )

    await store.prune(None, None, 1100)

    known = [await store.answered("s", f"k{n}", 0) for n in (1, 500, 1100)]
    assert known == [None] * 3
    assert await store.answered("s", "k1101", 0) is not None


async def test_cursors_may_say_anything(store: SqliteStore) -> None:
    """Numbers that no database can hold are past the end."""
    await store.save(new(1), ())
    huge = 1 << 80

    assert await ids(store, 1, Span(limit=5, before=huge)) == [0, 1]
    assert await ids(store, 1, Span(limit=5, before=-huge)) == []
    assert len((await store.listed(ACME, None, (huge, huge), 5)).conversations) == 1
    assert len((await store.listed(ACME, None, (-huge, 1), 5)).conversations) == 0


async def test_the_size_is_that_of_the_files(store: SqliteStore, path: Path) -> None:
    """With the log, which may be the larger one."""
    await store.save(new(1, *dialogue(1), BIG), ())

    assert (await store.figures()).size == size(path) > 1_000_000
