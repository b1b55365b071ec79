"""The proxies of deploy/fronts/ as programs that run, each in front of a gateway of the tests'; and
curl, which speaks HTTP/1.1 and HTTP/2 to them.

A file is taken as it stands, but for the addresses and the certificate.
"""

import asyncio
import os
import shutil
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.core.events import Json
from gateway.wire import json
from tests.deploy.files import DEPLOY
from tests.e2e.running import KEY
from tests.serving import environment

NAME = "chat.example.com"

# In seconds, of a program's start or of a request: generous, for the machine may be busy.
_TIMEOUT = 30.0

# What surrounds a site in the worst case: everything on that delays events.
_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    gzip on;
    gzip_proxied any;
    gzip_min_length 0;
    gzip_types *;
    {temporary}
    include {folder}/site.conf;
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_CADDY = """
{{
	admin off
	auto_https disable_redirects
	storage file_system {folder}
}}
{site}
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Place:
    """Where a front listens, what it is in front of (`host:port`), and with which certificate."""

    folder: Path
    port: int
    gateways: tuple[str, ...]
    admin: int
    certificate: Path


def _changed(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, f"{old} is not in the file"
        text = text.replace(old, new)
    return text


def _nginx(place: Place) -> list[str]:
    servers = "\n".join(f"server {address} fail_timeout=1s;" for address in place.gateways)
    site = _changed(
        (DEPLOY / "fronts" / "nginx.conf").read_text(),
        {
            "server 127.0.0.1:8080 fail_timeout=1s;": servers,
            "listen 443": f"listen 127.0.0.1:{place.port}",
            "listen [::]:443 ssl http2;": "",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "listen [::]:80;": "",
            f"/etc/ssl/certs/{NAME}.pem": str(place.certificate),
            f"/etc/ssl/private/{NAME}.key": str(place.certificate),
        },
    )
    (place.folder / "site.conf").write_text(site)
    temporary = "".join(f"{name}_temp_path {place.folder}/{name};\n" for name in _TEMPORARY)
    user = "user root;" if os.getuid() == 0 else ""
    main = place.folder / "nginx.conf"
    main.write_text(_NGINX.format(folder=place.folder, temporary=temporary, user=user))
    return ["nginx", "-e", "stderr", "-c", str(main)]


def _caddy(place: Place) -> list[str]:
    site = _changed(
        (DEPLOY / "fronts" / "Caddyfile").read_text(),
        {
            f"\n{NAME} {{": f"\nhttps://{NAME}:{place.port} {{\n"
            f"bind 127.0.0.1\ntls {place.certificate} {place.certificate}",
            "127.0.0.1:8080": " ".join(place.gateways),
            "health_port 9090": f"health_port {place.admin}",
        },
    )
    path = place.folder / "Caddyfile"
    path.write_text(_CADDY.format(folder=place.folder, site=site))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(path)]


_Command = Callable[[Place], list[str]]

# How each is started, and what it says when it serves.
FRONTS: dict[str, tuple[_Command, bytes]] = {
    "nginx": (_nginx, b"start worker process "),
    "caddy": (_caddy, b"serving initial configuration"),
}
# What those that ask gateways how they are say when one does not answer.
_ASKING = {"caddy": b"HTTP request failed"}


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
        yield Front(place, process, _ASKING.get(name))
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

    def _curl(self, version: str, path: str) -> list[str]:
        sent = {
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip",
            "X-Forwarded-For": "203.0.113.9",
        }
        return [
            *("curl", f"--http{version}", "--noproxy", "*", "--silent", "--no-buffer", "--include"),
            *("--cacert", str(self.place.certificate)),
            *("--resolve", f"{NAME}:{self.place.port}:127.0.0.1"),
            *(part for name, value in sent.items() for part in ("--header", f"{name}: {value}")),
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
