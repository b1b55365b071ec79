"""The files that a config is made of, and how a change of one is seen.

Editors write a new file and rename it to the old name. Kubernetes lets a whole folder of links lead
through one link, `..data`, and exchanges that. So what is watched is never a file: it is its
folder, and the folder of every link on the way to it.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.config.file import ConfigFile
from gateway.config.model import Config
from gateway.config.secrets import places

# As many as Linux follows.
_MAX_LINKS = 40

Signature = tuple[int, ...]


def files(file: ConfigFile, config: Config) -> Iterator[Path]:
    """The file itself, and those that it names: secrets, CA bundles, transcripts, key sets."""
    yield file.path
    named = [secret.file for _, secret in places(config)]
    for upstream in config.upstreams.values():
        named.append(upstream.file)
        named.append(upstream.verify if isinstance(upstream.verify, str) else None)
    yield from (file.base / name for name in named if name is not None)


def signature(path: Path) -> Signature | None:
    """Changes with what the path leads to; None where that is nothing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def folders(paths: Iterable[Path]) -> frozenset[Path]:
    """Where something happens when one of the paths comes to lead to something else."""
    return frozenset(_there(folder) for path in paths for folder in _on_the_way(path))


def _on_the_way(path: Path) -> Iterator[Path]:
    path = path.absolute()
    at, left, links = Path(path.anchor), deque(path.parts[1:]), 0
    while left:
        part = left.popleft()
        step = at.parent if part == ".." else at / part
        if not step.is_symlink():
            at = step
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        yield at
        target = step.readlink()
        left.extendleft(reversed(target.parts[target.is_absolute() :]))
        at = Path(target.anchor) if target.is_absolute() else at
    yield at.parent


def _there(folder: Path) -> Path:
    """The folder, or the next one above it that there is."""
    return next((f for f in (folder, *folder.parents) if f.is_dir()), Path(folder.anchor))
