"""The files that all workers have open."""

from pathlib import Path

import pytest

from gateway.workers import shared
from gateway.workers.shared import shared_files
from gateway.workers.starting import NotStarted


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """One for what is in memory and one for what is on a disk, neither of which is there."""
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    monkeypatch.setattr(shared, "_MEMORY", memory)
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    return memory, disk


@pytest.mark.parametrize("which", [0, 1])
def test_nothing_is_left_of_them(which: int, folders: tuple[Path, Path]) -> None:
    """In memory, or else on the disk: they have no name there."""
    folders[which].mkdir()
    shared_files(b"text", 2).close()
    assert list(folders[which].iterdir()) == []


def test_no_room(folders: tuple[Path, Path]) -> None:
    """The message says which folders those are."""
    with pytest.raises(NotStarted, match=r"in .*/memory, nor in \$TMPDIR: no such file") as caught:
        shared_files(b"text", 2)
    assert caught.value.code == 1
