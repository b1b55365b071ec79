"""Files that are none: what a path leads to is somebody else's to say."""

import os
import threading
import time
from pathlib import Path

import pytest

from gateway.config import reading
from gateway.config.reading import content


def test_all_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in (b"", b"some", b"x" * 3_000_000):
        path.write_bytes(text)
        assert content(path) == text


def test_a_pipe_that_somebody_writes_into(tmp_path: Path) -> None:
    """However late, and in pieces: as a shell's `<(...)`, and what hands secrets over."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for piece in (b"one ", b"two"):
                time.sleep(0.05)
                pipe.write(piece)

    writer = threading.Thread(target=write)
    writer.start()
    assert content(path) == b"one two"
    writer.join()


@pytest.mark.parametrize("wanted", ["a pipe that nobody writes into", "more than 4096 bytes"])
def test_what_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setattr(reading, "_PATIENCE", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match=wanted):
        content(path if "pipe" in wanted else Path("/dev/zero"), 4096)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path, wanted in ((tmp_path, IsADirectoryError), (tmp_path / "no", FileNotFoundError)):
        with pytest.raises(wanted):
            content(path)
    with pytest.raises(ValueError, match="null"):
        content(Path("a\0b"))
    assert len(os.listdir("/proc/self/fd")) == before
