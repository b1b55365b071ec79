"""How many calls a turn takes: a count that neither the machine nor its other work changes.

Calls of Python functions and of C functions by Python, in one process with gateway, upstream and
client, but for those that upstream and client make themselves. The upstream sends each event once
the client has the one before it, so every event is a read and a write of its own.
"""

import argparse
import asyncio
import os
import site
import sys
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import uvloop

from gateway.app import Gateway
from gateway.config.load import parse
from gateway.observe.logs import build_logger
from gateway.wire import json
from tests.bench.load import Job, fault
from tests.bench.mock import Upstream
from tests.bench.workloads import GATEWAY, Workload, config, job
from tests.serving import ROOT

CEILINGS = Path(__file__).parent / "ceilings.json"

# What counts differ by where nothing has changed: a timer that was due, a library's patch release.
ROOM = 0.05

# The first turns fill caches. Of the others the least counts, in which no timer was due.
_WARM_UP, _TURNS = 5, 7

# How long what follows an answer may take: the record, its metrics, its log line. Seconds.
_AFTERMATH = 0.02

_SHORT, _LONG = 4, 104
_WORKLOADS = {
    "json": Workload("json", _SHORT, 1, 0.0, stream=False),
    "short": Workload("short", _SHORT, 1, 0.0),
    "long": Workload("long", _LONG, 1, 0.0),
}

_PACKAGES = site.getsitepackages()[0] + os.sep
_OURS = str(ROOT / "gateway") + os.sep
_TESTS = str(ROOT / "tests") + os.sep

Calls = Counter[str]
"""By the module that was running."""


class _Stepped(Upstream):
    """Sends a token when it is told to, and what closes the stream after the last one."""

    latest: "_Stepped"

    def _play(self, closing: Iterable[bytes], _pause: float, _due: float) -> None:
        _Stepped.latest, self._closing = self, closing
        self.step()

    def step(self) -> None:
        if self._left:
            self._write(self._left.popleft())
        else:
            for data in self._closing:
                self._write(data)


class _Client(asyncio.Protocol):
    """Asks once at a time."""

    def __init__(self) -> None:
        self.answer = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, asked: Job) -> None:
        self.answer.clear()
        self.done = asyncio.get_running_loop().create_future()
        self._asked = asked
        self._transport.write(asked.request)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        end = b"\r\n0\r\n\r\n" if self._asked.stream else b"}"
        if self.answer.endswith(end):
            self.done.set_result(None)
        elif self._asked.stream and b"~" in data:
            _Stepped.latest.step()

    def judge(self) -> None:
        """Raises `RuntimeError` for a wrong answer."""
        head, _, body = bytes(self.answer).partition(b"\r\n\r\n")
        if self._asked.stream:
            sizes_and_data = body.split(b"\r\n")
            body = b"".join(sizes_and_data[1::2])
        if wrong := fault(self._asked, int(head[9:12]), body):
            raise RuntimeError(wrong)

    def hang_up(self) -> None:
        self._transport.close()


@dataclass(slots=True)
class Profile:
    """What was called between `begin` and `end`, and by whom."""

    by_file: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        sys.setprofile(self._called)

    def end(self) -> None:
        sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, _what: object) -> None:
        if event in ("call", "c_call"):
            self.by_file[frame.f_code.co_filename] += 1

    @property
    def calls(self) -> Calls:
        """Without those of upstream and client."""
        found: Calls = Counter()
        for file, count in self.by_file.items():
            if not file.startswith(_TESTS):
                found[module(file)] += count
        return found


def module(file: str) -> str:
    """The module of ours, or the library, that a file belongs to."""
    if file.startswith(_OURS):
        return file.removeprefix(str(ROOT) + os.sep).removesuffix(".py").replace(os.sep, ".")
    if file.startswith(_PACKAGES):
        return file.removeprefix(_PACKAGES).partition(os.sep)[0].removesuffix(".py")
    if file.startswith("<"):
        return "(generated)"
    return "(standard library)"


