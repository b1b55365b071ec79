"""How costs grow: with streams, with what a file holds, and with conversations.

Lines of tab-separated values, ready to plot: what grows, its size, what is measured, the value, and
that as a multiple of the first size's.
"""

import argparse
import dataclasses
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from gateway.core.events import Json
from gateway.wire import json
from tests.bench import load
from tests.bench.process import Cpus, Process, allot, allow_sockets, most_streams, started
from tests.bench.workloads import GATEWAY, KEY, Workload, config, job, warm_up

# With this, a file's agents and keys are told from those that the workloads have.
_FIRST_ID = 1000

_AGENT = """
[[agents]]
id = {id}
workspace = "bench"
name = "extra-{id}"
targets = [ {{ upstream = "asked", model = "extra-{id}" }} ]
history = {{ max_messages = 1000000 }}
"""

_CLIENT_KEY = """
[[keys]]
id = "extra-{id}"
hash = "sha256:{digest}"
workspace = "bench"
tier = "bench"
"""

# Events a second of all streams together, where their number grows.
_RATE = 2000

# The turns at the end of a conversation that are measured.
_LAST = 5

Values = dict[str, float]
"""By what they are of."""


@dataclass(frozen=True, slots=True)
class Bed:
    """Where gateways are measured: one mock for all."""

    cpus: Cpus
    port: int
    folder: Path
    seconds: float

    def started(self, asked: Workload, more: str = "") -> AbstractContextManager[Process]:
        """A gateway for this workload, with `more` in its file."""
        path = self.folder / "growth.toml"
        path.write_text(config(self.port, [self.warm_up, asked], "memory://") + more)
        return started("gateway", "run", "--config", str(path), cpu=self.cpus.gateway)

    @property
    def warm_up(self) -> Workload:
        return warm_up(self.seconds)

    def asked(self, **what: object) -> Workload:
        """JSON by a few connections, but for what is said."""
        plain = Workload("asked", 16, 8, self.seconds, stream=False)
        return dataclasses.replace(plain, **what)  # type: ignore[arg-type]

    def cost(self, process: Process, asked: Workload, body: bytes | None = None) -> float:
        """Microseconds of CPU per answer. Raises `RuntimeError` for one that is wrong."""
        self._run(process, self.warm_up)
        before = process.cpu()
        answers = self._run(process, asked, body)
        return (process.cpu() - before) * 1e6 / answers

    def _run(self, process: Process, asked: Workload, body: bytes | None = None) -> int:
        given = job(asked, GATEWAY, _port(process))
        outcome = load.run(dataclasses.replace(given, body=body or given.body))
        if outcome.wrong:
            raise RuntimeError(outcome.wrong[0])
        return outcome.answers


def _port(process: Process) -> int:
    return urlsplit(process.url).port or 0


def _length(bed: Bed, size: int) -> Values:
    asked = bed.asked(tokens=size, stream=True)
    with bed.started(asked) as process:
        return {"CPU per event, µs": bed.cost(process, asked) / size}


def _streams(bed: Bed, size: int) -> Values:
    size = min(size, most_streams())
    pause = size * 1000 // _RATE
    asked = bed.asked(tokens=12, connections=size, pause=pause, ramp=pause / 200, stream=True)
    with bed.started(asked) as process:
        return {"CPU per event, µs": bed.cost(process, asked) / asked.tokens}


def _of_file(bed: Bed, more: str) -> Values:
    asked, began = bed.asked(), time.perf_counter()
    with bed.started(asked, more) as process:
        ready, memory = time.perf_counter() - began, process.memory()
        return {
            "CPU per request, µs": bed.cost(process, asked),
            "start, s": ready,
            "memory at the start, MiB": memory / (1 << 20),
        }


def _keys(bed: Bed, size: int) -> Values:
    digests = (hashlib.sha256(b"%d" % number).hexdigest() for number in range(size - 1))
    return _of_file(bed, "".join(_CLIENT_KEY.format(id=n, digest=d) for n, d in enumerate(digests)))


def _agents(bed: Bed, size: int) -> Values:
    return _of_file(bed, "".join(_AGENT.format(id=_FIRST_ID + n) for n in range(size - 1)))


def _replayed(bed: Bed, size: int) -> Values:
    """Each request brings the whole conversation."""
    asked = bed.asked(spoken="openai")
    said: Json = [{"role": ("user", "assistant")[n % 2], "content": f"{n}"} for n in range(size)]
    body = json.dumps({"model": "asked", "messages": said, "stream": False})
    with bed.started(asked) as process:
        cost = bed.cost(process, asked, body)
    return {"CPU per request, µs": cost, "CPU per message, µs": cost / size}


def _stored(bed: Bed, size: int) -> Values:
    """The gateway keeps the conversation, and tells the upstream all of it with each turn."""
    asked = bed.asked()
    with bed.started(asked, _AGENT.format(id=_FIRST_ID)) as process:
        turns = _conversation(_port(process))
        for _ in range(size - _LAST):
            next(turns)
        before = process.cpu()
        for _ in range(_LAST):
            next(turns)
        cost = (process.cpu() - before) * 1e6 / _LAST
    return {"CPU per turn, µs": cost, "CPU per message, µs": cost / size / 2}


def _conversation(port: int) -> Iterator[None]:
    """One turn after the other. Raises `RuntimeError` for a wrong answer."""
    said: dict[str, Json] = {"message": "hi", "stream": False}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        while True:
            path = f"/api/v2/agents/{_FIRST_ID}/chat"
            connection.request("POST", path, json.dumps(said), headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}: {body[:200]!r}")
            data = json.mapping(json.mapping(json.loads(body)).get("data"))
            metadata = json.mapping(data.get("metadata"))
            said["conversationId"] = metadata.get("conversationId")
            yield


AXES: dict[str, tuple[Callable[[Bed, int], Values], tuple[int, ...]]] = {
    "tokens of a stream": (_length, (16, 128, 1024, 8192)),
    "streams": (_streams, (10, 100, 1000, 4000)),
    "keys": (_keys, (1, 100, 10_000, 1_000_000)),
    "agents": (_agents, (1, 100, 1000, 10_000)),
    "messages of a request": (_replayed, (1, 10, 100, 1000)),
    "turns of a conversation": (_stored, (10, 50, 250, 1000)),
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--only", nargs="+", choices=AXES, default=list(AXES), metavar="AXIS")
    parser.add_argument("--largest", type=int, default=1_000_000, help="no size above it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if any answer was wrong."""
    cpus = allot()
    allow_sockets()
    print("grows", "size", "figure", "value", "to the first", sep="\t", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        started("tests.bench.mock", cpu=cpus.load) as mock,
    ):
        bed = Bed(cpus, _port(mock), Path(folder), args.seconds)
        try:
            for axis in args.only:
                _grow(bed, axis, args.largest)
        except RuntimeError as exc:
            print(f"wrong answer: {exc}", file=sys.stderr)
            return 1
    return 0


def _grow(bed: Bed, axis: str, largest: int) -> None:
    measure, sizes = AXES[axis]
    first: Values = {}
    for size in (size for size in sizes if size <= largest):
        values = measure(bed, size)
        first = first or values
        for name, value in values.items():
            told = (axis, size, name, f"{value:.2f}", f"{value / first[name]:.2f}")
            print(*told, sep="\t", flush=True)
