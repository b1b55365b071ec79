"""One worker, as its supervisor sees it."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from msgspec import Struct

from gateway.core.events import Json
from gateway.observe.logs import Logger
from gateway.wire import json
from gateway.workers.channel import Channel, open_channel
from gateway.workers.parts import Part


class Failure(Struct, frozen=True):
    """Why a worker does not serve, and the exit code that says so."""

    message: str
    code: int


class Settings(Struct, frozen=True):
    """What the supervisor goes by, and a reload may change."""

    admin_token: str | None
    drain: float
    """Seconds that a stop may take, until turns are ended."""


class Hears(Struct, frozen=True):
    """Who is told of what a worker says."""

    report: Callable[[Json], None]
    settings: Callable[[Settings], None]
    leaving: Callable[[], None]


class WorkerProcess:
    """From its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self._process = process
        self.channel = channel
        self.since = time.time()
        self._began = time.monotonic()
        self.begun: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        """Whether it serves: None, or why not."""
        self._listening = asyncio.ensure_future(channel.listen())

    @classmethod
    async def start(
        cls,
        part: Part,
        options: Sequence[str],
        sockets: Sequence[socket.socket],
        files: dict[str, int],
        hears: Hears,
        logger: Logger,
    ) -> "WorkerProcess":
        """`files` are descriptors, by the option that says what for. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        with theirs:
            given = {**files, "channel": theirs.fileno()}
            listening = [sock.fileno() for sock in sockets]
            process = await _spawned(part, options, given, listening)
        self: WorkerProcess
        channel = await open_channel(
            ours,
            logger,
            told={
                "ready": lambda _: self._begin(None),
                "failed": lambda said: self._begin(_failure(said)),
                "settings": lambda said: hears.settings(_settings(said)),
                "report": hears.report,
                "leaving": lambda _: hears.leaving(),
            },
        )
        self = cls(process, channel)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ready(self) -> bool:
        return self.begun.done() and self.begun.result() is None

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    async def ended(self) -> str:
        """Once it is gone, and all that it said has been heard: how it went."""
        code = await self._process.wait()
        await self._listening
        await self.channel.close()
        said = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        self._begin(Failure(f"a worker ended with {said} before it served", 1))
        return said

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    def _begin(self, failure: Failure | None) -> None:
        if not self.begun.done():
            self.begun.set_result(failure)


async def _spawned(
    part: Part, options: Sequence[str], files: dict[str, int], listening: Sequence[int]
) -> asyncio.subprocess.Process:
    descriptors = [f"--{name}={number}" for name, number in files.items()]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gateway", "worker", str(part.number)),
        *(f"--of={part.count}", *options, *descriptors),
        *(f"--listening={number}" for number in listening),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=(*files.values(), *listening),
        # As this process has found its packages, whatever the folder that it was started in.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # A terminal signals all that runs in it, and a worker is to be told once.
        start_new_session=True,
    )


def _failure(said: Json) -> Failure:
    told = json.mapping(said)
    return Failure(json.text(told.get("message")), json.count(told.get("code")) or 1)


def _settings(said: Json) -> Settings:
    told: dict[str, Any] = json.mapping(said)
    return Settings(told["admin_token"], told["drain"])
