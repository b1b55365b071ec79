"""Where things are in the file of a zone (`zone.py`).

                 one for each record, all of a kind together
header | states: two times (tokens, at, full_at) | names | slots: worker by worker | versions
"""

import os
import struct
from hashlib import blake2b
from secrets import token_bytes
from typing import NamedTuple, Self

# The last letter is the layout's version.
_MAGIC = b"oc-zone1"
_HEADER = struct.Struct("=8sIIQ16s")  # magic, records, workers, size of the file, salt
_HEADER_ROOM = 64

STATE, NAME, SLOT = 48, 16, 4

# How many records may be one subject's: a look at all of them is one search in 256 bytes.
GROUP = 16

# Processes that take for different subjects seldom wait for each other.
_STRIPES = 64


class Place(NamedTuple):
    """Where a subject's record is, if it has one."""

    name: bytes
    """What the subject is called in the file."""
    first: int
    """The first of the records that may be its own."""
    stripe: int
    """The lock of those records."""


class Layout(NamedTuple):
    """What the header says. Offsets are in bytes."""

    records: int
    """A power of two."""
    workers: int
    salt: bytes

    @classmethod
    def of(cls, subjects: int, workers: int) -> Self:
        """With room for at least so many subjects."""
        records = GROUP
        while records < subjects:
            records *= 2
        return cls(records, workers, token_bytes(16))

    @classmethod
    def read(cls, file: int) -> Self:
        """Of an open file. Raises `OSError`, and `ValueError` if it is not a zone, or not whole."""
        header = os.pread(file, _HEADER.size, 0)
        if len(header) == _HEADER.size:
            magic, records, workers, size, salt = _HEADER.unpack(header)
            layout = cls(records, workers, salt)
            if magic == _MAGIC and os.fstat(file).st_size == size == layout.size:
                return layout
        raise ValueError("not a zone of limits, or another version's")

    def packed(self) -> bytes:
        """The header."""
        header = _HEADER.pack(_MAGIC, self.records, self.workers, self.size, self.salt)
        return header.ljust(_HEADER_ROOM, b"\0")

    @property
    def states(self) -> int:
        """Where they begin, as below."""
        return _HEADER_ROOM

    @property
    def names(self) -> int:
        return self.states + self.records * STATE

    @property
    def slots(self) -> int:
        return self.names + self.records * NAME

    @property
    def versions(self) -> int:
        return self.slots + self.records * self.workers * SLOT

    @property
    def size(self) -> int:
        return self.versions + self.records

    def column(self, worker: int) -> int:
        """The first of a worker's slots, counted in slots. Raises `ValueError`: no such worker."""
        if not 0 <= worker < self.workers:
            raise ValueError(f"no worker {worker} in a zone for {self.workers}")
        return worker * self.records

    def place(self, subject: str) -> Place:
        """Where a subject's record is."""
        # Unsalted, a client might choose addresses that push another's bucket out.
        name = blake2b(
            subject.encode(errors="surrogatepass"), digest_size=NAME, salt=self.salt
        ).digest()
        groups = self.records // GROUP
        group = int.from_bytes(name[:8], "little") % groups
        return Place(name, group * GROUP, group * _STRIPES // groups)
