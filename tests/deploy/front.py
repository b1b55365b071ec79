"""The proxies of deploy/fronts/ as programs that run, each in front of a gateway of the tests'; and
their clients, which speak HTTP/1.1 and HTTP/2 to them.
"""

import asyncio
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.core.events import Json
from gateway.wire import json
from tests.deploy.programs import ASKING, FRONTS, NAME, Place
from tests.e2e import javascript
from tests.e2e.running import KEY
from tests.serving import environment

# In seconds, of a program's start or of a request: generous, for the machine may be busy.
_TIMEOUT = 30.0

# Where the clients are, as the front sees it, and what they call each request.
CLIENT = "127.0.0.7"
REQUEST = "clients-own.1"

_SENT = {
    "Authorization": f"Bearer {KEY}",
    "Content-Type": "application/json",
    "Accept-Encoding": "gzip",
    "X-Forwarded-For": "203.0.113.9",
    "X-Request-Id": REQUEST,
}


@asynccontextmanager
async def running(name: str, place: Place) -> AsyncIterator["Front"]:
    """A front that serves; nothing of it is left."""
    command, serves = FRONTS[name]
    home = str(place.folder)
    arguments = command(place)
    assert shutil.which(arguments[0]), f"{arguments[0]} is missing: run tests/install"
    process = await asyncio.create_subprocess_exec(
        # Whatever becomes of the tests, it ends with them.
        *("setpriv", "--pdeathsig=TERM", *arguments),
        stderr=PIPE,
        env=environment(HOME=home, XDG_CONFIG_HOME=home, XDG_DATA_HOME=home),
    )
    try:
        await _until(process, serves)
        yield Front(place, process, ASKING.get(name))
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), _TIMEOUT)


async def _until(process: Process, word: bytes) -> None:
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(_TIMEOUT):
        while word not in said:
            line = await process.stderr.readline()
            assert line, said.decode()
            said += line


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """A response that is still coming."""

    process: Process

    async def until(self, word: bytes) -> bytes:
        """What has come up to this word, the head included."""
        assert self.process.stdout is not None
        return await asyncio.wait_for(self.process.stdout.readuntil(word), _TIMEOUT)

    async def rest(self) -> bytes:
        """All that comes after it."""
        assert self.process.stdout is not None
        return await asyncio.wait_for(self.process.stdout.read(), _TIMEOUT)


@dataclass(frozen=True, slots=True)
class Front:
    """A running front, as its clients reach it."""

    place: Place
    process: Process
    asking: bytes | None

    async def until_it_knows(self) -> None:
        """Wait until it has noticed that a gateway is down, if it is one that asks."""
        if self.asking:
            await _until(self.process, self.asking)

    @asynccontextmanager
    async def stream(self, version: str, path: str, body: Json | bytes) -> AsyncIterator[Stream]:
        """A POST over this version of HTTP. The client leaves when the block ends."""
        data = body if isinstance(body, bytes) else json.dumps(body)
        process = await asyncio.create_subprocess_exec(
            *self._curl(version, path), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert process.stdin is not None
        process.stdin.write(data)
        process.stdin.close()
        try:
            yield Stream(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def post(self, version: str, path: str, body: Json | bytes) -> Reply:
        """A POST, and its whole response."""
        async with self.stream(version, path, body) as stream:
            return _reply(await stream.rest())

    async def answered_early(self, version: str, path: str, body: bytes) -> Reply:
        """The same, if the answer may be there before the body is. Over HTTP/2, Envoy resets the
        stream then, which curl takes for an error up to 8.0."""
        if version != "2":
            return await self.post(version, path, body)
        given: Json = {
            "origin": f"https://{NAME}:{self.place.port}",
            "address": "127.0.0.1",
            "certificate": str(self.place.certificate),
            "path": path,
            "headers": dict(_SENT),
        }
        came = json.mapping(await javascript.run("post.mjs", given, stdin=body))
        status, said = json.count(came.get("status")), json.text(came.get("body"))
        return Reply(status or 0, {}, said.encode())

    def _curl(self, version: str, path: str) -> list[str]:
        return [
            *("curl", f"--http{version}", "--noproxy", "*", "--silent", "--no-buffer", "--include"),
            *("--interface", CLIENT, "--cacert", str(self.place.certificate)),
            *("--resolve", f"{NAME}:{self.place.port}:127.0.0.1"),
            *(part for name, value in _SENT.items() for part in ("--header", f"{name}: {value}")),
            *("--data-binary", "@-", f"https://{NAME}:{self.place.port}{path}"),
        ]


def _reply(came: bytes) -> Reply:
    head, _, body = came.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    return Reply(int(first.split()[1]), headers, body)


def address(url: str) -> str:
    """`host:port` of a URL."""
    return urlsplit(url).netloc
