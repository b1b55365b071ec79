"""Where log lines go: nothing that happens there is a reason not to serve."""

import io
import select
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

# What is ready to be written to takes so much without a pause (PIPE_BUF on Linux).
_PIECE = 4096


class LogStream:
    """Lines for a disk that may be full, and for a reader that may have gone, or may not keep up:
    what it does not take at once is lost, for the event loop would wait with it. `told` makes a
    line of how many were. Used under a lock."""

    def __init__(self, stream: BinaryIO, told: Callable[[int], bytes]) -> None:
        self._stream = stream
        self._told = told
        self._poll = _poll(stream)
        self._lost = 0
        self._torn = False

    def write(self, line: bytes) -> None:
        if self._lost and self._takes():
            line = self._told(self._lost) + b"\n" + line
            self._lost = 0
        if self._torn:
            line = b"\n" + line
        with suppress(OSError):
            self._torn = self._in_pieces(line)

    def flush(self) -> None:
        """Done with each piece."""

    def _in_pieces(self, line: bytes) -> bool:
        """Whether a part of it, or the end of what came before, could not be written."""
        for at in range(0, len(line), _PIECE):
            if not self._takes():
                self._lost += 1
                return self._torn or at > 0
            self._stream.write(line[at : at + _PIECE])
            self._stream.flush()
        return False

    def _takes(self) -> bool:
        return self._poll is None or bool(self._poll.poll(0))


def _poll(stream: BinaryIO) -> "select.poll | None":
    """None for what is no file of the system's: it takes everything."""
    try:
        number = stream.fileno()
    except (OSError, io.UnsupportedOperation):
        return None
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return poll
