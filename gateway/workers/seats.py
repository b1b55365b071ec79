"""A worker's gateway, from what its process was given."""

from collections.abc import Mapping, Sequence
from functools import partial
from os import fstat, pread
from pathlib import Path
from socket import socket

from msgspec import Struct

from gateway.app import Gateway
from gateway.config.file import ConfigFile
from gateway.config.model import Config
from gateway.limits.shared import SharedLimiter
from gateway.limits.zone import Zone
from gateway.observe.logs import build_logger
from gateway.proxy.snapshot import Snapshot
from gateway.reload.build import build_snapshot
from gateway.reload.fixed import as_started
from gateway.seat import Seat
from gateway.workers.parts import Part, partial_config


class Given(Struct, frozen=True):
    """Descriptors of open files."""

    text: int
    """The config's, as the gateway was started from it."""
    zone: int
    sockets: Sequence[int]


def build_worker(file: ConfigFile, part: Part, given: Given) -> Gateway:
    """Raises what `Gateway` does, and `ConfigError` where the file has become no use.

    What takes a restart of the gateway to change is as it was at its start: else this worker would
    keep its conversations elsewhere than the others.
    """
    read = file.read()
    started = as_started(file.parsed(_all_of(given.text)), read)
    logs = started.logs
    logger = build_logger(logs.level, form=logs.format, sample=logs.sample)
    seat = Seat(
        alone=False,
        sockets=[socket(fileno=number) for number in given.sockets],
        limiter=SharedLimiter(Zone.open(reopened(given.zone), worker=part.number - 1)),
        build=partial(_snapshot, part),
        read=read,
    )
    return Gateway(started, file.base, logger.bind(worker=part.number), file=file, seat=seat)


def reopened(descriptor: int) -> Path:
    """Where the file can be opened anew, which may have no name any more."""
    return Path(f"/proc/self/fd/{descriptor}")


def _all_of(descriptor: int) -> bytes:
    """Without moving the position, which all workers have in common."""
    return pread(descriptor, fstat(descriptor).st_size, 0)


def _snapshot(
    part: Part,
    config: Config,
    base: Path,
    environ: Mapping[str, str],
    previous: Snapshot | None = None,
) -> Snapshot:
    return build_snapshot(partial_config(config, part), base, environ, previous)
