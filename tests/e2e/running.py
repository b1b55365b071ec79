"""A running gateway, and the clients' side of it."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from gateway.app import Gateway
from gateway.core.events import Json
from gateway.wire import json
from gateway.wire.sse import Parser

KEY = "oc_test_e2e_0123456789abcdefghijklmnopqrstuvwxyz"
KEY_HASH = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()


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
        parser = Parser()
        frames = parser.feed(self.body)
        assert not parser.eof(), "a stream ends with a blank line"
        return [(n, "[DONE]" if d == b"[DONE]" else json.loads(d)) for n, d in frames]

    @property
    def text(self) -> str:
        """The text of a v1 or v2 stream."""
        return "".join(
            json.text(json.mapping(data).get("text"))
            for name, data in self.frames
            if name == "token" or json.mapping(data).get("type") == "text-delta"
        )


@dataclass(slots=True)
class Running:
    """One gateway, and a session to speak to it."""

    gateway: Gateway
    session: aiohttp.ClientSession
    log: io.BytesIO

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

    async def metrics(self) -> dict[str, float]:
        """What Prometheus would scrape: series to value."""
        async with self.session.get(self.gateway.admin.url + "/metrics") as response:
            lines = (await response.text()).splitlines()
        rows = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {series: float(value) for series, value in rows}

    def log_lines(self) -> list[dict[str, Json]]:
        return [json.mapping(json.loads(line)) for line in self.log.getvalue().splitlines()]

    @asynccontextmanager
    async def raw(
        self, path: str, body: Json, key: str | None = KEY, version: str = "1.1"
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A client on a bare socket, its request sent; it is cut when the block ends."""
        data = json.dumps(body)
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        authorization = f"Authorization: Bearer {key}\r\n" if key else ""
        writer.write(
            f"POST {path} HTTP/{version}\r\nHost: test\r\nContent-Type: application/json\r\n"
            f"{authorization}Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


def config(
    upstream_url: str,
    *,
    kind: str = "openai",
    target: str = 'model = "m"',
    upstream: str = "",
    agent: str = "",
    tier: str = 'requests = "1000/1s"',
    more: str = "",
) -> str:
    """A config with one upstream, one agent (1, "Support") and one key."""
    return f"""
[server]
port = 0
[admin]
port = 0
[limits.tiers.standard]
{tier}
[upstreams.main]
kind = "{kind}"
base_url = "{upstream_url}"
{upstream}
[[agents]]
id = 1
workspace = "acme"
name = "Support"
targets = [ {{ upstream = "main", {target} }} ]
{agent}
[[keys]]
id = "e2e"
hash = "{KEY_HASH}"
workspace = "acme"
tier = "standard"
{more}
"""
