"""One of several processes that serve as one gateway, as it is from inside."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from socket import socket

from gateway.admin.status import told
from gateway.app import Gateway
from gateway.config.problems import ConfigError
from gateway.conversations.store import StoreError
from gateway.core.events import Json
from gateway.http.server import CannotListen
from gateway.observe.logs import Logger
from gateway.proxy.snapshot import Snapshot
from gateway.wire import json
from gateway.workers.channel import Answer, Told, open_channel
from gateway.workers.starting import started

# Seconds between two reports: so much of what it counted is lost with a worker that is killed.
_REPORT = 1.0


async def work(end: socket, build: Callable[[], Gateway], config: Path, logger: Logger) -> int:
    """Serve until told to stop; the exit code. `end` is that of the channel to the supervisor,
    which is told what is wrong with the `config` or with the machine."""
    worker = Worker(logger)
    await worker.connect(end)
    try:
        await worker.serve(build())
    except ConfigError as exc:
        return await worker.fail(str(ConfigError(config, exc.problems)), 2)
    except ValueError as exc:
        return await worker.fail(f"{config}: {exc}", 2)
    except (CannotListen, StoreError) as exc:
        return await worker.fail(str(exc), 1)
    return 0


class Worker:
    """Does what its supervisor says, and ends with it."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._stop = asyncio.Event()
        self._gateway: Gateway | None = None
        self._known: Snapshot | None = None
        """What the supervisor has been told the settings of."""
        loop = asyncio.get_running_loop()
        # A second signal means nothing here: whoever stops a service often signals each of its
        # processes, and the supervisor passes its own on.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGTERM})

    async def connect(self, end: socket) -> None:
        told: dict[str, Told] = {
            "stop": lambda _: self._stop.set(),
            "hurry": lambda _: self._gateway.hurry() if self._gateway else None,
            "reload": lambda _: self._reload(),
        }
        answers: dict[str, Answer] = {
            "fault": self._fault,
            "report": self._reported,
            "reload": self._reloaded,
            "status": self._status,
            "key": self._key,
            "request": self._request,
            "tasks": self._tasks,
        }
        self._channel = await open_channel(end, self._logger, told=told, answers=answers)
        self._listening = asyncio.ensure_future(self._channel.listen())
        # Nobody is left to start it again, or to say what it does.
        self._listening.add_done_callback(lambda _: self._stop.set())

    async def serve(self, gateway: Gateway) -> None:
        """Raises what `Gateway.start` does."""
        self._gateway = gateway
        if not await started(gateway, self._stop):
            return
        self._channel.tell("ready")
        self._tell_settings()
        reporting = asyncio.ensure_future(self._report())
        try:
            await self._stop.wait()
            self._channel.tell("leaving")
            await gateway.stop()
        finally:
            reporting.cancel()
            self._channel.tell("report", gateway.metrics.take_report())
            await self._channel.close()

    async def fail(self, message: str, code: int) -> int:
        self._channel.tell("failed", {"message": message, "code": code})
        await self._channel.close()
        return code

    async def _report(self) -> None:
        assert self._gateway is not None
        while True:
            await asyncio.sleep(_REPORT)
            if not self._channel.busy:
                self._tell_settings()
                self._channel.tell("report", self._gateway.metrics.take_report(whole=False))

    def _tell_settings(self) -> None:
        """What the supervisor goes by, if a reload has changed it."""
        assert self._gateway is not None
        snapshot = self._gateway.snapshot
        if snapshot is not self._known:
            self._known, server = snapshot, snapshot.server
            self._channel.tell(
                "settings",
                {
                    "admin_token": snapshot.admin_token,
                    "drain": server.drain_delay + server.drain_timeout,
                },
            )

    def _reload(self) -> None:
        if self._gateway is not None:
            self._gateway.reload()

    # What it is asked, but for `fault` only once it is ready.

    async def _fault(self, _value: Json) -> Json:
        return await self._gateway.fault() if self._gateway else "starting"

    async def _reported(self, _value: Json) -> Json:
        # In a thread, as a scrape is.
        return await asyncio.to_thread(self._serving.metrics.take_report)

    async def _reloaded(self, _value: Json) -> Json:
        outcome = await self._serving.reloaded()
        self._tell_settings()
        return told(outcome)

    async def _status(self, _value: Json) -> Json:
        return await self._serving.answers.whole()

    async def _key(self, key_id: Json) -> Json:
        return await self._serving.answers.key(json.text(key_id))

    async def _request(self, request_id: Json) -> Json:
        return await self._serving.answers.request(json.text(request_id))

    async def _tasks(self, _value: Json) -> Json:
        return await self._serving.answers.tasks()

    @property
    def _serving(self) -> Gateway:
        assert self._gateway is not None
        return self._gateway
