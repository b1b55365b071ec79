"""The snapshot that requests are served by, and the one way in which it is exchanged."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from gateway.config.file import ConfigFile
from gateway.config.model import Config
from gateway.config.problems import ConfigError, Problem
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.proxy.snapshot import Snapshot
from gateway.reload.build import build_snapshot
from gateway.reload.files import files
from gateway.reload.fixed import needs_restart
from gateway.reload.watch import Watch

if TYPE_CHECKING:
    from gateway.auth.refresher import JwksRefresher

_NO_FILE = Problem("", "the gateway was not started from a file")
_STOPPING = Problem("", "the gateway is stopping")
_BUG = Problem("", "the gateway failed to take it up; its log says where")

# How many seconds a reload waits for key sets that are new to it: keys that have gone from the same
# file are to stop working within one.
_FIRST_SETS = 0.5


class Outcome(Struct, frozen=True):
    """What became of a reload: with problems, nothing has changed."""

    problems: tuple[Problem, ...] = ()
    needs_restart: tuple[str, ...] = ()
    """Settings that have changed in the file, and stay as they were until a restart."""


class Reading(Struct, frozen=True):
    """The config that is in force, among those of this process and of its fleet."""

    number: int
    """From 1, one more with each that came into force."""
    digest: str
    """Of all that the file says, defaults included: gateways with equal files have equal ones."""
    at: float
    """When it came into force, in Unix seconds."""


class Reloader:
    """Holds the snapshot, and exchanges it when its file has changed or it is told to.

    Between `start` and `stop` it also keeps what lives in a snapshot: key sets are fetched, the
    connections of upstreams that are no longer there are closed.
    """

    def __init__(
        self,
        config: Config,
        base: Path,
        environ: Mapping[str, str],
        *,
        file: ConfigFile | None,
        applied: Callable[[Config, Snapshot], None],
        metrics: Metrics,
        logger: Logger,
        started: Config | None = None,
        build: Callable[..., Snapshot] = build_snapshot,
    ) -> None:
        """`applied` is called with each new config and snapshot as it comes into force; `started`
        is the one that the gateway was started from, where that is another. Raises what `build`
        does."""
        self._watch = Watch(self.reload, logger)
        if file is not None:
            self._watch.follow(files(file, config))
        self._build = build
        self.snapshot = build(config, base, environ)
        self.reading = Reading(1, _digest(config), time.time())
        self.last: tuple[float, Outcome] | None = None
        """The last reload, with the Unix seconds of its end; None: there was none."""
        self._started = started or config
        self._base = base
        self._environ = environ
        self._file = file
        self._applied = applied
        self._metrics = metrics
        self._logger = logger
        self._refreshing: set[JwksRefresher] = set()
        self._lock = asyncio.Lock()
        self._queued: asyncio.Future[Outcome] | None = None
        self._running: set[asyncio.Future[Outcome]] = set()
        self._open = False
        self._wanted = False

    async def start(self) -> None:
        """Fetch key sets, and watch the file from now on."""
        await self._refresh(self.snapshot)
        self._open = True
        if self._file is not None:
            self._watch.start()
        if self._wanted:
            self.want()

    async def hold(self) -> None:
        """No more reloads; one that is going on is given up."""
        self._open = False
        await self._watch.stop()
        for reload in self._running:
            reload.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        await self.hold()
        for client in self.snapshot.clients.values():
            client.close()
        await self._stop_refreshing(())

    def want(self) -> None:
        """Reload in the background; before `start`, once that is done."""
        self._wanted = True
        if self._open:
            self._enqueued()

    async def reload(self) -> Outcome:
        """Read the file anew. Reloads come one after the other; those that wait for one that is
        going on are one."""
        if not self._open:
            return Outcome((_STOPPING,))
        queued = self._enqueued()
        await asyncio.wait((queued,))
        return Outcome((_STOPPING,)) if queued.cancelled() else queued.result()

    def _enqueued(self) -> asyncio.Future[Outcome]:
        if self._queued is None:
            self._queued = asyncio.ensure_future(self._in_turn())
            self._running.add(self._queued)
            self._queued.add_done_callback(self._running.discard)
        return self._queued

    async def _in_turn(self) -> Outcome:
        async with self._lock:
            # Whoever comes from here on may know of a change that this one does not see.
            self._queued = None
            try:
                outcome = await self._read()
            except ConfigError as exc:
                outcome = Outcome(tuple(exc.problems))
            except ValueError as exc:
                outcome = Outcome((Problem("", str(exc)),))
            except Exception as exc:
                self._logger.error("internal_error", exc_info=exc)
                outcome = Outcome((_BUG,))
            self._tell(outcome)
            return outcome

    async def _read(self) -> Outcome:
        """Raises `ConfigError`, and `ValueError` for a bad key or CA bundle."""
        if self._file is None:
            return Outcome((_NO_FILE,))
        self._watch.note()
        # In a thread: a long file and a bundle of certificates take longer than a stream may wait.
        config = await asyncio.to_thread(self._file.read)
        self._watch.follow(files(self._file, config))
        snapshot = await asyncio.to_thread(
            self._build, config, self._base, self._environ, self.snapshot
        )
        await self._exchange(config, snapshot)
        return Outcome(needs_restart=needs_restart(self._started, config))

    async def _exchange(self, config: Config, snapshot: Snapshot) -> None:
        await self._refresh(snapshot, _FIRST_SETS)
        old, self.snapshot = self.snapshot, snapshot
        self.reading = Reading(self.reading.number + 1, _digest(config), time.time())
        self._applied(config, snapshot)
        for name, client in old.clients.items():
            if snapshot.clients.get(name) is not client:
                client.close()
        await self._stop_refreshing(snapshot.keyring.refreshers)

    async def _refresh(self, snapshot: Snapshot, patience: float | None = None) -> None:
        refreshers = snapshot.keyring.refreshers
        self._refreshing.update(refreshers)
        # Each waits for its first set, and a dead publisher should not delay the others.
        await asyncio.gather(*(refresher.start(patience) for refresher in refreshers))
        for refresher in refreshers:
            late = "it has not answered yet" if refresher.fetched_at is None else None
            if problem := refresher.problem or late:
                self._logger.warning("key_set_failed", url=refresher.url, problem=problem)

    async def _stop_refreshing(self, still: "Collection[JwksRefresher]") -> None:
        """But for those that are still wanted."""
        over = self._refreshing.difference(still)
        await asyncio.gather(*(refresher.stop() for refresher in over))
        self._refreshing -= over

    def _tell(self, outcome: Outcome) -> None:
        now = time.time()
        self.last = now, outcome
        self._metrics.reloaded(now, ok=not outcome.problems)
        if outcome.problems:
            self._logger.error("config_rejected", problems=[str(p) for p in outcome.problems])
        elif outcome.needs_restart:
            self._logger.warning("config_reloaded", needs_restart=list(outcome.needs_restart))
        else:
            self._logger.info("config_reloaded")


def _digest(config: Config) -> str:
    return sha256(config.model_dump_json().encode("utf-8", "surrogatepass")).hexdigest()[:12]
