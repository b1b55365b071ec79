"""What is asked, of whom, and in which words."""

from dataclasses import dataclass

from gateway.auth.mint import key_hash
from gateway.core.events import Json
from gateway.wire import json
from tests.bench.load import Job

GATEWAY, PASSTHROUGH, DIRECT = "gateway", "pass-through", "direct"
SQLITE = "gateway with sqlite"
"""The gateway with its conversations in a file, not in its memory."""

NAMES = ("json", "burst", "paced", "first", "open")

_KEY = "oc_test_bench_0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Workload:
    """`pause` in milliseconds, `seconds` and `ramp` as in `Job`."""

    name: str
    tokens: int
    connections: int
    seconds: float
    pause: int = 0
    ramp: float = 0.0
    stream: bool = True

    @property
    def plan(self) -> str:
        """What the mock reads in the path."""
        return f"/{self.tokens}x{self.pause}/v1"


def workloads(seconds: float, most: int) -> list[Workload]:
    """All of them, for about so many seconds and at most so many connections each."""
    # A ramp spreads streams that would else run in step.
    return [
        Workload("json", 64, min(32, most), seconds, stream=False),
        Workload("burst", 64, min(32, most), seconds),
        Workload("paced", 64, min(200, most), seconds, pause=20, ramp=min(1.28, seconds)),
        Workload("first", 4, min(8, most), seconds, pause=20, ramp=0.08),
        # Each connection asks once, and all streams are open by the time the first one ends.
        Workload("open", 12, min(1000, most), 0.0, round(seconds * 1000 / 12), ramp=seconds / 4),
    ]


def warm_up(seconds: float) -> Workload:
    """What comes before all others, and is not counted."""
    return Workload("warm-up", 64, 8, min(1.0, seconds))


def config(upstream: str, asked: list[Workload], store: str) -> str:
    """A gateway.toml with an upstream and an agent for each workload, and this store."""
    return _HEAD.format(store=store) + "".join(
        f"""
[upstreams.{workload.name}]
kind = "openai"
base_url = "{upstream}{workload.plan}"
max_connections = 4096
[[agents]]
id = {number}
workspace = "bench"
name = "{workload.name}"
targets = [ {{ upstream = "{workload.name}", model = "bench" }} ]
"""
        for number, workload in enumerate(asked, 1)
    )


_HEAD = f"""
[server]
port = 0
[admin]
port = 0
[store]
url = "{{store}}"
[limits.tiers.bench]
requests = "1000000/1s"
[[keys]]
id = "bench"
hash = "{key_hash(_KEY)}"
workspace = "bench"
tier = "bench"
"""


def job(workload: Workload, target: str, port: int) -> Job:
    """The gateway is spoken to in Bookbag v2 and has to translate; the others in OpenAI's words."""
    said: dict[str, Json] = {"message": "hi", "stream": workload.stream}
    path = f"/api/v2/agents/{workload.name}/chat"
    if target not in (GATEWAY, SQLITE):
        messages: Json = [{"role": "user", "content": "hi"}]
        said = {"model": "bench", "messages": messages, "stream": workload.stream}
        path = f"{workload.plan}/chat/completions"
    return Job(
        port=port,
        path=path,
        body=json.dumps(said),
        key=_KEY,
        stream=workload.stream,
        tokens=workload.tokens,
        connections=workload.connections,
        seconds=workload.seconds,
        ramp=workload.ramp,
    )
