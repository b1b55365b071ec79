"""The composition root: every named object is built here, and passed to those who need it."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from gateway.admin.access import guard, warn
from gateway.admin.gauges import StateCollector
from gateway.admin.questions import OwnAnswers, add_questions
from gateway.admin.routes import build_admin
from gateway.admin.status import Status
from gateway.config.file import ConfigFile
from gateway.config.model import Config
from gateway.config.secrets import reveal, reveal_credential
from gateway.conversations.access import Access, random_ids
from gateway.conversations.build import build_store
from gateway.conversations.guard import GuardedStore
from gateway.conversations.memory import MemoryStore
from gateway.conversations.pruner import Pruner
from gateway.conversations.results import ToolResults
from gateway.conversations.store import Store
from gateway.conversations.threads import Threads
from gateway.conversations.turns import Turns
from gateway.core.errors import GatewayError
from gateway.dialects.chatbase import VARIANTS
from gateway.http.forwarded import client_of
from gateway.http.middleware import Outermost
from gateway.http.paths import Paths
from gateway.http.routes import build_public
from gateway.http.server import Listener
from gateway.http.tls import Handshakes
from gateway.observe.ledger import Ledger
from gateway.observe.logs import Logger
from gateway.observe.loop_lag import LoopLag
from gateway.observe.metrics import Metrics
from gateway.observe.tracing import build_tracer
from gateway.proxy.health import HealthChecks
from gateway.proxy.models import ModelRequests
from gateway.proxy.pipeline import Pipeline
from gateway.proxy.records import RecordRequests
from gateway.proxy.resuming import Resumption
from gateway.proxy.snapshot import Snapshot
from gateway.proxy.streams import LocalStreams
from gateway.reload.reloader import Outcome, Reloader
from gateway.seat import Seat, only_seat
from gateway.stopping import Leaving
from gateway.targets.breaker import State
from gateway.targets.states import States


class Gateway:
    """One running gateway: `start`, serve, `stop`."""

    def __init__(
        self,
        config: Config,
        base: Path,
        logger: Logger,
        environ: Mapping[str, str] = os.environ,
        *,
        file: ConfigFile | None = None,
        seat: Seat | None = None,
    ) -> None:
        """The config's paths are relative to `base`. It follows what changes in its `file`, and is
        one of several processes if it has a `seat`. Raises what `build_snapshot` does."""
        self.config = config
        """The one that it was started with; requests are served by the snapshot's."""
        self.metrics = Metrics()
        self._logger = logger
        self._seat = seat = seat or only_seat(config)
        self._reloader = Reloader(
            seat.read,
            base,
            environ,
            file=file,
            applied=self._follow,
            metrics=self.metrics,
            logger=logger,
            started=config,
            build=seat.build,
        )
        self.ledger = Ledger()
        self.limiter = seat.limiter
        self.states = States(self._breaker_told)
        self._clients = self.snapshot.clients
        self._track()
        self._tracer = build_tracer(
            config.tracing, lambda secret: reveal_credential(secret, base, environ), logger
        )
        kept = build_store(config.store, base, lambda secret: reveal(secret, base, environ))
        self._pruner = Pruner(kept, config.store, self._store_failed)
        self.store = self._guarded(kept, config.store.timeout)
        self._ready = self._draining = False
        self._opened = AsyncExitStack()
        """Everything that a stop has to close, the last opened first."""
        self.streams = LocalStreams()
        access = Access(self.store)
        self._pipeline = self._build_pipeline(config, access)
        certificate = self.snapshot.certificate
        self._handshakes = Handshakes(certificate, self.metrics, logger) if certificate else None
        self.public = self._listener(self._build_public(config, access))
        self._lag = LoopLag(self.metrics.loop_was_late)
        self.metrics.reads(self._state())
        self._health = HealthChecks(self.states, logger, self.metrics.health_checked)
        self._leaving = Leaving(self.public, self._pipeline.open_turns)
        self.answers = OwnAnswers(self._status())
        self.admin = Listener(
            self._build_admin(config), "admin", config.admin.host, config.admin.port
        )

    def _guarded(self, kept: Store, timeout: float) -> Store:
        """What is in this process cannot fail."""
        if isinstance(kept, MemoryStore):
            return kept
        return GuardedStore(
            kept,
            timeout,
            self._store_failed,
            took=self.metrics.store_took,
            around=self._tracer.store,
        )

    def _build_pipeline(self, config: Config, access: Access) -> Pipeline:
        mint = random_ids().__next__
        return Pipeline(
            snapshot=lambda: self.snapshot,
            limiter=self.limiter,
            states=self.states,
            turns=Turns(
                access,
                mint=mint,
                tool_call_ttl=int(config.store.tool_call_ttl * 1000),
                repeat_ttl=int(config.store.repeat_ttl * 1000),
            ),
            threads=Threads(access, mint=mint, ttl=int(config.store.thread_ttl * 1000)),
            streams=self.streams,
            keep_partial=config.store.keep_partial,
            metrics=self.metrics,
            logger=self._logger,
        )

    def _state(self) -> StateCollector:
        return StateCollector(
            snapshot=lambda: self.snapshot,
            states=self.states,
            open_turns=self._pipeline.open_turns,
            limiter=self.limiter,
            streams=self.streams,
        )

    def _build_public(self, config: Config, access: Access) -> web.Application:
        records = RecordRequests(
            snapshot=lambda: self.snapshot,
            limiter=self.limiter,
            access=access,
            results=ToolResults(access, tool_call_ttl=int(config.store.tool_call_ttl * 1000)),
            open_turns=self._pipeline.open_turns,
            metrics=self.metrics,
            logger=self._logger,
        )
        models = ModelRequests(lambda: self.snapshot, self.limiter)
        resumption = Resumption(
            snapshot=lambda: self.snapshot,
            limiter=self.limiter,
            access=access,
            streams=self.streams,
            open_turns=self._pipeline.open_turns,
            metrics=self.metrics,
        )
        chatbase = VARIANTS[config.server.chatbase.variant]
        paths = Paths(config.server.mounts.model_dump(), (chatbase,))
        outermost = Outermost(
            paths,
            self.metrics,
            self._logger,
            self._tracer,
            self.ledger,
            lambda: self.snapshot.routes.origins,
            lambda request: client_of(request, self.snapshot.server),
        )
        return build_public(paths, self._pipeline, records, models, resumption, outermost)

    def _listener(self, public: web.Application) -> Listener:
        server, sockets = self.config.server, self._seat.sockets
        return Listener(
            public,
            "server",
            server.host,
            server.port,
            handshakes=self._handshakes,
            sockets=sockets,
        )

    def _status(self) -> Status:
        return Status(
            reloader=self._reloader,
            states=self.states,
            limiter=self.limiter,
            ledger=self.ledger,
            draining=lambda: self._draining,
        )

    def _build_admin(self, config: Config) -> web.Application:
        admin = build_admin(self.metrics, self.fault, self.reloaded)
        add_questions(admin, self.answers)
        admin.middlewares.append(guard(lambda: self.snapshot.admin_token, config.admin.host))
        return admin

    async def start(self) -> None:
        """Listen. Raises `CannotListen`, and `StoreError` if conversations cannot be kept: then
        nothing is left open."""
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self._tracer.close)
            await self.store.open()
            opened.push_async_callback(self.store.close)
            self._pruner.start()
            opened.push_async_callback(self._pruner.stop)
            opened.push_async_callback(self._reloader.stop)
            await self._reloader.start()
            self._health.start(self.snapshot)
            opened.push_async_callback(self._health.stop)
            self._lag.start()
            opened.callback(self._lag.stop)
            for listener in (self.admin, self.public) if self._seat.alone else (self.public,):
                await listener.start()
                opened.push_async_callback(listener.stop)
            self._opened = opened.pop_all()
        if self._seat.alone:
            warn(self.config.admin.host, self.snapshot.admin_token, self._logger)
        self._ready = True

    async def stop(self) -> None:
        """Accept for `drain_delay` more, let open turns finish for `drain_timeout`, then end them;
        `hurry` ends both."""
        if not self._ready:
            return
        self._ready, self._draining = False, True
        self.metrics.draining()
        await self._reloader.hold()
        server = self.snapshot.server
        await self._leaving.leave(server.drain_delay, server.drain_timeout)
        await self._opened.aclose()

    def hurry(self) -> None:
        """Have a `stop` wait no longer."""
        self._leaving.hurry()

    def reload(self) -> None:
        """Take up what has changed in the file, in the background."""
        self._reloader.want()

    async def reloaded(self) -> Outcome:
        """Take up what has changed in the file; what became of that."""
        return await self._reloader.reload()

    @property
    def snapshot(self) -> Snapshot:
        return self._reloader.snapshot

    def _follow(self, config: Config, snapshot: Snapshot) -> None:
        """A reload has brought another config into force."""
        known, self._clients = self._clients, snapshot.clients
        self._track()
        self.states.renewed(
            [n for n, client in known.items() if self._clients.get(n) is not client]
        )
        self._health.follow(snapshot)
        self._pruner.follow(config.store)
        if self._handshakes is not None and snapshot.certificate is not None:
            self._handshakes.present(snapshot.certificate)

    def _track(self) -> None:
        self.states.track([target for route in self.snapshot.routes for target in route.targets])

    async def fault(self) -> str | None:
        """Why it wants no traffic; None if it does."""
        if not self._ready:
            return "stopping" if self._draining else "starting"
        try:
            await self.store.check()
        except GatewayError as exc:
            return exc.message
        return None

    def _breaker_told(self, target: str, state: State) -> None:
        if state is State.CLOSED:
            self._logger.info("breaker_closed", target=target)
        else:
            self._logger.warning("breaker_opened", target=target)

    def _store_failed(self, operation: str, exc: Exception) -> None:
        self.metrics.store_failed(operation)
        self._logger.error("store_failed", operation=operation, exc_info=exc)
