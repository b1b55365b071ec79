"""The place of one worker: whoever is in it, and whoever takes their place when they die."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from socket import socket

from gateway.core.events import Json
from gateway.observe.logs import Logger
from gateway.workers.parts import Part
from gateway.workers.process import Failure, WorkerProcess

# Whoever dies within so many seconds would die again.
_YOUNG = 10.0

# Seconds before the second one in a row, then twice as long each time, up to the longest: drawn
# from the upper half, so that workers who died of one thing do not start as one.
_FIRST_WAIT = 0.25
_LONGEST_WAIT = 10.0

# Clients whose connections wait for a worker wait no longer than this.
_KEPT_WAITING = 1.0

Start = Callable[[Part, Sequence[socket], Callable[[], None]], Awaitable[WorkerProcess]]


class Slot:
    """Keeps a worker in it, from `run` until `leave`."""

    def __init__(
        self,
        part: Part,
        *,
        sockets: Callable[[], list[socket]],
        start: Start,
        ended: Callable[[int], None],
        serving: asyncio.Event,
        logger: Logger,
    ) -> None:
        """`start` is given sockets, and whom to call when the worker stops listening to them;
        `ended` is told of each that has gone, before there is another one. Nobody takes another
        one's place before the gateway is `serving`: until then a failure is one to start."""
        self.part = part
        self.process: WorkerProcess | None = None
        self.restarts = 0
        self.begun: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        """What became of the first one: None, it serves."""
        self._make_sockets = sockets
        self._start = start
        self._ended = ended
        self._serving = serving
        self._logger = logger
        self._sockets: list[socket] = []
        self._deaths = 0
        """In a row, of those that died young."""
        self._leaving = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self.process is not None and self.process.ready

    async def run(self) -> None:
        """Until it has left, and nobody is in it any more."""
        while not self._leaving.is_set():
            gone = await self._one()
            await self._serving.wait()
            if not self._leaving.is_set():
                self._logger.warning("worker_ended", worker=self.part.number, **gone)
                self.restarts += 1
                await _first(self._wait(), self._leaving)
        self._close()

    def leave(self) -> None:
        """Nobody is started any more; whoever is there is told to stop."""
        self._leaving.set()
        self._serving.set()
        # The worker has its own: with these open, the kernel would go on queueing up clients.
        self._close()
        if self.process is not None:
            self.process.channel.tell("stop")

    def tell(self, name: str) -> None:
        if self.process is not None:
            self.process.channel.tell(name)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    async def _one(self) -> dict[str, Json]:
        """A worker, from its start to its end; what there is to say of that."""
        try:
            self._sockets = self._sockets or self._make_sockets()
            self.process = await self._start(self.part, self._sockets, self._close)
        except OSError as exc:
            self._deaths += 1
            problem = f"a worker cannot be started: {(exc.strerror or 'unknown reason').lower()}"
            self._begin(Failure(problem, 1))
            return {"problem": problem}
        process = self.process
        if self._leaving.is_set():
            process.channel.tell("stop")  # it came in the meantime
        process.begun.add_done_callback(lambda begun: self._begin(begun.result()))
        said = await process.ended()
        self.process = None
        self._ended(self.part.number)
        self._deaths = self._deaths + 1 if process.age < _YOUNG else 0
        failure = process.begun.result()
        if failure is not None:
            self._close()  # nor may the next one serve: nobody is to wait for that
        return {
            "pid": process.pid,
            "age": round(process.age, 3),
            "ended": said,
            **({"problem": failure.message} if failure else {}),
        }

    def _begin(self, failure: Failure | None) -> None:
        if not self.begun.done():
            self.begun.set_result(failure)

    def _wait(self) -> float:
        """Seconds until the next one: none, unless they die young again and again."""
        if self._deaths < 2:
            return 0.0
        longest: float = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (self._deaths - 2))
        if longest > _KEPT_WAITING:
            self._close()
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def _close(self) -> None:
        """Who has queued up here is lost, unless a worker still listens; others are dealt to the
        other workers."""
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.close()


async def _first(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
