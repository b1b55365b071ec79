"""What is asked, of whom, and in which words."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.auth.mint import key_hash
from gateway.core.events import Json
from gateway.wire import json
from tests.bench.load import Job

GATEWAY, PASSTHROUGH, NGINX, DIRECT = "gateway", "pass-through", "nginx", "direct"
SQLITE = "gateway with sqlite"
"""The gateway with its conversations in a file, not in its memory."""
WORKERS = "gateway with two workers"
"""Theirs are in the same kind of file: they cannot share a process's memory."""

PASSTHROUGHS = "two pass-throughs"
"""What two processes cost more than one on this machine, whoever they are."""

GATEWAYS = (GATEWAY, SQLITE, WORKERS)

KEY = "oc_test_bench_0123456789abcdefghijklmnopqrstuvwxyz"


# The mock's address for crowds: a pair of addresses has 28,000 ports, and not all are free again.
CROWDED = "127.0.0.2"


@dataclass(frozen=True, slots=True)
class Workload:
    """`pause` in milliseconds, `seconds`, `ramp` and `hold` as in `Job`."""

    name: str
    tokens: int
    connections: int
    seconds: float
    pause: int = 0
    ramp: float = 0.0
    stream: bool = True
    hold: float = 0.0
    fresh: bool = False
    """In a process that has not grown yet."""
    host: str = "127.0.0.1"
    """The mock's."""
    spoken: str = "bookbag"
    """What the gateway is asked in: it translates, but for `openai`."""

    @property
    def plan(self) -> str:
        """What the mock reads in the path."""
        return f"/{self.tokens}x{self.pause}/v1"


NAMES = (
    *("json", "burst", "paced", "first", "open", "idle", "crowd-5000", "crowd-10000", "workers"),
)


def workloads(seconds: float, most: int) -> list[Workload]:
    """All of them, for about so many seconds and at most so many connections each."""
    step = round(seconds * 1000 / 12)
    # A ramp spreads streams that would else run in step.
    return [
        Workload("json", 64, min(32, most), seconds, stream=False),
        Workload("burst", 64, min(32, most), seconds),
        Workload("paced", 64, min(200, most), seconds, pause=20, ramp=min(1.28, seconds)),
        Workload("first", 4, min(20, most), seconds, pause=20, ramp=0.08),
        # Each connection asks once, and all streams are open by the time the first one ends.
        Workload("open", 12, min(1000, most), 0.0, step, ramp=seconds / 4, fresh=True),
        Workload(
            *("idle", 4, min(1000, most), 0.0),
            stream=False,
            ramp=seconds / 4,
            hold=seconds / 2,
            fresh=True,
        ),
        _crowd(5000, most, seconds),
        _crowd(10000, most, seconds * 2),
        Workload("workers", 64, min(32, most), seconds, stream=False, spoken="openai"),
    ]


def _crowd(size: int, most: int, ramp: float) -> Workload:
    """Slow streams that are all open at once: each lasts twice as long as it takes to begin all."""
    pause = round(ramp * 100)
    return Workload(*(f"crowd-{size}", 20, min(size, most), 0.0), pause, ramp=ramp, host=CROWDED)


def warm_up(seconds: float) -> Workload:
    """What comes before all others, and is not counted."""
    return Workload("warm-up", 64, 8, min(1.0, seconds))


def config(port: int, asked: Iterable[Workload], store: str, workers: int = 1) -> str:
    """A gateway.toml with an upstream and an agent for each workload, and this store; the mock is
    at `port`."""
    # One worker is the default, also where the setting is unknown.
    said = f"workers = {workers}\n" if workers > 1 else ""
    return HEAD.format(store=store, workers=said) + "".join(
        f"""
[upstreams.{workload.name}]
kind = "openai"
base_url = "http://{workload.host}:{port}{workload.plan}"
max_connections = 16384
[[agents]]
id = {number}
workspace = "bench"
name = "{workload.name}"
targets = [ {{ upstream = "{workload.name}", model = "bench" }} ]
"""
        for number, workload in enumerate(asked, 1)
    )


HEAD = f"""
[server]
port = 0
{{workers}}[admin]
port = 0
[store]
url = "{{store}}"
[limits.tiers.bench]
requests = "1000000/1s"
concurrency = 100000
[[keys]]
id = "bench"
hash = "{key_hash(KEY)}"
workspace = "bench"
tier = "bench"
"""


def job(workload: Workload, target: str, port: int) -> Job:
    """The gateway is spoken to in Bookbag v2 and has to translate; the others in OpenAI's words."""
    said: dict[str, Json] = {"message": "hi", "stream": workload.stream}
    path = f"/api/v2/agents/{workload.name}/chat"
    if target not in GATEWAYS or workload.spoken == "openai":
        messages: Json = [{"role": "user", "content": "hi"}]
        model = workload.name if target in GATEWAYS else "bench"
        said = {"model": model, "messages": messages, "stream": workload.stream}
        path = "/v1/chat/completions"
        if target not in GATEWAYS:
            path = f"{workload.plan}/chat/completions"
    return Job(
        port=port,
        path=path,
        body=json.dumps(said),
        key=KEY,
        stream=workload.stream,
        tokens=workload.tokens,
        connections=workload.connections,
        seconds=workload.seconds,
        ramp=workload.ramp,
        hold=workload.hold,
    )


def smaller(workload: Workload, connections: int) -> Workload:
    """The same with fewer connections, where a process may not have as many."""
    return dataclasses.replace(workload, connections=min(connections, workload.connections))
