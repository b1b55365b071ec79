"""Files that all workers have open."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from gateway.limits.zone import Zone
from gateway.workers.starting import NotStarted

# In memory: what changes with every request need not get to a disk.
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder that is made in it is nobody else's


class SharedFiles(Struct, frozen=True):
    """They have no names any more: nothing is left of them, however this process ends."""

    zone: Zone
    """The limits', to look at and to take back what dead workers held."""
    descriptors: dict[str, int]
    """Open files for workers to inherit, by the option of theirs."""

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.zone.close()


def shared_files(text: bytes, workers: int) -> SharedFiles:
    """With the config's `text`. Raises `NotStarted`: there is no room for them."""
    with suppress(OSError):  # no such folder, or a small one
        return _made(_MEMORY, text, workers)
    try:
        return _made(None, text, workers)
    except OSError as exc:
        reason = (exc.strerror or "unknown reason").lower()
        said = f"the limits that workers share have no place in {_MEMORY}, nor in $TMPDIR: {reason}"
        raise NotStarted(said, 1) from exc


def _made(where: Path | None, text: bytes, workers: int) -> SharedFiles:
    with tempfile.TemporaryDirectory(prefix="oc-gateway-", dir=where) as name:
        folder = Path(name)
        (folder / "text").write_bytes(text)
        zone = Zone.create(folder / "zone", workers=workers)
        descriptors = {name: os.open(folder / name, os.O_RDWR) for name in ("zone", "text")}
    return SharedFiles(zone, descriptors)
