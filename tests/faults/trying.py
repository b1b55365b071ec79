"""One gateway in front of an upstream with faults, and the clients of all dialects before it."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config.load import load
from gateway.observe.exchange import COMPLETE
from gateway.observe.logs import build_logger
from gateway.wire import json
from tests.e2e.running import Answered, Running, config, eventually
from tests.e2e.scripted import PATIENCE, ScriptedUpstream
from tests.e2e.speaking import ASK
from tests.faults.fault import CLOCKS, KINDS, Fault
from tests.faults.judging import CLIENTS, Client, faulted, seconds

SPARE = 25.0
"""Seconds that a turn may take beside its clock, on a machine that has other things to do."""

_SHARED = """retries = 0
breaker = { enabled = false }
keepalive = "5ms"
max_event = "32KiB"
max_answer = "256KiB"
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a client was told of a fault."""

    client: Client
    ended: str
    """A status, or how the answer ended: `complete` or `failed`."""
    seconds: float
    wrong: str
    """What is not as the table has it; `""` if all is."""


@dataclass(slots=True)
class Trial:
    """A running gateway, and its upstream."""

    gateway: Gateway
    upstream: ScriptedUpstream
    log: io.BytesIO
    tasks: frozenset[asyncio.Task[object]]
    """Those that run while nothing is asked."""

    async def of(self, fault: Fault, clients: Iterable[Client] = CLIENTS) -> list[Cell]:
        """Try it with all of these clients at once."""
        self.upstream.answers(fault.script)
        self.upstream.greeting = fault.greeting
        self.log.seek(0)
        self.log.truncate()
        # Connections that outlive their request would be tasks that outlive it.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            running = Running(self.gateway, session, self.log)
            asked = [_ask(running, fault, client) for client in clients]
            answers = await asyncio.gather(*asked)
            await eventually(lambda: len(self._outcomes()) == len(asked))
        outcomes = self._outcomes()
        return [_judged(fault, answer, outcomes[answer.number]) for answer in answers]

    def _outcomes(self) -> dict[str, str]:
        """By the requests' ids."""
        lines = [json.mapping(json.loads(line)) for line in self.log.getvalue().splitlines()]
        requests = [line for line in lines if line["event"] == "request"]
        return {json.text(line["request_id"]): json.text(line["outcome"]) for line in requests}

    async def left(self, timeout: float = PATIENCE) -> dict[str, int]:
        """What is still held when everybody has gone: nothing, in a while."""
        try:
            await eventually(lambda: not self._held(), timeout)
        except TimeoutError:
            return self._held()
        return {}

    def _held(self) -> dict[str, int]:
        clients = self.gateway.snapshot.clients.values()
        held = {
            "slots": self.gateway.limiter.busy,
            "connections of the gateway": sum(client.open_connections for client in clients),
            "connections of the upstream": self.upstream.open,
            "turns": self.gateway._pipeline.open_turns.count,
            "tasks": len(asyncio.all_tasks() - self.tasks - {asyncio.current_task()}),
        }
        if not any(held.values()):
            held["streams"] = self._active_streams()
        return {what: number for what, number in held.items() if number}

    def _active_streams(self) -> int:
        # All that is counted would take longer to write than the turns took.
        series = self.gateway.metrics.registry.restricted_registry(["oc_gateway_active_streams"])
        return int(sum(one.value for metric in series.collect() for one in metric.samples))


# Asking.


@dataclass(frozen=True, slots=True)
class _Answer:
    number: str
    client: Client
    seconds: float
    came: Answered | None
    lost: str
    """Why nothing came."""


_numbers = count(1)


async def _ask(running: Running, fault: Fault, client: Client) -> _Answer:
    number = f"turn-{next(_numbers)}"
    # No two say the same: a conversation may be known by what was said in it.
    said = f"I am {number}."
    path, body = ASK[client.dialect](agent(fault), said, client.way == "stream")
    loop = asyncio.get_running_loop()
    started, came, lost = loop.time(), None, ""
    try:
        async with asyncio.timeout(SPARE + seconds(fault)):
            came = await running.post(path, body, X_Request_Id=number)
    except (TimeoutError, aiohttp.ClientError) as exc:
        lost = type(exc).__name__
    return _Answer(number, client, loop.time() - started, came, lost)


# Judging.


def _judged(fault: Fault, answer: _Answer, code: str) -> Cell:
    client, came = answer.client, answer.came
    if came is None:
        return Cell(client, answer.lost, answer.seconds, f"no answer: {answer.lost}")
    ended, wrong = str(came.status), list(faulted(fault, client, came, code, answer.seconds))
    if came.status == 200:
        ended = "complete" if code == COMPLETE else "failed"
    return Cell(client, ended, answer.seconds, "; ".join(wrong))


# The gateway.


def agent(fault: Fault) -> str:
    """The agent whose upstream has this kind, clock and place."""
    return "-".join(filter(None, (fault.kind, fault.clock, fault.at)))


@asynccontextmanager
async def trial(faults: Iterable[Fault], folder: Path) -> AsyncIterator[Trial]:
    """A gateway with an agent for each of these faults."""
    with ExitStack() as opened:
        patched = opened.enter_context(pytest.MonkeyPatch.context())
        patched.setattr("gateway.proxy.remote.RELEASE_GRACE", 0.02)
        places = {
            "closed": f"http://127.0.0.1:{opened.enter_context(_closed_port())}",
            "full": f"http://127.0.0.1:{opened.enter_context(_full_port())}",
            "unnamed": "http://no..host",
        }
        async with ScriptedUpstream() as upstream:
            places |= {"": upstream.url, "tls": upstream.url.replace("http:", "https:")}
            path, log = folder / "gateway.toml", io.BytesIO()
            path.write_text(
                config(upstream.url, server=_SERVER, tier=_TIER, more=_agents(faults, places))
            )
            gateway = Gateway(load(path), folder, build_logger("debug", log), {})
            await gateway.start()
            tasks = frozenset(asyncio.all_tasks())
            yield Trial(gateway, upstream, log, tasks)
            await gateway.stop()


_SERVER = 'drain_timeout = "1s"'
_TIER = 'requests = "100000/1s"\nconcurrency = 100'


def _agents(faults: Iterable[Fault], places: dict[str, str]) -> str:
    known = {agent(fault): fault for fault in faults}
    return "\n".join(
        _agent(number, name, fault, places[fault.at])
        for number, (name, fault) in enumerate(known.items(), 2)
    )


def _agent(number: int, name: str, fault: Fault, url: str) -> str:
    kind, target, more = KINDS[fault.kind]
    clocks = [CLOCKS[fault.clock][0]] if fault.clock else []
    if fault.clock != "connect":
        clocks.append(f'connect = "{PATIENCE}s"')
    return f"""
[upstreams.{name}]
kind = "{kind}"
base_url = "{url}"
timeouts = {{ {", ".join(clocks)} }}
{more}
{_SHARED}
[[agents]]
id = {number}
workspace = "acme"
name = "{name}"
targets = [ {{ upstream = "{name}", {target} }} ]
"""


@contextmanager
def _closed_port() -> Iterator[int]:
    """One that nobody listens at, and that nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def _full_port() -> Iterator[int]:
    """One whose queue is full: nobody is let in."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as other:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, other):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]