@asynccontextmanager
async def _running(log: BinaryIO) -> AsyncIterator[tuple[_Client, int]]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Stepped, "127.0.0.1", 0)
    text = config(server.sockets[0].getsockname()[1], _WORKLOADS.values(), "memory://")
    settings = parse(tomllib.loads(text), Path("bench.toml"))
    gateway = Gateway(settings, Path(), build_logger(stream=log))
    await gateway.start()
    try:
        port = urlsplit(gateway.public.url).port or 0
        _, client = await loop.create_connection(_Client, "127.0.0.1", port)
        yield client, port
        client.hang_up()
    finally:
        await gateway.stop()
        server.close()


async def _turn(client: _Client, asked: Job) -> Calls:
    profile = Profile()
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    profile.begin()
    try:
        client.ask(asked)
        await client.done
        loop.call_later(_AFTERMATH, over.set_result, None)
        await over
    finally:
        profile.end()
    client.judge()
    return profile.calls


async def _least(client: _Client, port: int, workload: Workload) -> Calls:
    asked = job(workload, GATEWAY, port)
    turns = [await _turn(client, asked) for _ in range(_WARM_UP + _TURNS)]
    return min(turns[_WARM_UP:], key=Counter.total)


async def _counted(log: BinaryIO) -> dict[str, Calls]:
    async with _running(log) as (client, port):
        least = {name: await _least(client, port, w) for name, w in _WORKLOADS.items()}
    each: Calls = Counter(least["long"])
    each.subtract(least["short"])
    return {"json": least["json"], "stream": least["short"], "events": each}


def counted() -> dict[str, Calls]:
    """Of a JSON turn, of a streamed turn of four tokens, and of a hundred further events."""
    with open(os.devnull, "wb") as nowhere:
        return uvloop.run(_counted(nowhere))


def version() -> str:
    """Python's, as the committed ceilings have it: what it calls differs between them."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def over(totals: dict[str, int], ceilings: dict[str, int]) -> list[str]:
    """What is wrong, in a line each; a figure without a ceiling is."""
    return [
        f"{name}: {total} calls, where {ceilings.get(name, 0)} are the ceiling and"
        f" {ROOM:.0%} more the limit"
        for name, total in totals.items()
        if total > ceilings.get(name, 0) * (1 + ROOM)
    ]


def define(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="exit code 1 if there are too many")
    how.add_argument("--update", action="store_true", help="make these the ceilings")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if a ceiling was asked for and exceeded."""
    found = counted()
    totals = {name: calls.total() for name, calls in found.items()}
    ceilings = read_ceilings()
    print(_table(found), _told(totals, ceilings.get(version(), {})), sep="\n\n")
    if args.update:
        ceilings[version()] = totals
        CEILINGS.write_bytes(json.dumps(dict(sorted(ceilings.items()))) + b"\n")
    if args.check and (wrong := over(totals, ceilings.get(version(), {}))):
        print(_ADVICE.format(wrong="\n".join(wrong), version=version()), file=sys.stderr)
        return 1
    return 0


def read_ceilings() -> dict[str, dict[str, int]]:
    """By Python's version."""
    return cast("dict[str, dict[str, int]]", json.loads(CEILINGS.read_bytes()))


_ADVICE = """\
{wrong}

A turn has become dearer. "python -m tests.bench calls" prints the calls by module: compare with
those of the commit before. If it is worth it, "python -m tests.bench calls --update" makes the
counts of Python {version} the new ceilings."""


def _table(found: dict[str, Calls]) -> str:
    names = sorted(
        {name for calls in found.values() for name in calls},
        key=lambda name: -sum(calls[name] for calls in found.values()),
    )
    rows = [f"{'calls by':32}{'json turn':>12}{'4 tokens':>12}{'100 more':>12}"]
    rows += [f"{name:32}{''.join(f'{c[name]:12}' for c in found.values())}" for name in names]
    return "\n".join(rows)


def _told(totals: dict[str, int], ceilings: dict[str, int]) -> str:
    known = [f"{name} {total} (ceiling {ceilings.get(name, 0)})" for name, total in totals.items()]
    return f"Python {version()}: {', '.join(known)}"
