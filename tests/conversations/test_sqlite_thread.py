"""The thread that a database's connection lives on: one transaction for all that waits."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from gateway.conversations.sqlite_schema import connect, create, migrate
from gateway.conversations.sqlite_thread import DatabaseThread, Job
from gateway.conversations.store import Conflict, StoreError

CHILDREN = """CREATE TABLE children (
    parent INTEGER REFERENCES numbers (number) DEFERRABLE INITIALLY DEFERRED
)"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of ours, with a table for the tests."""
    path = tmp_path / "numbers.db"
    create(path)
    with closing(connect(path)) as connection:
        migrate(path, connection)
        connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
    return path


@pytest.fixture
async def thread(path: Path) -> AsyncIterator[DatabaseThread]:
    """One that writes."""
    thread = DatabaseThread(path, "BEGIN IMMEDIATE")
    await thread.start()
    yield thread
    await thread.stop()


def insert(connection: sqlite3.Connection, number: int) -> int:
    connection.execute("INSERT INTO numbers VALUES (?)", (number,))
    return number


def refuse(connection: sqlite3.Connection) -> int:
    raise Conflict


def misbehave(connection: sqlite3.Connection) -> int:
    insert(connection, 1000)
    raise ValueError("a bug")


def twice(connection: sqlite3.Connection) -> int:
    return insert(connection, 1001) + insert(connection, 1001)


async def numbers(thread: DatabaseThread) -> list[int]:
    rows = await thread.ask(
        lambda connection: connection.execute("SELECT number FROM numbers").fetchall()
    )
    return [number for (number,) in rows]


@contextmanager
def busy(thread: DatabaseThread) -> Iterator[None]:
    """The thread stands in the middle of a transaction; what is asked of it meanwhile waits."""
    entered, left = threading.Event(), threading.Event()

    def stand(_connection: sqlite3.Connection) -> None:
        entered.set()
        assert left.wait(10)

    standing = thread.ask(stand)
    assert entered.wait(10)
    try:
        yield
    finally:
        left.set()
    assert not standing.done()


async def trace(thread: DatabaseThread) -> list[str]:
    """What it says to the database from now on."""
    said: list[str] = []
    await thread.ask(lambda connection: connection.set_trace_callback(said.append))
    said.clear()
    return said


async def test_what_waits_is_one_transaction(thread: DatabaseThread) -> None:
    """A hundred jobs share one sync of the disk, and each has its own result."""
    said = await trace(thread)
    with busy(thread):
        jobs = [thread.ask(partial(insert, number=number)) for number in range(100)]

    assert await asyncio.gather(*jobs) == list(range(100))
    assert said.count("COMMIT") == 2  # the one that stood, and the hundred
    assert await numbers(thread) == list(range(100))


async def test_nothing_waits_for_others_to_come(thread: DatabaseThread) -> None:
    """A single job is done at once."""
    said = await trace(thread)

    for number in range(3):
        assert await thread.ask(partial(insert, number=number)) == number

    assert said.count("COMMIT") == 3


async def test_one_that_is_refused_leaves_the_others_together(thread: DatabaseThread) -> None:
    """It has written nothing, so the transaction goes on."""
    said = await trace(thread)
    with busy(thread):
        before = thread.ask(partial(insert, number=1))
        refused = thread.ask(refuse)
        after = thread.ask(partial(insert, number=2))

    assert (await before, await after) == (1, 2)
    with pytest.raises(Conflict):
        await refused
    assert said.count("COMMIT") == 2
    assert await numbers(thread) == [1, 2]


async def test_one_that_fails_takes_no_other_along(thread: DatabaseThread) -> None:
    """Neither its own half-done work nor its failure is seen by the others."""
    with busy(thread):
        asked: list[Job[int]] = [
            partial(insert, number=1),
            misbehave,
            partial(insert, number=2),
            twice,
            refuse,
            partial(insert, number=3),
        ]
        jobs = [thread.ask(job) for job in asked]

    ends = await asyncio.gather(*jobs, return_exceptions=True)

    assert [type(end) for end in ends] == [int, ValueError, int, StoreError, Conflict, int]
    assert await numbers(thread) == [1, 2, 3]


