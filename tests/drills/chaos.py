"""Everything goes wrong at once, and nothing may come of it.

    python -m tests.drills.chaos --seconds 120 --streams 500

Two gateways behind nginx, two upstreams that fail by chance, clients of all dialects of which some
leave, a reload each second, and one gateway that is restarted. What every client was told is
checked to the last frame; at the end the gateways hold nothing and are no larger than before.
"""

import argparse
import asyncio
import random
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.drills.front import nginx
from tests.drills.weather import Weather
from tests.e2e.running import KEY, KEY_HASH
from tests.e2e.speaking import ASK
from tests.faults.wellformed import is_stream, told
from tests.serving import Served, served

_CONFIG = """
# reading {reading}
[server]
port = {port}
resume = {{ max_streams = 100 }}
drain_timeout = "3s"
drain_delay = "200ms"
[admin]
port = {admin}
[store]
url = "memory://"
max_size = "256KiB"
[limits.tiers.standard]
requests = "1000000/1s"
[upstreams.first]
kind = "openai"
base_url = "{first}"
max_streams = 2000
{settings}
[upstreams.second]
kind = "openai"
base_url = "{second}"
{settings}
{agents}
[[keys]]
id = "web"
hash = "{hash}"
workspace = "acme"
tier = "standard"
"""
_SETTINGS = """timeouts = { connect = "1s", first_event = "3s", idle = "3s", total = "30s" }
breaker = { failures = 10, open_for = "300ms" }"""
_AGENT = """
[[agents]]
id = {number}
workspace = "acme"
name = "Agent {number}"
targets = [{{ upstream = "first", model = "m" }}, {{ upstream = "second", model = "m" }}]
{ways}
"""
_WAYS = (
    "",
    'on_disconnect = "drain"\ndrain_max = "2s"',
    'on_disconnect = "keep"',
    'hedge_after = "500ms"',
)

# A turn has its clocks twice over, and whatever a loaded machine adds.
_HUNG = 60.0
_LEAVES = 0.2


