"""The SQLite database's file: made, opened, and brought to the schema of this gateway."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.conversations.store import StoreError

# Of each version of the schema, what makes it from the one before. Those that were released never
# change.
#
# `messages` keeps its row ids: with rows of this size WITHOUT ROWID was measured to cost twice as
# much per turn and half as much space again. Places are compared with IS, which uses the indexes.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE conversations (
            id INTEGER PRIMARY KEY,
            workspace TEXT,
            origin TEXT,
            agent INTEGER NOT NULL,
            user_id TEXT,
            title TEXT,
            status TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            length INTEGER NOT NULL,
            version INTEGER NOT NULL,
            upstream_ids TEXT NOT NULL
        )""",
        "CREATE INDEX by_place ON conversations (workspace, origin, agent, updated)",
        """CREATE INDEX by_user ON conversations (workspace, origin, agent, user_id, updated)
            WHERE user_id IS NOT NULL""",
        "CREATE INDEX by_activity ON conversations (updated)",
        """CREATE TABLE messages (
            conversation INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            id INTEGER NOT NULL,
            role TEXT NOT NULL,
            created INTEGER NOT NULL,
            parts TEXT NOT NULL,
            about TEXT,
            feedback TEXT,
            PRIMARY KEY (conversation, position),
            UNIQUE (conversation, id)
        )""",
        """CREATE TABLE answered (
            subject TEXT NOT NULL,
            key TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            conversation INTEGER NOT NULL,
            message INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            PRIMARY KEY (subject, key)
        ) WITHOUT ROWID""",
        "CREATE INDEX by_expiry ON answered (expires)",
    ),
)

# Tells our databases from other programs': "ocgw".
_APPLICATION = 0x6F636777

# How long the write lock is waited for, in seconds: another process holds it for one transaction.
BUSY_TIMEOUT = 5.0

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # What is forgotten shall not be found in the file.
    "PRAGMA secure_delete = ON",
    # Pages; the default costs a sixth of a turn, for what changes again and again is copied from
    # the write-ahead log four times as often.
    "PRAGMA wal_autocheckpoint = 4000",
    # Bytes: one long transaction must not leave a large log behind for good.
    "PRAGMA journal_size_limit = 67108864",
)

# What to do about what the system says, and what SQLite says.
_ADVICE = {
    errno.ENOENT: "its folder does not exist: create it, or name another file in store.url",
    errno.ENOTDIR: "its folder is a file: name another file in store.url",
    errno.EISDIR: "that is a folder: name a file in store.url",
    errno.EROFS: "name a file on another file system in store.url",
}
_SQLITE_ADVICE = {
    sqlite3.SQLITE_NOTADB: "move it away, or name another file in store.url",
    sqlite3.SQLITE_CORRUPT: "bring back its last backup",
    sqlite3.SQLITE_BUSY: "another program holds it: end that program",
    sqlite3.SQLITE_FULL: "make room on its disk",
}
_WRITABLE = "let this user write the file and its folder, or name another file in store.url"


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """What goes wrong with the file in here is a `StoreError` that says what to do about it."""
    try:
        yield
    except OSError as exc:
        advice = _ADVICE.get(exc.errno or 0, _WRITABLE)
        raise StoreError(f"cannot open {path}: {exc.strerror}; {advice}") from exc
    except sqlite3.Error as exc:
        # The first byte is the code proper, the rest says more about it.
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        advice = _SQLITE_ADVICE.get(code, _WRITABLE)
        raise StoreError(f"cannot open {path}: {exc}; {advice}") from exc


def create(path: Path) -> None:
    """An empty file, if there is none: it will hold chats, so only for its owner's eyes. SQLite
    gives the files beside it the same mode."""
    with opening(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there. Raises `StoreError`, also if it is not ours."""
    with opening(path):
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT, isolation_level=None
        )
        try:
            _check(path, connection)
            for pragma in _PRAGMAS:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
    return connection


def migrate(path: Path, connection: sqlite3.Connection) -> int:
    """Within a transaction: bring the schema up to date. The version it had, 0: there was none."""
    with opening(path):
        before = _check(path, connection)
        for script in MIGRATIONS[before:]:
            for statement in script:
                connection.execute(statement)
        if before < len(MIGRATIONS):
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    return before


def schema_version(connection: sqlite3.Connection) -> int:
    """0: there is none yet."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _check(path: Path, connection: sqlite3.Connection) -> int:
    """The version of the schema; `StoreError` for a file that is not this gateway's."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version = schema_version(connection)
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION and (application or version or objects):
        raise StoreError(f"{path} is another program's database: name another file in store.url")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} has version {version} of the schema, and this gateway knows"
            f" {len(MIGRATIONS)}: run the newer gateway, or name another file in store.url"
        )
    return version
