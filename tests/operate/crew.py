"""A gateway of two workers, one of which cannot be replaced when it ends."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.workers.several import Several, config, several

# The first worker, and those after it that did not begin to serve.
ENDED = 3


@dataclass(slots=True)
class Crewed:
    """One such gateway, and what its log has said."""

    gateway: Several
    log: str = ""

    async def loses_one(self) -> None:
        """For good: what would take its place reads a file that is wrong by then."""
        path = self.gateway.config
        path.write_text("wrong = 1\n" + path.read_text())
        os.kill((await self.gateway.pids())[0], signal.SIGKILL)
        for _ in range(ENDED):
            self.log += await asyncio.to_thread(self._ended)

    def _ended(self) -> str:
        """The next line of the log that says that a worker has."""
        err = self.gateway.served.process.stderr
        assert err is not None
        for line in err:
            if '"worker_ended"' in line:
                return line
        raise AssertionError("the gateway has ended")


@asynccontextmanager
async def crewed(folder: Path) -> AsyncIterator[Crewed]:
    """Once both serve."""
    async with several(folder, config(2), level="warning") as gateway:
        yield Crewed(gateway)
