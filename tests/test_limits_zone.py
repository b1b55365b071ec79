"""The file that processes share: whose it is, what is accepted as one, and what it keeps."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gateway.config.values import Rate
from gateway.limits.bucket import State
from gateway.limits.shared import SharedLimiter
from gateway.limits.zone import Zone

LARGE = Rate(10_000, 1e6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A zone for three workers."""
    Zone.create(tmp_path / "zone", workers=3, subjects=100).close()
    return tmp_path / "zone"


@pytest.fixture
def limiters(path: Path) -> Iterator[list[SharedLimiter]]:
    """Each worker's."""
    with ExitStack() as stack:
        zones = [stack.enter_context(closing(Zone.open(path, worker=each))) for each in range(3)]
        yield [SharedLimiter(zone) for zone in zones]


def files_open() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_file_is_its_owners(path: Path) -> None:
    """Subjects are hashes in it, but slots could be taken and given."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_is_a_new_one(path: Path) -> None:
    """What is there may be another gateway's."""
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        Zone.create(path, workers=1)

    assert path.read_bytes() == before


def test_the_file_has_no_holes(path: Path) -> None:
    """A disk that is full later on would kill whoever writes to it."""
    assert path.stat().st_blocks * 512 >= path.stat().st_size


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "of something else": lambda whole: b"#!/bin/sh".ljust(len(whole)),
    "another version's": lambda whole: whole.replace(b"oc-zone1", b"oc-zone0", 1),
    "cut": lambda whole: whole[:-1],
    "too long": lambda whole: whole + b"\0",
    "only a header": lambda whole: whole[:64],
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_zone_is_not_used(path: Path, damage: Callable[[bytes], bytes]) -> None:
    """To write to it would harm it, or kill us."""
    path.write_bytes(damage(path.read_bytes()))
    before = files_open()

    with pytest.raises(ValueError, match="not a zone of limits"):
        Zone.open(path, worker=0)
    assert files_open() == before


def test_a_worker_has_its_number(path: Path) -> None:
    """There are slots for so many, and no more."""
    before = files_open()
    for worker in (-1, 3):
        with pytest.raises(ValueError, match="no worker"):
            Zone.open(path, worker=worker)
    with closing(Zone.open(path, worker=None)) as zone:
        for worker in (-1, 3):
            with pytest.raises(ValueError, match="no worker"):
                zone.release(worker)
        with pytest.raises(AssertionError), SharedLimiter(zone).slot("key:a", 1):
            pass

    assert files_open() == before


def test_a_dead_workers_slots_come_back(path: Path, limiters: list[SharedLimiter]) -> None:
    """And nobody else's."""
    with closing(Zone.open(path, worker=None)) as supervisor, ExitStack() as slots:
        looks = SharedLimiter(supervisor)
        for limiter in limiters:
            slots.enter_context(limiter.slot("key:a", None))
        limiters[1].slot("key:a", None).__enter__()
        limiters[1].slot("key:b", None).__enter__()
        assert (looks.held("key:a"), looks.held("key:b"), looks.busy) == (4, 1, 2)
        slots.pop_all()

        supervisor.release(1)
        assert (looks.held("key:a"), looks.held("key:b"), looks.busy) == (2, 0, 1)
        supervisor.release(1)
        assert looks.held("key:a") == 2
        supervisor.release(0)
        supervisor.release(2)
        assert looks.held("key:a") == looks.busy == 0


def test_what_was_taken_outlives_who_took_it(path: Path, limiters: list[SharedLimiter]) -> None:
    """A worker that is started again does not find its clients' buckets full."""
    limiters[0].take("key:a", LARGE, 0.0)

    with closing(Zone.open(path, worker=0)) as again:
        assert SharedLimiter(again).take("key:a", LARGE, 0.0).remaining == 9998


def test_a_bucket_counts_on_and_on(limiters: list[SharedLimiter]) -> None:
    """A version is a small number that begins again; it never says that there is nobody."""
    for taken in range(1, 1000):
        assert limiters[taken % 3].take("key:a", LARGE, 0.0).remaining == 10_000 - taken
        assert limiters[0].subjects == 1


def test_half_a_write_changes_nothing(path: Path) -> None:
    """At none of a record's versions is what is in force where the next state is written."""
    with closing(Zone.open(path, worker=0)) as zone:
        record = zone.add(zone.place("key:a"))
        assert record is not None
        for number in range(600):
            before = zone.read(record)
            with pytest.raises(TypeError):
                zone.write(record, State(-1.0, -1.0, "not a time"))  # type: ignore[arg-type]
            assert zone.read(record) == before

            zone.write(record, State(number, number, number))
            assert zone.read(record).tokens == number


def test_no_two_zones_have_the_same_places(tmp_path: Path) -> None:
    """Where a subject is cannot be computed elsewhere: nobody can aim at another's bucket."""
    places = set()
    for number in range(8):
        with closing(Zone.create(tmp_path / f"{number}", workers=1)) as zone:
            places.add(zone.place("key:a").first)

    assert len(places) > 1


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_who_only_looks_sees_whole_states(path: Path, writes: int) -> None:
    """Without the lock, and whatever is written between any two steps of the reading."""
    with closing(Zone.open(path, worker=0)) as zone, closing(Zone.open(path, worker=1)) as other:
        record = zone.add(zone.place("key:a"))
        assert record is not None
        numbers = count()

        def write() -> None:
            for _, number in zip(range(writes), numbers, strict=False):
                other.write(record, State(number, number, number))

        for step in count(1):
            write()
            state, interrupted = interrupting(lambda: zone.read(record), step, write)
            assert state.tokens == state.at == state.full_at
            if not interrupted:
                break
        assert step > 20


def interrupting(
    read: Callable[[], State], step: int, act: Callable[[], None]
) -> tuple[State, bool]:
    """What is read while that is done before one of its instructions, and whether it was."""
    left, before = step, sys.gettrace()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code is not Zone.read.__code__:
            return None
        frame.f_trace_opcodes = True
        left -= event == "opcode"
        if event == "opcode" and not left:
            act()
        return trace

    sys.settrace(trace)
    try:
        return read(), left <= 0
    finally:
        sys.settrace(before)
