"""How many workers a config asks for."""

import os
from collections.abc import Iterator
from math import ceil, inf
from pathlib import Path

from gateway.config.listeners import MAX_WORKERS
from gateway.config.model import Config

_CGROUP = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")


def wanted(config: Config) -> int:
    """As many as it says; for "auto" one for each core that this process may use, as long as each
    has its part of every `max_streams`."""
    if config.server.workers != "auto":
        return config.server.workers
    return min(cores(), MAX_WORKERS, *_streams(config))


def cores(cgroup: Path = _CGROUP, mounted: Path = _MOUNTED) -> int:
    """Those that this process may run on, or what its containers may use of them, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, ceil(min(*_quotas(cgroup, mounted), allowed))))


def _streams(config: Config) -> Iterator[int]:
    targets = (target for agent in config.agents for target in agent.targets)
    for limit in (
        *(upstream.max_streams for upstream in config.upstreams.values()),
        *(target.max_streams for target in targets),
    ):
        if limit is not None:
            yield limit


def _quotas(cgroup: Path, mounted: Path) -> Iterator[float]:
    """The cores' worth of time that each group which this process is in may use."""
    yield inf
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # A container often sees its own group as the root, whatever the path says.
        for folder in (Path(path), *Path(path).parents):
            here = folder.relative_to("/") if folder.is_absolute() else folder
            if not controllers:
                yield _quota(mounted / here / "cpu.max")
            elif "cpu" in controllers.split(","):
                at = mounted / "cpu" / here
                yield _quota(at / "cpu.cfs_quota_us", at / "cpu.cfs_period_us")


def _quota(*files: Path) -> float:
    """Version 2 has both numbers in one file, "max" for no limit; version 1 has -1."""
    try:
        quota, period = (float(n) for file in files for n in file.read_text().split())
    except (OSError, ValueError):
        return inf
    return quota / period if quota > 0 and period > 0 else inf
