"""The database's file: made, refused, and brought from one version of the schema to the next."""

import asyncio
import errno
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.conversations import sqlite, sqlite_schema
from gateway.conversations.claims import Claims
from gateway.conversations.sqlite import SqliteStore
from gateway.conversations.sqlite_schema import MIGRATIONS, opening
from gateway.conversations.store import StoreError
from tests.conversations.records import ACME, EVERYTHING, dialogue, new

VERSION = len(MIGRATIONS)
EXTRA = ("ALTER TABLE conversations ADD COLUMN extra TEXT", "CREATE TABLE extra (number INTEGER)")

# Waits until all are there, then opens the database, and writes into it.
OPENER = """
import asyncio, sys
from pathlib import Path
from gateway.conversations.sqlite import SqliteStore
from tests.conversations.records import new

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    before = await store.open()
    await store.save(new(int(sys.argv[2])), ())
    await store.close()
    print(before)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "conversations.db"


async def opened(path: Path) -> int:
    """Open it and close it again; the version that it had."""
    store = SqliteStore(path)
    before = await store.open()
    await store.close()
    return before


def execute(path: Path, *statements: str) -> list[int]:
    """The first column of the last statement's rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = [connection.execute(statement).fetchall() for statement in statements]
    return [row[0] for row in rows[-1]]


async def test_a_database_is_made_once(path: Path) -> None:
    """It had no version before, and the newest one after that."""
    assert await opened(path) == 0
    assert await opened(path) == VERSION


async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    """Somebody has made it to give it an owner and a mode."""
    os.close(os.open(path, os.O_CREAT, 0o640))

    assert await opened(path) == 0
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


async def test_the_files_are_their_owners(path: Path) -> None:
    """All of them: they hold chats."""
    store = SqliteStore(path)
    await store.open()
    await store.save(new(1), ())
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    await store.close()

    ends = ("", "-wal", "-shm", "-claims")
    assert modes == {f"{path.name}{end}": 0o600 for end in ends}


async def test_a_name_may_have_any_character(tmp_path: Path) -> None:
    """Also those that mean something in a URI."""
    path = tmp_path / "täglich 100%? #1&mode=memory.db"

    assert await opened(path) == 0
    assert await opened(path) == VERSION
    assert path.stat().st_size > 0


# What cannot be opened


def in_no_folder(path: Path) -> Path:
    return path / "missing" / "conversations.db"


def in_a_file(path: Path) -> Path:
    path.touch()
    return path / "conversations.db"


def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


def no_database(path: Path) -> Path:
    path.write_text("[store]\nurl = 'memory://'\n" * 100)
    return path


def others_with_tables(path: Path) -> Path:
    execute(path, "CREATE TABLE bookmarks (url TEXT)")
    return path


def others_with_a_version(path: Path) -> Path:
    execute(path, f"PRAGMA user_version = {VERSION}")
    return path


def others_with_a_name(path: Path) -> Path:
    execute(path, "PRAGMA application_id = 12345")
    return path


def newer(path: Path) -> Path:
    execute(path, "PRAGMA application_id = 0x6f636777", f"PRAGMA user_version = {VERSION + 7}")
    return path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (in_no_folder, "No such file or directory; its folder does not exist: create it, or"),
        (in_a_file, "Not a directory; its folder is a file:"),
        (a_folder, "Is a directory; that is a folder:"),
        (no_database, "file is not a database; move it away, or"),
        (others_with_tables, "is another program's database:"),
        (others_with_a_version, "is another program's database:"),
        (others_with_a_name, "is another program's database:"),
        (newer, f"version {VERSION + 7} of the schema, and this gateway knows {VERSION}: run the"),
    ],
)
async def test_what_cannot_be_opened_is_told_in_one_line(
    path: Path, given: Callable[[Path], Path], message: str
) -> None:
    """With the path, and what to do; nothing is left open, and the file is as it was."""
    path = given(path)
    content = path.read_bytes() if path.is_file() else None
    threads, files = threading.active_count(), os.listdir("/proc/self/fd")

    with pytest.raises(StoreError) as told:
        await SqliteStore(path).open()

    assert message in str(told.value)
    assert str(path) in str(told.value)
    assert "store.url" in str(told.value)
    assert "\n" not in str(told.value)
    assert threading.active_count() == threads
    assert os.listdir("/proc/self/fd") == files
    assert (path.read_bytes() if path.is_file() else None) == content


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "let this user write"),
        (errno.EROFS, "name a file on another file system"),
        (errno.ENOSPC, "let this user write"),
    ],
)
def test_the_systems_words_come_with_advice(path: Path, code: int, advice: str) -> None:
    """Whatever it has to say."""
    with pytest.raises(StoreError, match=advice) as told, opening(path):
        raise OSError(code, os.strerror(code))

    assert os.strerror(code) in str(told.value)


# Versions


async def test_an_older_schema_is_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step, with everything that is in it."""
    store = SqliteStore(path)
    await store.open()
    await store.save(new(1), ())
    await store.close()

    steps = (*MIGRATIONS, EXTRA, ("INSERT INTO extra VALUES (7)",))
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", steps)
    assert await store.open() == VERSION
    found = await store.load(ACME, 1, EVERYTHING)
    await store.save(new(2), ())
    figures = await store.figures()
    await store.close()

    assert found is not None
    assert found[1] == dialogue(2)
    assert (figures.schema, figures.conversations) == (VERSION + 2, 2)
    assert execute(path, "SELECT number FROM extra") == [7]


async def test_a_migration_that_fails_leaves_all_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older gateway goes on with it."""
    await opened(path)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_schema, "MIGRATIONS", (*MIGRATIONS, EXTRA, ("NONSENSE",)))
        with pytest.raises(StoreError, match="syntax error"):
            await opened(path)

    assert await opened(path) == VERSION
    assert execute(path, "SELECT count(*) FROM sqlite_master WHERE name = 'extra'") == [0]


async def test_who_opens_waits_for_who_is_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tells of it when that takes too long."""
    with closing(Claims(Path(f"{path}-claims"))) as other:
        assert other.take(0)
        with monkeypatch.context() as patched:
            patched.setattr(sqlite, "_OPENING_TIMEOUT", 0.03)
            with pytest.raises(StoreError, match="another process has been opening"):
                await opened(path)
        waiting = asyncio.ensure_future(opened(path))
        await asyncio.sleep(0)
        assert not waiting.done()
        other.give_back(0)

    assert await waiting == 0


def test_several_processes_may_start_at_once(path: Path) -> None:
    """One of them makes the database, and all of them work."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(1, 7)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    said = [process.communicate()[0] for process in processes]

    assert [process.returncode for process in processes] == [0] * 6
    assert sorted(map(int, said)) == [0, *[VERSION] * 5]
    assert execute(path, "SELECT id FROM conversations ORDER BY id") == [1, 2, 3, 4, 5, 6]
