"""Buckets and slots that the processes of one gateway have in common: a hash table in a file.

Every process has the file in its memory. It changes a record while it holds a lock on one byte of
the file, which the kernel frees when its holder dies, and it may die anywhere, between two writes
as well. So a record is always one that was whole:

- A bucket's state has two places. The one that is not in force is written, and then one byte, the
  record's version, puts it into force: before, the take has not happened, and after, all of it has.
- Slots are counted worker by worker, each in numbers that only it writes, and a dead one's are
  forgotten as a whole (`release`).
- A record that changes hands gets a full bucket first and the new name last: before, who had it is
  forgotten, which it is to be.

A subject has sixteen records that may be its own, next to each other. Where all are somebody's,
a newcomer gets the one that will be full the soonest, for to forget a bucket is to fill it; but
none whose subject holds a slot.
"""

import fcntl
import mmap
import os
import sys
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Self

from gateway.limits.bucket import State
from gateway.limits.layout import GROUP, NAME, SLOT, Layout, Place
from gateway.limits.limiter import MAX_SUBJECTS

# A bucket that nothing was ever taken from: full, whatever its rate.
_UNTOUCHED = State(0.0, -inf, -inf)

# A version is a byte that is never 0 again; its lowest bit says which state is in force.
_LAST_VERSION, _NEXT_VERSION = 255, 2

# A subject's place is computed once while it is among so many.
_PLACES_KEPT = 4096


class Zone:
    """The file as one process has it open. What changes a record is called by one thread, with the
    record's lock held; what only reads may be called in any, without."""

    def __init__(self, file: int, layout: Layout, own: int | None) -> None:
        self._file = file
        self._layout = layout
        self._own = own
        """The first of the slots that are this process's to write."""
        self._bytes = mmap.mmap(file, layout.size)
        with memoryview(self._bytes) as whole:
            self._states = whole[layout.states : layout.names].cast("d")
            self._slots = whole[layout.slots : layout.versions].cast("I")
            self._versions = whole[layout.versions : layout.size]
        self._names = layout.names
        self.place = lru_cache(_PLACES_KEPT)(layout.place)
        """Where a subject's record is."""

    @classmethod
    def create(cls, path: Path, *, workers: int, subjects: int = MAX_SUBJECTS) -> Self:
        """A new file, which only its owner may open, with room for at least `subjects`: about 70
        bytes for each and 4 more for each worker, all of which it takes at once. Opened for who
        only looks and releases.

        Raises `OSError`, also where there is no room for the file or where it exists.
        """
        layout = Layout.of(subjects, workers)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "wb") as written:
            # With its zeros: a hole that cannot be filled later on kills the process that writes.
            written.write(layout.packed().ljust(layout.size, b"\0"))
        return cls.open(path, worker=None)

    @classmethod
    def open(cls, path: Path, *, worker: int | None) -> Self:
        """For the worker with this index, from 0; None: for who only looks and releases. Raises
        what `adopt` does."""
        return cls.adopt(os.open(path, os.O_RDWR), worker=worker)

    @classmethod
    def adopt(cls, file: int, *, worker: int | None) -> Self:
        """The same of a descriptor, inherited for instance, which is the zone's from now on.

        Locks are the process's, as POSIX has it: to close any other descriptor of the file would
        free them. Raises `OSError`, and `ValueError` if it is no zone or has no such worker.
        """
        try:
            layout = Layout.read(file)
            return cls(file, layout, None if worker is None else layout.column(worker))
        except BaseException:
            os.close(file)
            raise

    def close(self) -> None:
        """What its worker holds stays taken: see `release`."""
        for view in (self._states, self._slots, self._versions):
            view.release()
        self._bytes.close()
        os.close(self._file)

    def lock(self, stripe: int) -> None:
        """Wait for it. Others hold it for microseconds."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, stripe)

    def unlock(self, stripe: int) -> None:
        """Nothing if it is not locked."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, stripe)

    def find(self, place: Place) -> int | None:
        """The subject's record."""
        start = self._names + place.first * NAME
        # Between two names there is no third, for nobody can choose what their hashes are.
        found = self._bytes.find(place.name, start, start + GROUP * NAME)
        return None if found < 0 else (found - self._names) // NAME

    def add(self, place: Place) -> int | None:
        """A record for a subject without; None if all that it may have are of who holds slots."""
        record = self._room(place.first)
        if record is not None:
            start = self._names + record * NAME
            self.write(record, _UNTOUCHED)
            self._bytes[start : start + NAME] = place.name
        return record

    def _room(self, first: int) -> int | None:
        start = self._layout.versions + first
        unused = self._bytes.find(b"\0", start, start + GROUP)
        if unused >= 0:
            return unused - self._layout.versions
        states = self._states[6 * first : 6 * (first + GROUP)].tolist()
        versions = self._versions[first : first + GROUP]
        full_at = [states[6 * each + 3 * (now & 1) + 2] for each, now in enumerate(versions)]
        soonest = (first + each for each in sorted(range(GROUP), key=full_at.__getitem__))
        return next((record for record in soonest if not self.held(record)), None)

    def read(self, record: int) -> State:
        """A bucket's state."""
        while True:
            version = self._versions[record]
            at = 6 * record + 3 * (version & 1)
            state = State(self._states[at], self._states[at + 1], self._states[at + 2])
            # Without the lock, others may have been writing meanwhile.
            if self._versions[record] == version:
                return state

    def write(self, record: int, state: State) -> None:
        """Its next state, whole or not at all."""
        version = self._versions[record]
        version = version + 1 if version < _LAST_VERSION else _NEXT_VERSION
        at = 6 * record + 3 * (version & 1)
        self._states[at], self._states[at + 1], self._states[at + 2] = state
        self._versions[record] = version

    def held(self, record: int) -> int:
        """Its slots, of all workers."""
        return sum(self._slots[record :: self._layout.records])

    def hold(self, record: int) -> None:
        """One slot more."""
        assert self._own is not None, "only a worker holds slots"
        self._slots[self._own + record] += 1

    def let_go(self, record: int) -> None:
        """One slot less; it needs no lock, for nobody else writes this number."""
        assert self._own is not None, "only a worker holds slots"
        self._slots[self._own + record] -= 1

    def release(self, worker: int) -> None:
        """Take back the slots of a worker that has ended. Call it before there is a new one of
        this index, and never while it runs. Raises `ValueError`: there is no such worker."""
        start = self._layout.slots + self._layout.column(worker) * SLOT
        size = self._layout.records * SLOT
        self._bytes[start : start + size] = bytes(size)

    @property
    def subjects(self) -> int:
        """How many are remembered."""
        versions = self._bytes[self._layout.versions : self._layout.size]
        return self._layout.records - versions.count(0)

    @property
    def busy(self) -> int:
        """How many subjects hold a slot; to count them takes a millisecond or two."""
        slots, union = self._bytes[self._layout.slots : self._layout.versions], 0
        size = self._layout.records * SLOT
        for start in range(0, len(slots), size):
            union |= int.from_bytes(slots[start : start + size], sys.byteorder)
        held = memoryview(union.to_bytes(size, sys.byteorder)).cast("I").tolist()
        return len(held) - held.count(0)
