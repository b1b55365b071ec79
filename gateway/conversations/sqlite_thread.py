"""A connection to an SQLite database, on a thread of its own.

What waits when the thread comes round is done in one transaction: while the disk is syncing for one
turn, the next hundred gather, and share the next sync.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from gateway.conversations import sqlite_schema
from gateway.conversations.sqlite_schema import connect
from gateway.conversations.store import Conflict, StoreError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# Seconds between two looks whether another process has done writing: its commits take some.
_POLL = 0.002

Job = Callable[[sqlite3.Connection], T]
"""Something to do in a transaction. If that fails it may be done once more; when it raises
`Conflict` it must have written nothing."""


class _Task(Generic[T_co]):
    """A job, and the future of whoever waits for it."""

    __slots__ = ("_error", "_job", "_result", "done")

    _result: T_co

    def __init__(self, job: Job[T_co], done: asyncio.Future[T_co]) -> None:
        self._job = job
        self._error: Exception | None = None
        self.done = done

    def run(self, connection: sqlite3.Connection) -> None:
        try:
            self._result, self._error = self._job(connection), None
        except Conflict as exc:
            self._error = exc

    def fail(self, exc: Exception) -> None:
        if not isinstance(exc, (sqlite3.Error, StoreError)):
            self._error = exc
            return
        # Each has its own: the traceback of who raises it is written into it.
        self._error = StoreError(str(exc))
        self._error.__cause__ = exc

    def settle(self) -> None:
        if self.done.done():
            return
        if self._error is not None:
            self.done.set_exception(self._error)
        else:
            self.done.set_result(self._result)


class DatabaseThread:
    """Does jobs one after another; `begin` begins their transactions."""

    def __init__(self, path: Path, begin: str) -> None:
        self._path = path
        self._begin = begin
        self._tasks: SimpleQueue[_Task[object] | None] = SimpleQueue()
        self._thread: Thread | None = None
        # Only for the thread.
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    async def start(self) -> None:
        """Connect. Raises `StoreError`."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        # A process that ends without having stopped it shall not wait for it.
        self._thread = Thread(target=self._run, name="sqlite", daemon=True)
        self._thread.start()
        try:
            await self.ask(lambda _: None)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Do what was asked, then disconnect."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._tasks.put(None)
            await self._stopped.wait()
            thread.join()

    def ask(self, job: Job[T]) -> asyncio.Future[T]:
        """Have it done, unless the future is cancelled before its turn. The future raises what the
        job does, and `StoreError` for the database's errors."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._thread is None:
            done.set_exception(StoreError(f"{self._path} is not open"))
        else:
            task: _Task[T] = _Task(job, done)
            self._tasks.put(task)
        return done

    def _run(self) -> None:
        going = True
        while going:
            waiting = self._waiting()
            tasks = [task for task in waiting if task is not None and not task.done.cancelled()]
            going = waiting[-1] is not None
            if tasks:
                self._do(tasks)
                self._tell(partial(_settle, tasks))
        self._disconnect()
        self._tell(self._stopped.set)

    def _waiting(self) -> list[_Task[object] | None]:
        """All there is, at least one; None is the last of all."""
        found = [self._tasks.get()]
        with suppress(Empty):
            while True:
                found.append(self._tasks.get_nowait())
        return found

    def _do(self, tasks: Sequence[_Task[object]]) -> None:
        """All in one transaction; if it fails each in its own, so that one which cannot be done
        takes no other along."""
        try:
            connection = self._begun()
        except (sqlite3.Error, StoreError) as exc:
            _fail(tasks, exc)
            return
        try:
            for task in tasks:
                task.run(connection)
            connection.execute("COMMIT")
        except Exception as exc:
            self._disconnect()
            if len(tasks) == 1:
                _fail(tasks, exc)
                return
            for task in tasks:
                self._do([task])

    def _begun(self) -> sqlite3.Connection:
        """The connection, in a new transaction."""
        # SQLite itself would go on writing into a file that nobody can find any more.
        if self._file is not None and _identity(self._path) != self._file:
            raise StoreError(
                f"{self._path} was moved, deleted or replaced while in use: put it back, or stop"
                f" the gateway, delete {self._path.name}-wal and -shm beside it, and start again"
            )
        if self._connection is None:
            self._connection = connect(self._path)
            self._file = self._file or _identity(self._path)
        try:
            _begin(self._connection, self._begin)
        except sqlite3.Error:
            self._disconnect()
            raise
        return self._connection

    def _disconnect(self) -> None:
        """Whatever its state after an error: the next job gets a new connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing rolls back, too, but not while a cursor lives in some traceback.
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            connection.close()

    def _tell(self, callback: Callable[[], None]) -> None:
        # The loop may have been closed without stopping this: then nobody waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)


def _begin(connection: sqlite3.Connection, statement: str) -> None:
    """Wait for other processes' writes, for as long as SQLite would. It would sleep longer and
    longer, up to a tenth of a second: with a few who write all the time, one of them waits for
    seconds, and mostly nobody writes."""
    timeout = sqlite_schema.BUSY_TIMEOUT
    until = time.monotonic() + timeout
    connection.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            connection.execute(statement)
            break
        except sqlite3.OperationalError as exc:
            busy = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > until:
                raise
        time.sleep(_POLL)
    connection.execute(f"PRAGMA busy_timeout = {timeout * 1000:.0f}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _fail(tasks: Sequence[_Task[object]], exc: Exception) -> None:
    for task in tasks:
        task.fail(exc)


def _settle(tasks: Sequence[_Task[object]]) -> None:
    for task in tasks:
        task.settle()
