"""Claims that processes of one machine hold against each other: each a locked byte of one file.

The kernel frees what a process held when the process ends, however it ends.
"""

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

# struct flock: type, whence, start, length, pid.
_FLOCK = "hhqqi0q"


def lock_as_open_file(fd: int, kind: int, byte: int) -> None:
    """Linux's way: the lock is held by the open file, and so by one store."""
    if sys.platform == "linux":
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0))


def lock_as_process(fd: int, kind: int, byte: int) -> None:
    """POSIX's way, which has a trap: the process holds the lock. A second store in it would be
    given the same claims, and the first to close the file would lose those of both."""
    wanted = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
    fcntl.lockf(fd, wanted, 1, byte)


_LOCK = lock_as_open_file if sys.platform == "linux" else lock_as_process


class Claims:
    """What one store holds. A name is any integer from 0 to 2^62. Raises `OSError`."""

    def __init__(self, path: Path, lock: Callable[[int, int, int], None] = _LOCK) -> None:
        self._lock = lock
        # Locks do not refuse their own holder: what is held has to be known here as well.
        self._held: set[int] = set()
        # A fork of this process would hold the claims on, but Python closes it in all others.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, name: int) -> bool:
        """False if it is held already, by anyone."""
        if name in self._held:
            return False
        try:
            self._lock(self._fd, fcntl.F_WRLCK, name)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        self._held.add(name)
        return True

    def give_back(self, name: int) -> None:
        """Nothing if it is not held here."""
        if name in self._held:
            self._held.discard(name)
            self._lock(self._fd, fcntl.F_UNLCK, name)

    def close(self) -> None:
        """Give all of them back."""
        self._held.clear()
        os.close(self._fd)
