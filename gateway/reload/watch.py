"""Waits in the background for files to change."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from watchfiles import watch

from gateway.observe.logs import Logger
from gateway.reload.files import Signature, folders, signature

# Milliseconds without a further change after which those that came together are one; and after
# which they are in any case: a database in the same folder may never rest.
_STEP, _AT_MOST = 50, 200

# How often the files are looked at though nothing was heard: some file systems (NFS, a folder
# mounted into a virtual machine) say nothing. Milliseconds.
_LOOK = 1000


class Watch:
    """Between `start` and `stop`, `changed` is awaited after every change, one at a time."""

    def __init__(self, changed: Callable[[], Awaitable[object]], logger: Logger) -> None:
        self._changed = changed
        self._logger = logger
        self._seen: dict[Path, Signature | None] = {}
        self._deaf = False
        self._task: asyncio.Task[None] | None = None

    def note(self) -> None:
        """They are about to be read: only what changes from now on is a change."""
        self._seen = {path: signature(path) for path in self._seen}

    def follow(self, paths: Iterable[Path]) -> None:
        """Watch these from now on. Called before those are read that are new among them."""
        before = self._seen
        self._seen = {p: before[p] if p in before else signature(p) for p in paths}

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="config watch")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            try:
                await self._listen(folders(self._seen))
            # The kernel has no watches left, or a folder has gone: then looking has to do.
            except (OSError, RuntimeError) as exc:
                if not self._deaf:
                    self._logger.warning("config_watch_failed", exc_info=exc)
                self._deaf = True
                await asyncio.sleep(_LOOK / 1000)
                await self._look()

    async def _listen(self, where: frozenset[Path]) -> None:
        """Until the files are somewhere else."""
        over = Event()
        changes = watch(
            *where,
            watch_filter=None,
            debounce=_AT_MOST,
            step=_STEP,
            stop_event=over,
            rust_timeout=_LOOK,
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        )
        # Not `awatch`: anyio, which it waits by, takes a thirtieth of a start to load.
        thread = ThreadPoolExecutor(1, "config watch")
        try:
            while folders(self._seen) == where:
                await asyncio.get_running_loop().run_in_executor(thread, next, changes, None)
                self._deaf = False
                await self._look()
        finally:
            over.set()
            thread.submit(changes.close)  # once the last `next` has heard of it
            thread.shutdown(wait=False)

    async def _look(self) -> None:
        if any(signature(path) != seen for path, seen in self._seen.items()):
            await self._changed()
