"""Where log lines go: nothing that happens there is a reason not to serve."""

import asyncio
import io
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

# What is ready to be written to takes so much without a pause (PIPE_BUF on Linux).
_PIECE = 4096


class LogStream:
    """Lines for a disk that may be full, and for a reader that may have gone, or may not keep up:
    what it does not take at once is lost, for the event loop would wait with it. `told` makes a
    line of how many were. Threads may write as well, which is why there is a lock: lines are held
    and written past the logger's."""

    def __init__(self, stream: BinaryIO, told: Callable[[int], bytes]) -> None:
        self._stream = stream
        self._told = told
        self._poll = _poll(stream)
        self._lock = threading.Lock()
        self._held: list[bytes] = []
        self._lost = 0
        self._torn = False

    def hold(self, line: bytes) -> None:
        """Write a line with others, before the event loop waits the next time; at once without a
        loop. One write for each request would be a tenth of what a short one costs."""
        with self._lock:
            self._held.append(line)
            first = len(self._held) == 1
        if first:
            try:
                asyncio.get_running_loop().call_soon(self._write_held)
            except RuntimeError:
                self._write_held()

    def write(self, line: bytes) -> None:
        with self._lock:
            self._held.append(line)
        self._write_held()

    def flush(self) -> None:
        """Done with each write."""

    def _write_held(self) -> None:
        with self._lock:
            lines, self._held = self._held, []
            for piece, count in _batches(lines):
                self._write(piece, count)

    def _write(self, lines: bytes, count: int) -> None:
        if self._lost and self._takes():
            lines = self._told(self._lost) + b"\n" + lines
            self._lost = 0
        if self._torn:
            lines = b"\n" + lines
        with suppress(OSError):
            self._torn = self._in_pieces(lines, count)

    def _in_pieces(self, lines: bytes, count: int) -> bool:
        """Whether a part of them, or the end of what came before, could not be written."""
        for at in range(0, len(lines), _PIECE):
            if not self._takes():
                self._lost += count
                return self._torn or at > 0
            self._stream.write(lines[at : at + _PIECE])
            self._stream.flush()
        return False

    def _takes(self) -> bool:
        return self._poll is None or bool(self._poll.poll(0))


def _batches(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """As many lines as fit into a piece, and how many they are; a longer one by itself."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and size + len(line) > _PIECE:
            yield b"".join(batch), len(batch)
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield b"".join(batch), len(batch)


def _poll(stream: BinaryIO) -> "select.poll | None":
    """None for what is no file of the system's: it takes everything."""
    try:
        number = stream.fileno()
    except (OSError, io.UnsupportedOperation):
        return None
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return poll
