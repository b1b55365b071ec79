"""A running gateway, and the clients' side of it."""

import asyncio
import hashlib
import io
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from gateway.app import Gateway
from gateway.core.events import Json
from gateway.wire import json
from gateway.wire.sse import Parser
from tests.e2e.scripted import PATIENCE

KEY = "oc_test_e2e_0123456789abcdefghijklmnopqrstuvwxyz"
KEY_HASH = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()

# For tests of what a single attempt comes to: an upstream that is asked once, whatever it does.
ONCE = "retries = 0\nbreaker = { enabled = false }"

CHATS: dict[str, tuple[str, Json]] = {
    "v1": ("/api/v1/chat", {"agentId": 1, "message": "hi"}),
    "v2": ("/api/v2/agents/1/chat", {"message": "hi"}),
    "whole": ("/api/v2/agents/1/chat", {"message": "hi", "stream": False}),
}


async def eventually(check: Callable[[], bool], timeout: float = PATIENCE) -> None:
    """Wait for what has no event to wait for."""
    async with asyncio.timeout(timeout):
        while not check():  # noqa: ASYNC110 - the gateway's state has no events
            await asyncio.sleep(0.002)


@dataclass(slots=True)
class Answered:
    """A response that was read to its end."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> dict[str, Json]:
        return json.mapping(json.loads(self.body))

    @property
    def error(self) -> dict[str, Json]:
        return json.mapping(self.json.get("error"))

    @property
    def frames(self) -> list[tuple[str, Json]]:
        """The stream's events; data that is `[DONE]` as that string."""
        parser = Parser(max_event=1 << 30)
        read = parser.feed(self.body)
        assert not parser.eof(), "a stream ends with a blank line"
        frames = [(n, "[DONE]" if d == b"[DONE]" else json.loads(d)) for n, d in read]
        if all(name == "message" for name, _ in frames):
            values = [value for _, value in frames if value != "[DONE]"]
            assert as_the_guide_reads(self.body) == values, "v2's clients read something else"
        return frames

    @property
    def text(self) -> str:
        """The text of a v1 or v2 stream."""
        return "".join(
            json.text(json.mapping(data).get("text"))
            for name, data in self.frames
            if name == "token" or json.mapping(data).get("type") == "text-delta"
        )


def as_the_guide_reads(body: bytes) -> list[Json]:
    """A v2 stream as Bookbag's guide has clients read it: split on newlines, strip `data: `, stop
    at `[DONE]`, JSON-parse the rest."""
    values: list[Json] = []
    # splitlines(), as some clients do, sees more line ends than there are.
    for line in filter(None, body.decode().splitlines()):
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            break
        values.append(json.loads(data.encode()))
    return values


@dataclass(slots=True)
class Running:
    """One gateway, and a session to speak to it."""

    gateway: Gateway
    session: aiohttp.ClientSession
    log: io.BytesIO
    tls: ssl.SSLContext | None = None
    """What trusts the gateway's certificate, if it has one."""

    @property
    def url(self) -> str:
        return self.gateway.public.url

    async def post(
        self, path: str, body: Json | bytes, key: str | None = KEY, **headers: str
    ) -> Answered:
        """One POST; header names are written with underscores."""
        return await self.request("POST", path, body, key, **headers)

    async def request(
        self,
        method: str,
        path: str,
        body: Json | bytes = None,
        key: str | None = KEY,
        **headers: str,
    ) -> Answered:
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        async with self.session.request(
            method, self.url + path, data=data, headers=sent
        ) as response:
            return Answered(
                response.status,
                {name.lower(): value for name, value in response.headers.items()},
                await response.read(),
            )

    async def chat_v2(self, message: str = "hi", agent: str | int = 1, **body: Json) -> Answered:
        return await self.post(f"/api/v2/agents/{agent}/chat", {"message": message, **body})

    async def chat_v1(self, message: str = "hi", agent: str | int = 1, **body: Json) -> Answered:
        return await self.post("/api/v1/chat", {"agentId": agent, "message": message, **body})

    async def stepwise(self, dialect: str, *steps: tuple[bytes, asyncio.Event]) -> bytes:
        """One stream of v1 or v2 on a bare socket: when a step's bytes have come, its event is set.
        The whole response as it came, after its end."""
        got = b""
        async with asyncio.timeout(PATIENCE), self.raw(*CHATS[dialect]) as (reader, _):
            for word, reached in steps:
                got += await reader.readuntil(word)
                reached.set()
            return got + await reader.readuntil(b"\r\n0\r\n\r\n")

    async def metrics(self) -> dict[str, float]:
        """What Prometheus would scrape: series to value."""
        async with self.session.get(self.gateway.admin.url + "/metrics") as response:
            lines = (await response.text()).splitlines()
        rows = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {series: float(value) for series, value in rows}

    async def counted(self, name: str, label: str) -> dict[str, float]:
        """A metric's values by one label, zeros left out."""
        counts: dict[str, float] = {}
        for series, value in (await self.metrics()).items():
            if series.startswith(name + "{") and value:
                found = re.search(label + r'="([^"]*)"', series)
                assert found is not None
                counts[found[1]] = counts.get(found[1], 0) + value
        return counts

    async def outcomes(self) -> dict[str, float]:
        """How turns ended."""
        return await self.counted("oc_gateway_turns_total", "outcome")

    async def upstream_errors(self) -> dict[str, float]:
        """Failed attempts, by code."""
        return await self.counted("oc_gateway_upstream_errors_total", "code")

    @property
    def in_use(self) -> int:
        """Connections to upstreams that a turn holds."""
        clients = self.gateway.snapshot.clients.values()
        return sum(client.open_connections - client.idle_connections for client in clients)

    async def settled(self, timeout: float = PATIENCE) -> None:
        """Wait until no turn is open: no slot is taken and no connection in use."""
        await eventually(lambda: not self.gateway.limiter.busy and not self.in_use, timeout)
        assert not await self.counted("oc_gateway_active_streams", "agent")

    async def noticed(self, left: int = 0) -> None:
        """Wait until the gateway knows that its clients have left, all but so many."""
        server = self.gateway.public._runner.server
        assert server is not None
        await eventually(lambda: len(server.connections) == left)

    async def until_answering(self, count: int) -> None:
        """Wait until so many turns have the first content of their answers."""
        turns = self.gateway._pipeline.open_turns
        await eventually(lambda: sum(turn.relay is not None for turn in turns._turns) == count)

    def log_lines(self) -> list[dict[str, Json]]:
        return [json.mapping(json.loads(line)) for line in self.log.getvalue().splitlines()]

    @asynccontextmanager
    async def raw(
        self,
        path: str,
        body: Json,
        key: str | None = KEY,
        version: str = "1.1",
        **headers: str,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A client on a bare socket, its request sent; it is cut when the block ends."""
        async with self.connected() as (reader, writer):
            writer.write(written(path, body, key, version, **headers))
            yield reader, writer

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A client on a bare socket; it is cut when the block ends."""
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=self.tls)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