async def test_each_has_its_own_error(thread: DatabaseThread, path: Path) -> None:
    """Who raises an exception writes a traceback into it."""
    with busy(thread):
        os.rename(path, path.with_suffix(".away"))
        jobs = [thread.ask(partial(insert, number=number)) for number in range(3)]

    ends = await asyncio.gather(*jobs, return_exceptions=True)

    assert {type(end) for end in ends} == {StoreError}
    assert len(set(map(id, ends))) == 3


async def test_a_failed_commit_fails_all_and_leaves_nothing(thread: DatabaseThread) -> None:
    """Nobody is told of what is not there; and the next job finds all in order."""
    await thread.ask(lambda connection: connection.execute(CHILDREN).close())

    def orphan(connection: sqlite3.Connection) -> None:
        insert(connection, 1)
        connection.execute("INSERT INTO children VALUES (99)")

    with pytest.raises(StoreError, match="FOREIGN KEY"):
        await thread.ask(orphan)

    assert await numbers(thread) == []
    assert await thread.ask(partial(insert, number=1)) == 1


async def test_a_failure_holds_no_lock(thread: DatabaseThread, path: Path) -> None:
    """Not even while somebody looks at the exception: a cursor lives on in its traceback."""
    await thread.ask(partial(insert, number=1))

    def fail(connection: sqlite3.Connection) -> None:
        insert(connection, 2)
        rows = connection.execute("SELECT 1 UNION ALL SELECT 2")
        raise ValueError(rows.fetchone())

    with pytest.raises(ValueError, match="1") as told:
        await thread.ask(fail)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("COMMIT")
    assert told.type is ValueError  # it is kept until here

    assert await numbers(thread) == [1]


async def test_who_gave_up_before_is_spared_the_work(thread: DatabaseThread) -> None:
    """A read that timed out is not done for nobody."""
    with busy(thread):
        job = thread.ask(partial(insert, number=1))
        job.cancel()
        other = thread.ask(partial(insert, number=2))

    await other
    assert await numbers(thread) == [2]


async def test_who_gave_up_in_the_middle_disturbs_nobody(thread: DatabaseThread) -> None:
    """What was begun is finished."""
    entered, left = threading.Event(), threading.Event()

    def slowly(connection: sqlite3.Connection) -> int:
        entered.set()
        assert left.wait(10)
        return insert(connection, 1)

    job = thread.ask(slowly)
    assert entered.wait(10)
    job.cancel()
    left.set()

    assert await thread.ask(partial(insert, number=2)) == 2
    assert await numbers(thread) == [1, 2]


async def test_a_stop_finishes_what_was_asked(path: Path) -> None:
    """Then the thread has ended, and nothing more can be asked."""
    before = threading.active_count()
    thread = DatabaseThread(path, "BEGIN IMMEDIATE")
    await thread.start()
    jobs = [thread.ask(partial(insert, number=number)) for number in range(10)]

    await thread.stop()
    await thread.stop()

    assert await asyncio.gather(*jobs) == list(range(10))
    assert threading.active_count() == before
    with pytest.raises(StoreError, match="is not open"):
        await thread.ask(partial(insert, number=11))


async def test_a_thread_that_cannot_connect_ends(tmp_path: Path) -> None:
    """Its failure is told, and nothing is left."""
    before = threading.active_count()
    thread = DatabaseThread(tmp_path / "missing.db", "BEGIN")

    with pytest.raises(StoreError, match="unable to open"):
        await thread.start()

    assert threading.active_count() == before
    with pytest.raises(StoreError, match="is not open"):
        await thread.ask(refuse)
