"""A gateway of several processes, as its users start it, and what can be asked of it."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.running import KEY, KEY_HASH
from tests.e2e.scripted import END, PATIENCE, Step, Wait, chunk, event, finish, said
from tests.serving import Served, served

AGENT = "/api/v2/agents/1"
HEADERS = {"Authorization": f"Bearer {KEY}"}

_CONFIG = """
[server]
port = 0
workers = {workers}
{server}
[admin]
port = 0
[limits.tiers.standard]
{tier}
[upstreams.main]
{upstream}
[[agents]]
id = 1
workspace = "acme"
name = "Support"
targets = [ {{ upstream = "main"{target} }} ]
[[keys]]
id = "web"
hash = "{hash}"
workspace = "acme"
tier = "standard"
"""


def config(
    workers: int | str = 2,
    *,
    upstream: str = 'kind = "echo"',
    target: str = "",
    tier: str = 'requests = "100000/1s"',
    server: str = "",
) -> str:
    """One agent, and one key."""
    return _CONFIG.format(
        workers=workers if isinstance(workers, int) else f'"{workers}"',
        upstream=upstream,
        target=target,
        tier=tier,
        server=server,
        hash=KEY_HASH,
    )


def answering(until: asyncio.Event) -> list[Step]:
    """An upstream's answer that begins, and ends when the test says so."""
    end = [chunk(event(finish())), chunk(b"data: [DONE]\n\n"), END]
    return [*said("one"), Wait(until), *end]


def in_front_of(url: str, more: str = "") -> dict[str, str]:
    """The parts of a config with an upstream that a test scripts."""
    return {
        "upstream": f'kind = "openai"\nbase_url = "{url}"\n{more}',
        "target": ', model = "m"',
    }


@dataclass(slots=True)
class Several:
    """One such gateway, and a session to speak to it that keeps no connection: each request is
    dealt out anew."""

    served: Served
    config: Path
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.served.url

    @property
    def admin(self) -> str:
        return self.served.greeting.partition("metrics on ")[2].split()[0]

    @property
    def pid(self) -> int:
        return self.served.process.pid

    async def chat(
        self, message: str = "one two three", key: str | None = None, **body: Any
    ) -> tuple[int, bytes]:
        """One turn, with an Idempotency-Key: the status and the body."""
        headers = HEADERS | ({"Idempotency-Key": key} if key else {})
        asked = {"message": message, **body}
        async with self.session.post(
            f"{self.url}{AGENT}/chat", json=asked, headers=headers
        ) as response:
            return response.status, await response.read()

    async def asked(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """What the admin listener answers, as JSON."""
        async with self.session.request(method, self.admin + path) as response:
            return response.status, json.loads(await response.read())

    async def status(self) -> dict[str, Any]:
        _, said = await self.asked("/status")
        assert isinstance(said, dict)
        return said

    async def workers(self) -> list[dict[str, Any]]:
        return list((await self.status())["workers"])

    async def pids(self) -> list[int]:
        return [worker["pid"] for worker in await self.workers()]

    async def metrics(self) -> dict[str, float]:
        """Series to value."""
        async with self.session.get(self.admin + "/metrics") as response:
            lines = (await response.text()).splitlines()
        rows = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {series: float(value) for series, value in rows}

    async def total(self, name: str, label: str = "") -> float:
        """The sum of a name's series with this label."""
        series = (await self.metrics()).items()
        return sum(value for at, value in series if at.split("{")[0] == name and label in at)

    async def until(self, true: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Wait until that holds for the workers."""
        workers: list[dict[str, Any]] = []

        async def holds() -> bool:
            nonlocal workers
            workers = await self.workers()
            return true(workers)

        await until(holds)
        return workers

    async def all_ready(self) -> list[dict[str, Any]]:
        return await self.until(lambda workers: all(worker["answers"] for worker in workers))

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> tuple[int, str]:
        """Its exit code, and what it said on standard error."""
        _, err = await asyncio.to_thread(self.served.process.communicate, timeout=PATIENCE * 2)
        return self.served.process.returncode, err

    async def stop(self) -> tuple[int, str]:
        self.signal(signal.SIGTERM)
        return await self.ended()


@asynccontextmanager
async def several(
    folder: Path, text: str, *options: str, level: str = "error"
) -> AsyncIterator[Several]:
    """A gateway from this config, once all of its workers serve."""
    path = folder / "several.toml"
    path.write_text(text)
    args: Sequence[str] = ["--config", str(path), "--log-level", level, *options]
    starting = served(args)
    running = await asyncio.to_thread(starting.__enter__)
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Several(running, path, session)
    finally:
        await asyncio.to_thread(starting.__exit__, None, None, None)
        if running.process.stdout and not running.process.stdout.closed:
            await asyncio.to_thread(running.process.communicate)


def logged(err: str, event: str) -> list[dict[str, Any]]:
    """The lines of the log with this event."""
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    return _state(pid) not in ("", "Z")


def _state(pid: int) -> str:
    """As Linux has it: a letter; none if there is no such process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    found = re.search(r"^State:\s+(\w)", status, re.MULTILINE)
    return found[1] if found else ""


async def halt(pids: Sequence[int]) -> None:
    """SIGSTOP, and wait until they do nothing more."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    async def halted() -> bool:
        return all(_state(pid) == "T" for pid in pids)

    await until(halted)


async def gone(pids: Sequence[int]) -> None:
    """Wait until none of the processes is there."""

    async def none() -> bool:
        return not any(map(alive, pids))

    await until(none)


async def until(true: Callable[[], Awaitable[bool]], timeout: float = PATIENCE * 2) -> None:
    """Wait for what other processes do, of which nobody tells."""
    async with asyncio.timeout(timeout):
        while not await true():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.02)