def written(
    path: str, body: Json, key: str | None = KEY, version: str = "1.1", **headers: str
) -> bytes:
    """A request as it goes over the wire."""
    data = json.dumps(body)
    more = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        f"POST {path} HTTP/{version}\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"{authorization}{more}Content-Length: {len(data)}\r\n\r\n".encode()
        + data
    )


# What an upstream's defaults would have run out in the middle of a test on a slow machine. An idle
# connection that is not given up also shows whether one that had to be closed was.
_PATIENT = {
    "keepalive": 'keepalive = "1h"',
    "timeouts": f'timeouts = {{ connect = "{PATIENCE}s" }}',
}


def _patient(upstream: str) -> str:
    """These settings of an upstream, and time for all that they do not set."""
    return "\n".join([upstream, *(line for key, line in _PATIENT.items() if key not in upstream)])


def _on_a_slow_disk(store: str) -> str:
    """A store's settings, with time to write if they do not say how much."""
    if "timeout" in store or "memory:" in store:
        return store
    return f'{store}\ntimeout = "{PATIENCE}s"'


def config(
    upstream_url: str,
    *,
    kind: str = "openai",
    target: str = 'model = "m"',
    upstream: str = "",
    clocks: str = "",
    agent: str = "",
    tier: str = 'requests = "1000/1s"',
    more: str = "",
    server: str = "",
    second: str | None = None,
    store: str = 'url = "memory://"',
) -> str:
    """A config with one upstream, one agent (1, "Support") and one key; an upstream that is built
    in has no URL. `second` is the URL of another one, which the agent falls back to.

    `upstream` is said of both, `clocks` (the inside of a `timeouts`) of the first one alone: an
    upstream that is to answer must not be ruled out by a clock that is to run out at the other.
    """
    fallback = ""
    if second is not None:
        fallback = f', {{ upstream = "second", {target} }}'
        other = _patient(upstream)
        more += f'\n[upstreams.second]\nkind = "{kind}"\nbase_url = "{second}"\n{other}'
    if clocks:
        upstream += f"\ntimeouts = {{ {clocks} }}"
    if upstream_url:
        upstream = _patient(upstream)
    address = f'base_url = "{upstream_url}"' if upstream_url else ""
    return f"""
[server]
port = 0
{server}
[admin]
port = 0
[store]
{_on_a_slow_disk(store)}
[limits.tiers.standard]
{tier}
[upstreams.main]
kind = "{kind}"
{address}
{upstream}
[[agents]]
id = 1
workspace = "acme"
name = "Support"
targets = [ {{ {", ".join(filter(None, ['upstream = "main"', target]))} }}{fallback} ]
{agent}
[[keys]]
id = "e2e"
hash = "{KEY_HASH}"
workspace = "acme"
tier = "standard"
{more}
"""
