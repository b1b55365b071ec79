"""The content of a file that may be anything: what is at its path is somebody else's to say."""

import errno
import io
import os
import select
from pathlib import Path
from typing import Final

# More than any secret, certificate or bundle of them has.
MAX_SIZE: Final = 16 << 20

# How long whoever writes into a pipe may take for the next piece. Who opened it for reading without
# such a clock would wait for ever, and a stop with them.
_PATIENCE = 5.0

_CHUNK = 1 << 20


def content(path: Path, most: int = MAX_SIZE) -> bytes:
    """All of it. Raises `OSError`, also for a pipe that nobody writes into and for more than `most`
    bytes, and `ValueError` for a path that can be none."""
    data = bytearray()
    poll = select.poll()
    with io.FileIO(path, opener=_not_waiting) as file:
        poll.register(file, select.POLLIN)
        while poll.poll(_PATIENCE * 1000):
            piece = file.read(_CHUNK)
            if not piece:
                return bytes(data)
            data += piece
            if len(data) > most:
                raise OSError(errno.EFBIG, f"more than {most} bytes")
    raise OSError(errno.ETIMEDOUT, "a pipe that nobody writes into")


def _not_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
