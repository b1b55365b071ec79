"""The composition root: every named object is built here, and passed to those who need it."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.admin.routes import build_admin
from gateway.auth.keyring import build_keyring
from gateway.config.model import Config
from gateway.config.routes import build_routes
from gateway.config.secrets import MissingSecret, missing, reveal
from gateway.config.upstreams import Upstream
from gateway.config.values import Secret
from gateway.conversations.access import Access
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
from gateway.http.middleware import Outermost
from gateway.http.paths import Paths
from gateway.http.routes import build_public
from gateway.http.server import Listener
from gateway.limits.limiter import Limiter
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.proxy.client import Client
from gateway.proxy.models import ModelRequests
from gateway.proxy.pipeline import Pipeline
from gateway.proxy.records import RecordRequests
from gateway.proxy.snapshot import Snapshot
from gateway.targets.states import States


def build_snapshot(config: Config, base: Path, environ: Mapping[str, str]) -> Snapshot:
    """What requests are served by. Raises `MissingSecret` for all that are missing, and
    `ValueError` for a bad key or CA bundle.

    `base` is the folder that the config's paths are relative to.
    """

    if problems := missing(config, base, environ):
        raise MissingSecret(base, problems)

    def revealed(secret: Secret) -> str:
        return reveal(secret, base, environ)

    return Snapshot(
        server=config.server,
        tiers=config.limits.tiers,
        routes=build_routes(config, base, environ),
        keyring=build_keyring(config, revealed),
        clients={
            name: _client(name, upstream, revealed, base)
            for name, upstream in config.upstreams.items()
            if upstream.base_url is not None
        },
    )


def _client(name: str, upstream: Upstream, revealed: Callable[[Secret], str], base: Path) -> Client:
    credential = revealed(upstream.credential) if upstream.credential else None
    try:
        return Client(upstream, credential, base)
    except ValueError as exc:
        raise ValueError(f"upstreams.{name}: {exc}") from exc


class Gateway:
    """One running gateway: `start`, serve, `stop`."""

    def __init__(
        self,
        config: Config,
        base: Path,
        logger: Logger,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.config = config
        self.snapshot = build_snapshot(config, base, environ)
        self.metrics = Metrics()
        self._logger = logger
        self.limiter = Limiter()
        self.states = States()
        self.states.track([target for route in self.snapshot.routes for target in route.targets])
        kept = build_store(config.store, base, lambda secret: reveal(secret, base, environ))
        self._pruner = Pruner(kept, config.store, self._store_failed)
        self.store: Store = kept
        if not isinstance(kept, MemoryStore):
            self.store = GuardedStore(kept, config.store.timeout, self._store_failed)
        self._ready = False
        self._opened = AsyncExitStack()
        """Everything that a stop has to close, the last opened first."""
        self._hurry = asyncio.Event()
        access, tool_call_ttl = Access(self.store), int(config.store.tool_call_ttl * 1000)
        self._pipeline = pipeline = Pipeline(
            snapshot=lambda: self.snapshot,
            limiter=self.limiter,
            states=self.states,
            turns=Turns(
                access,
                tool_call_ttl=tool_call_ttl,
                repeat_ttl=int(config.store.repeat_ttl * 1000),
            ),
            threads=Threads(access, ttl=int(config.store.thread_ttl * 1000)),
            keep_partial=config.store.keep_partial,
            metrics=self.metrics,
            logger=logger,
        )
        records = RecordRequests(
            snapshot=lambda: self.snapshot,
            limiter=self.limiter,
            access=access,
            results=ToolResults(access, tool_call_ttl=tool_call_ttl),
            open_turns=pipeline.open_turns,
            metrics=self.metrics,
            logger=logger,
        )
        models = ModelRequests(lambda: self.snapshot, self.limiter)
        chatbase = VARIANTS[config.server.chatbase.variant]
        paths = Paths(config.server.mounts.model_dump(), (chatbase,))
        outermost = Outermost(paths, self.metrics, logger, lambda: self.snapshot.routes.origins)
        public = build_public(paths, pipeline, records, models, outermost, config.server.max_body)
        self.public = Listener(public, "server", config.server.host, config.server.port)
        admin = build_admin(self.metrics, self._fault)
        self.admin = Listener(admin, "admin", config.admin.host, config.admin.port)

    async def start(self) -> None:
        """Listen. Raises `CannotListen`, and `StoreError` if conversations cannot be kept: then
        nothing is left open."""
        async with AsyncExitStack() as opened:
            for client in self.snapshot.clients.values():
                opened.callback(client.close)
            await self.store.open()
            opened.push_async_callback(self.store.close)
            self._pruner.start()
            opened.push_async_callback(self._pruner.stop)
            await self._start_refreshers(opened)
            for listener in (self.admin, self.public):
                await listener.start()
                opened.push_async_callback(listener.stop)
            self._opened = opened.pop_all()
        self._ready = True

    async def _start_refreshers(self, opened: AsyncExitStack) -> None:
        refreshers = self.snapshot.keyring.refreshers
        for refresher in refreshers:
            opened.push_async_callback(refresher.stop)
        # Each waits for its first set, and a dead publisher should not delay the others.
        await asyncio.gather(*(refresher.start() for refresher in refreshers))

    async def stop(self) -> None:
        """Let open turns finish for `drain_timeout`, or until `hurry`, then end them."""
        if not self._ready:
            return
        self._ready = False
        await self.public.refuse()
        window = self.config.server.drain_timeout
        await self._pipeline.open_turns.drain(window, self._hurry)
        await self._opened.aclose()

    def hurry(self) -> None:
        """Have a `stop` wait no longer."""
        self._hurry.set()

    async def _fault(self) -> str | None:
        """Why it wants no traffic; None if it does."""
        if not self._ready:
            return "not serving"
        try:
            await self.store.check()
        except GatewayError as exc:
            return exc.message
        return None

    def _store_failed(self, operation: str, exc: Exception) -> None:
        self.metrics.store_failed(operation)
        self._logger.error("store_failed", operation=operation, exc_info=exc)
