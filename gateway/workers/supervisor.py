"""The process that starts the workers, keeps them running, and answers for all of them."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from socket import socket

from aiohttp import web
from msgspec import Struct

from gateway import __version__
from gateway.admin.access import guard, warn
from gateway.admin.questions import add_questions
from gateway.admin.routes import build_admin
from gateway.config.file import ConfigFile
from gateway.config.model import Config
from gateway.config.problems import ConfigError, Problem
from gateway.http.server import Listener
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.proxy.snapshot import Snapshot
from gateway.reload.build import build_snapshot
from gateway.workers.address import PublicAddress
from gateway.workers.crew import Crew
from gateway.workers.gauges import WorkersCollector
from gateway.workers.merging import Document
from gateway.workers.parts import Part
from gateway.workers.process import Hears, Settings, WorkerProcess
from gateway.workers.shared import shared_files
from gateway.workers.slot import Slot
from gateway.workers.starting import NotStarted

# Seconds beyond what turns may take: for the last words, and for what workers have to close.
_MARGIN = 10.0


class Public:
    """Where clients connect to."""

    url = ""


class Checked(Struct, frozen=True):
    """A config that workers can be started from."""

    config: Config
    snapshot: Snapshot


def checked(config: Config, file: ConfigFile, count: int) -> Checked:
    """Raises what `build_snapshot` does, before there is any worker to do it, and `ConfigError` for
    a file that workers could not read again."""
    if not file.path.is_file():
        said = f"{count} workers have to read this file, and again later on: it cannot be a pipe"
        raise ConfigError(file.path, [Problem("", said)])
    return Checked(config, build_snapshot(config, file.base, os.environ))


class Supervisor:
    """What a gateway is that consists of several processes: `start`, serve, `stop`."""

    def __init__(
        self, given: Checked, text: bytes, count: int, options: Sequence[str], logger: Logger
    ) -> None:
        """`count` workers are started from the config's `text`, with these `options` of the command
        line."""
        self.config = config = given.config
        self.snapshot = given.snapshot
        self.metrics = Metrics()
        self.public = Public()
        self._text = text
        self._count = count
        self._options = options
        self._logger = logger
        self._settings = Settings(
            given.snapshot.admin_token, config.server.drain_delay + config.server.drain_timeout
        )
        self._began, self._since = time.time(), time.monotonic()
        self._slots: list[Slot] = []
        self._running: set[asyncio.Future[None]] = set()
        self._serving = asyncio.Event()
        self._draining = False
        self._hurried = asyncio.Event()
        self._opened = AsyncExitStack()
        self._crew = Crew(self._slots, self.metrics, self._about)
        self.metrics.reads(
            WorkersCollector(
                wanted=count,
                ready=lambda: sum(slot.ready for slot in self._slots),
                answering=lambda: self._crew.answering,
                restarts=lambda: sum(slot.restarts for slot in self._slots),
            )
        )
        admin = config.admin
        self.admin = Listener(self._build_admin(), "admin", admin.host, admin.port)

    def _build_admin(self) -> web.Application:
        admin = build_admin(self.metrics, self._fault, self._crew.reload, self._crew.gather)
        add_questions(admin, self._crew)
        admin.middlewares.append(guard(lambda: self._settings.admin_token, self.config.admin.host))
        return admin

    async def start(self) -> None:
        """Have all workers serve. Raises `CannotListen`, and `NotStarted` if none of them can
        serve, or there is no room for what they share: then nothing is left open."""
        async with AsyncExitStack() as opened:
            server = self.config.server
            self._address = await PublicAddress.take(server.host, server.port)
            opened.callback(self._address.close)
            self.public.url = self._address.url(secure=server.tls is not None)
            self._shared = shared_files(self._text, self._count)
            opened.callback(self._shared.close)
            await self.admin.start()
            opened.push_async_callback(self.admin.stop)
            opened.push_async_callback(self._end)
            self._start_workers()
            failures = [await slot.begun for slot in self._slots]
            if (failure := failures[0]) and all(failures):
                raise NotStarted(failure.message, failure.code)
            self._serving.set()
            self._opened = opened.pop_all()
        warn(self.config.admin.host, self._settings.admin_token, self._logger)

    async def stop(self) -> None:
        """Have the workers leave, and wait for as long as that may take; `hurry` ends the wait."""
        self._draining = True
        self.metrics.draining()
        await self._opened.aclose()

    def hurry(self) -> None:
        """Have a `stop` wait no longer."""
        self._hurried.set()
        for slot in self._slots:
            slot.tell("hurry")

    def reload(self) -> None:
        """Have the workers take up what has changed in the file, in the background."""
        for slot in self._slots:
            slot.tell("reload")

    def _start_workers(self) -> None:
        for number in range(1, self._count + 1):
            slot = Slot(
                Part(number, self._count),
                sockets=self._address.sockets,
                start=self._start_worker,
                ended=self._ended,
                serving=self._serving,
                logger=self._logger,
            )
            self._slots.append(slot)
            running = asyncio.ensure_future(slot.run())
            running.add_done_callback(self._noted)
            self._running.add(running)

    async def _start_worker(
        self, part: Part, sockets: Sequence[socket], leaving: Callable[[], None]
    ) -> WorkerProcess:
        name = str(part.number)
        hears = Hears(
            report=lambda report: self.metrics.absorb(report, name),
            settings=self._heard_settings,
            leaving=leaving,
        )
        files = self._shared.descriptors
        return await WorkerProcess.start(part, self._options, sockets, files, hears, self._logger)

    def _heard_settings(self, settings: Settings) -> None:
        self._settings = settings

    def _ended(self, number: int) -> None:
        """What it held is free, and what is so now is so no more."""
        self._shared.zone.release(number - 1)
        self.metrics.forget(str(number))

    def _noted(self, running: asyncio.Future[None]) -> None:
        """A bug here would leave a place empty."""
        if exc := running.exception():
            self._logger.error("internal_error", exc_info=exc)

    async def _end(self) -> None:
        """Have the workers leave; those that take too long are killed."""
        self._address.close()
        for slot in self._slots:
            slot.leave()
        gone = asyncio.gather(*self._running, return_exceptions=True)
        hurried = asyncio.ensure_future(self._hurried.wait())
        patience = self._settings.drain + _MARGIN
        await asyncio.wait((gone, hurried), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if hurried.done():
            await asyncio.wait((gone,), timeout=_MARGIN)
        hurried.cancel()
        if not gone.done():
            self._logger.error(
                "workers_killed", workers=[s.part.number for s in self._slots if s.process]
            )
            for slot in self._slots:
                slot.kill()
        await gone

    async def _fault(self) -> str | None:
        return "stopping" if self._draining else await self._crew.fault()

    def _about(self) -> Document:
        return {
            "version": __version__,
            "started": f"{datetime.fromtimestamp(self._began, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3]
            + "Z",
            "uptime": round(time.monotonic() - self._since, 3),
            "draining": self._draining,
        }