@dataclass
class Outcome:
    """What came of it, by what is counted."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What no client should have seen."""
    sizes: list[int] = field(default_factory=list)
    """Resident memory of the gateway that stays, in KiB, once a second."""
    exit_code: int | None = None
    left_over: dict[str, float] = field(default_factory=dict)

    @property
    def growth(self) -> float:
        """From the second third of the run, when all streams have been there for a while, and those
        of the gateway that was restarted as well, to its end."""
        count = len(self.sizes)
        warm, last = self.sizes[count // 3 : count // 2], self.sizes[-max(1, count // 4) :]
        return max(last) / max(warm or self.sizes[:1])

    def lines(self) -> Iterator[str]:
        yield ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        yield f"wrong: {len(self.wrong)}" + "".join(f"\n  {said}" for said in self.wrong[:20])
        yield f"left over: {self.left_over or 'nothing'}"
        tenths = self.sizes[:: max(1, len(self.sizes) // 10)]
        yield f"memory in MiB: {' '.join(str(size >> 10) for size in tenths)}, x {self.growth:.2f}"
        yield f"the restarted gateway ended with {self.exit_code}"


class Chaos:
    """One run."""

    def __init__(self, folder: Path, seconds: float, streams: int, seed: int = 1) -> None:
        self._folder = folder
        self._seconds = seconds
        self._streams = streams
        self._random = random.Random(seed)
        self._pace = max(0.02, streams / 2500)
        self._ports = _free_ports(5)
        self._running: dict[int, Served] = {}
        self._reading = 0
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        async with AsyncExitStack() as stack:
            upstreams = [
                await stack.enter_async_context(Weather(seed, self._pace)) for seed in (1, 2)
            ]
            self._urls = [upstream.url for upstream in upstreams]
            for number in (0, 1):
                self._write(number)
                await asyncio.to_thread(self._start, number, stack)
            url = await stack.enter_async_context(
                nginx(self._folder, self._ports[4], self._ports[:2])
            )
            session = await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            )
            self._session = session
            end = time.monotonic() + self._seconds
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reload(end))
                group.create_task(self._restart(stack))
                for _ in range(self._streams):
                    group.create_task(self._client(url, end))
            self.outcome.left_over = await self._left_over()
        return self.outcome

    # Gateways.

    def _write(self, number: int) -> None:
        agents = "".join(
            _AGENT.format(number=index, ways=ways) for index, ways in enumerate(_WAYS, 1)
        )
        first, second = self._urls
        text = _CONFIG.format(
            reading=self._reading,
            port=self._ports[number],
            admin=self._ports[2 + number],
            first=first,
            second=second,
            settings=_SETTINGS,
            agents=agents,
            hash=KEY_HASH,
        )
        (self._folder / f"gateway{number}.toml").write_text(text)

    def _start(self, number: int, stack: AsyncExitStack) -> None:
        log = self._folder / f"gateway{number}.toml"
        self._running[number] = stack.enter_context(
            served(["--config", str(log), "--log-level", "error"])
        )

    async def _reload(self, end: float) -> None:
        """Every second; every third of them with a file that is wrong."""
        while time.monotonic() < end:
            self._reading += 1
            for number, gateway in list(self._running.items()):
                self._write(number)
                if self._reading % 3 == 0:
                    (self._folder / f"gateway{number}.toml").write_text("[server]\nnope = 1\n")
                gateway.process.send_signal(signal.SIGHUP)
            self.outcome.sizes.append(_resident(self._running[1].process.pid))
            await asyncio.sleep(1)

    async def _restart(self, stack: AsyncExitStack) -> None:
        await asyncio.sleep(self._seconds / 5)
        going = self._running.pop(0)
        self.outcome.exit_code, _, _ = await asyncio.to_thread(going.stop)
        self._write(0)
        await asyncio.to_thread(self._start, 0, stack)

    async def _left_over(self) -> dict[str, float]:
        """What the gateways still hold when nobody asks any more, if it does not go away."""
        held: dict[str, float] = {}
        for _ in range(200):
            held = {}
            for port in self._ports[2:4]:
                async with self._session.get(f"http://127.0.0.1:{port}/metrics") as response:
                    held |= _held(await response.text())
            if not held:
                break
            await asyncio.sleep(0.1)
        return held

    # Clients.

    async def _client(self, url: str, end: float) -> None:
        while time.monotonic() < end:
            dialect = self._random.choice(list(ASK))
            agent, stream = self._random.randint(1, len(_WAYS)), self._random.random() < 0.8
            leaves = self._random.random() < _LEAVES
            patience = self._random.random() * 20 * self._pace if leaves else _HUNG
            path, body = ASK[dialect](str(agent), "hi", stream)
            try:
                async with asyncio.timeout(patience):
                    await self._ask(url + path, body, dialect, stream)
            except TimeoutError:
                self._count("left" if leaves else "hung", wrong=not leaves, what=dialect)
            except aiohttp.ClientError as exc:
                self._count("cut", wrong=True, what=f"{dialect}: {exc!r}")

    async def _ask(self, url: str, body: object, dialect: str, stream: bool) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with self._session.post(url, json=body, headers=headers) as response:
            said = await response.read()
        what = f"{dialect} {'stream' if stream else 'whole'}: {response.status} {said[-200:]!r}"
        if "X-Request-Id" not in response.headers:
            self._count("lost", wrong=True, what=what)  # nginx answered in the gateway's place
        elif response.status != 200:
            known = response.status in (429, 502, 503, 504) and said
            self._count(f"{response.status}", wrong=not known, what=what)
        else:
            self._judge(dialect, response.content_type, said, what)

    def _judge(self, dialect: str, content_type: str, said: bytes, what: str) -> None:
        try:
            _, complete = told(dialect, said)
            streamed = content_type == "text/event-stream"
            good = not streamed or is_stream(dialect, said, complete=complete)
        except (AssertionError, ValueError):
            complete = good = False
        self._count("complete" if complete else "broken off", wrong=not good, what=what)

    def _count(self, what_became: str, *, wrong: bool, what: str) -> None:
        self.outcome.counts[what_became] += 1
        if wrong:
            self.outcome.wrong.append(f"{what_became}: {what}")


def _held(exposition: str) -> dict[str, float]:
    """What should be nothing, where it is something."""
    names = ("oc_gateway_active_streams", "oc_gateway_open_turns", "oc_gateway_target_streams")
    rows = (line.rsplit(" ", 1) for line in exposition.splitlines() if line.startswith(names))
    return {series: float(value) for series, value in rows if float(value)}


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--streams", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        outcome = asyncio.run(Chaos(Path(folder), args.seconds, args.streams).run())
        print("\n".join(outcome.lines()))


if __name__ == "__main__":
    main()
