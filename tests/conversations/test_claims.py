"""Claims by locks of a file: one holder among all stores and processes, and none that died."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.conversations.claims import Claims, lock_as_open_file, lock_as_process

Lock = Callable[[int, int, int], None]

LOCKS = [lock_as_open_file, lock_as_process]
LARGEST = 1 << 62

HOLDER = """
import sys
from pathlib import Path
from gateway.conversations import claims
held = claims.Claims(Path(sys.argv[1]), getattr(claims, sys.argv[2]))
for name in sys.argv[3:]:
    assert held.take(int(name))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path, lock: Lock, *names: int) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds these claims until it is told to end, or killed."""
    command = [sys.executable, "-c", HOLDER, str(path), lock.__name__, *map(str, names)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the claims are."""
    return tmp_path / "claims"


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("name", [0, 1, LARGEST])
def test_a_claim_is_held_once(path: Path, lock: Lock, name: int) -> None:
    """The holder itself is refused, too, until it gives it back."""
    with closing(Claims(path, lock)) as claims:
        assert claims.take(name)
        assert not claims.take(name)
        claims.give_back(name)
        claims.give_back(name)
        assert claims.take(name)


def test_stores_of_one_process_exclude_each_other(path: Path) -> None:
    """And closing one of them leaves the other its claims."""
    with closing(Claims(path)) as claims:
        with closing(Claims(path)) as other:
            assert claims.take(1)
            assert other.take(2)
            assert not other.take(1)
            assert not claims.take(2)
            other.give_back(1)
            assert not other.take(1)
        with closing(Claims(path)) as third:
            assert not third.take(1)
            assert third.take(2)


@pytest.mark.parametrize("lock", LOCKS)
def test_processes_exclude_each_other(path: Path, lock: Lock) -> None:
    """Claim by claim; what one gives back the other can take."""
    with closing(Claims(path, lock)) as claims, holder(path, lock, 5, LARGEST) as process:
        assert not claims.take(5)
        assert not claims.take(LARGEST)
        assert claims.take(4)
        assert claims.take(6)

        process.communicate()
        assert claims.take(5)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_dead_hold_nothing(path: Path, lock: Lock) -> None:
    """Killed in the middle of a turn."""
    with closing(Claims(path, lock)) as claims, holder(path, lock, 5) as process:
        assert not claims.take(5)
        process.kill()
        process.wait()

        assert claims.take(5)


def test_a_child_process_holds_nothing(path: Path) -> None:
    """The file is not handed down to a program that is started meanwhile."""
    with closing(Claims(path)) as claims:
        assert claims.take(1)
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with closing(Claims(path)) as others:
            assert others.take(1)
    finally:
        child.kill()
        child.wait()


def test_the_file_is_its_owners(path: Path) -> None:
    """Whoever may open it may lock it."""
    with closing(Claims(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_no_refusal_is_raised(path: Path) -> None:
    """A kernel out of locks does not mean that somebody else has the claim, nor that we do."""

    def out_of_locks(fd: int, kind: int, byte: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with closing(Claims(path, out_of_locks)) as claims:
        for _ in range(2):
            with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
                claims.take(1)


def test_what_is_not_held_is_not_unlocked(path: Path) -> None:
    """A store that gives back what it does not have touches no lock."""
    done: list[tuple[int, int]] = []

    with closing(Claims(path, lambda _fd, kind, byte: done.append((kind, byte)))) as claims:
        claims.give_back(1)
        assert claims.take(2)
        claims.give_back(2)

    assert done == [(fcntl.F_WRLCK, 2), (fcntl.F_UNLCK, 2)]
