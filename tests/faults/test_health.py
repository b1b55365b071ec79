"""Health checks over real sockets: what is asked, what counts, and what a reload changes."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.core.codec import UpstreamRequest
from gateway.core.errors import GatewayError
from gateway.core.events import Json
from gateway.observe.logs import build_logger
from gateway.proxy import health
from gateway.proxy.health import HealthChecks
from gateway.proxy.remote import RemoteAnswer
from gateway.proxy.snapshot import Snapshot
from gateway.reload.build import build_snapshot
from gateway.targets.states import States
from gateway.wire import json
from tests.e2e.running import config
from tests.e2e.scripted import Close, Hang, Reset, Script, ScriptedUpstream, document, head

WELL, ILL = document({"data": []}), document({"error": "on fire"}, 503)
NEVER_AGAIN = "1h"


def checked(
    path: str = "/models", interval: str = "5ms", timeout: str = "30s", failures: int = 3
) -> str:
    """An upstream's line of the config."""
    return (
        f'health = {{ path = "{path}", interval = "{interval}", timeout = "{timeout}",'
        f" failures = {failures} }}"
    )


class Checking:
    """Checks of what a config says, and what they tell."""

    def __init__(self, folder: Path) -> None:
        self.states = States()
        self.told: asyncio.Queue[tuple[str, bool, bool]] = asyncio.Queue()
        """Of each check the upstream, whether it was well, and whether it is down then."""
        self.deaf = False
        """Whether the next that is told is lost on it."""
        self.log = io.BytesIO()
        self.checks = HealthChecks(self.states, build_logger("info", self.log), self.hear)
        self.folder = folder
        self.snapshots: list[Snapshot] = []

    def hear(self, upstream: str, well: bool) -> None:
        if self.deaf:
            self.deaf = False
            raise ValueError
        self.told.put_nowait((upstream, well, self.states.checked(upstream).down))

    def read(self, text: str, **environ: str) -> Snapshot:
        """As a reload does: clients stay where nothing of theirs has changed."""
        file = self.folder / "gateway.toml"
        file.write_text(text)
        previous = self.snapshots[-1] if self.snapshots else None
        snapshot = build_snapshot(load(file), self.folder, environ, previous)
        self.states.track([target for route in snapshot.routes for target in route.targets])
        self.snapshots.append(snapshot)
        return snapshot

    def start(self, text: str, **environ: str) -> None:
        self.checks.start(self.read(text, **environ))

    def follow(self, text: str, **environ: str) -> None:
        self.checks.follow(self.read(text, **environ))

    async def next(self) -> tuple[str, bool, bool]:
        return await asyncio.wait_for(self.told.get(), 30)

    async def next_of(self, count: int) -> list[tuple[bool, bool]]:
        """Well, and down."""
        return [(await self.next())[1:] for _ in range(count)]

    async def until_down(self) -> None:
        while not (await self.next())[2]:
            pass

    @property
    def lines(self) -> list[dict[str, Json]]:
        return [json.mapping(json.loads(line)) for line in self.log.getvalue().splitlines()]

    @property
    def events(self) -> list[Json]:
        return [line["event"] for line in self.lines]


@pytest.fixture
async def checking(tmp_path: Path) -> AsyncIterator[Checking]:
    checking = Checking(tmp_path)
    yield checking
    await checking.checks.stop()
    for snapshot in checking.snapshots:
        for client in snapshot.clients.values():
            client.close()


async def test_what_is_asked(checking: Checking, upstream: ScriptedUpstream) -> None:
    """A GET behind the base URL, as the turns ask: with the credential."""
    upstream.answers(WELL)
    line = checked("/models?limit=1", NEVER_AGAIN) + '\ncredential = { env = "SECRET" }'
    checking.start(config(upstream.url + "/base/v1", upstream=line), SECRET="s3cret")
    assert await checking.next() == ("main", True, False)

    (got,) = upstream.requests
    assert (got.method, got.path, got.body) == ("GET", "/base/v1/models?limit=1", b"")
    assert got.headers["authorization"] == "Bearer s3cret"
    assert got.headers["accept"] == "*/*"
    assert got.headers["x-request-id"]
    assert got.headers.keys().isdisjoint({"content-type", "content-length"})


ANSWERS: dict[str, tuple[Script, str | None]] = {
    "200": (WELL, None),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], None),
    "299": (document({}, 299), None),
    "a 200 that is no JSON": ([head(200, "text/html", Content_Length="2") + b"ok"], None),
    "a 200 whose body does not end": ([head(), Hang], None),
    "301": (document({}, 301, Location="/elsewhere"), "status 301"),
    "401": (document({}, 401), "status 401"),
    "403": (document({}, 403), "status 403"),
    "404": (document({}, 404), "status 404"),
    "429": (document({}, 429), "status 429"),
    "500": (document({}, 500), "status 500"),
    "503": (ILL, "status 503"),
    "a close": ([Close], "upstream_truncated"),
    "a reset": ([Reset], "upstream_truncated"),
    "half a head": ([b"HTTP/1.1 200 O", Close], "upstream_truncated"),
    "another protocol": ([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], "upstream_malformed"),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_what_counts(answer: str, checking: Checking, upstream: ScriptedUpstream) -> None:
    """Any 2xx is well, everything else is not, and the log says what it was."""
    script, problem = ANSWERS[answer]
    upstream.answers(script)
    checking.start(config(upstream.url, upstream=checked(interval=NEVER_AGAIN, failures=1)))

    assert await checking.next() == ("main", problem is None, problem is not None)
    assert [line["problem"] for line in checking.lines] == [problem] * (problem is not None)


async def test_silence(checking: Checking, upstream: ScriptedUpstream) -> None:
    """Not for longer than `timeout`, and then the connection is given up."""
    upstream.answers([Hang])
    checking.start(
        config(upstream.url, upstream=checked(interval=NEVER_AGAIN, timeout="20ms", failures=1))
    )

    assert await asyncio.wait_for(checking.next(), 15) == ("main", False, True)
    assert checking.lines[0]["problem"] == "timeout"
    await upstream.until_open(0)


async def test_nobody_listens(checking: Checking) -> None:
    """An address that refuses."""
    async with ScriptedUpstream() as gone:
        url = gone.url
    checking.start(config(url, upstream=checked(interval=NEVER_AGAIN, failures=1)))

    assert await checking.next() == ("main", False, True)
    assert checking.lines[0]["problem"] == "upstream_unreachable"


async def test_so_many_failures_in_a_row(checking: Checking, upstream: ScriptedUpstream) -> None:
    """One success ends it, and each change is a line of the log."""
    upstream.answers(ILL, ILL, WELL, ILL, ILL, ILL, ILL, WELL, ILL, WELL)
    checking.start(config(upstream.url, upstream=checked(failures=3)))

    assert await checking.next_of(10) == [
        (False, False),
        (False, False),
        (True, False),
        (False, False),
        (False, False),
        (False, True),
        (False, True),
        (True, False),
        (False, False),
        (True, False),
    ]
    down, up = checking.lines[:2]
    assert checking.events == ["upstream_unhealthy", "upstream_healthy"]
    assert (down["upstream"], down["level"], down["problem"]) == ("main", "warning", "status 503")
    assert (up["upstream"], up["level"]) == ("main", "info")


async def test_each_upstream_by_itself(
    checking: Checking, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """However many agents use it; and those that are not to be checked are not."""
    upstream.answers(ILL)
    second.answers(WELL)
    checking.start(
        config(upstream.url, second=second.url, upstream=checked(interval=NEVER_AGAIN, failures=1))
        + f"""
[upstreams.unchecked]
kind = "openai"
base_url = "{upstream.url}"
[upstreams.unused]
kind = "openai"
base_url = "{upstream.url}"
{checked(interval=NEVER_AGAIN)}
[[agents]]
id = 2
workspace = "acme"
name = "Sales"
targets = [
  {{ upstream = "main", model = "m" }},
  {{ upstream = "main", model = "n" }},
  {{ upstream = "unchecked", model = "m" }},
]
"""
    )

    assert {await checking.next(), await checking.next()} == {
        ("main", False, True),
        ("second", True, False),
    }
    assert (len(upstream.requests), len(second.requests)) == (1, 1)
    downs = {state.name: state.checked.down for state in checking.states}
    assert downs == {"main/m": True, "main/n": True, "second/m": False, "unchecked/m": False}


async def test_no_connection_to_be_had(
    checking: Checking, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As turns have them all, it answers: a check that finds no room says nothing against it."""
    upstream.answers([head(), Hang], WELL)
    text = config(upstream.url, upstream=checked(failures=1) + "\nmax_connections = 1")
    snapshot = checking.read(text)
    client = snapshot.clients["main"]
    turn = await client.send(UpstreamRequest("/chat", b"{}"), "turn")
    await turn.head
    refused, send = asyncio.Event(), client.send

    async def tell(request: UpstreamRequest, request_id: str) -> RemoteAnswer:
        try:
            return await send(request, request_id)
        except GatewayError:
            refused.set()
            raise

    monkeypatch.setattr(client, "send", tell)
    checking.checks.start(snapshot)
    for _ in range(3):
        await asyncio.wait_for(refused.wait(), 30)
        refused.clear()
    assert checking.told.empty()
    assert checking.states.checked("main").failures == 0

    turn.close()
    assert await checking.next() == ("main", True, False)


async def test_nothing_ends_it(checking: Checking, upstream: ScriptedUpstream) -> None:
    """A bug in it is a line of the log, and the next check is made."""
    upstream.answers(WELL)
    checking.deaf = True
    checking.start(config(upstream.url, upstream=checked()))

    assert await checking.next() == ("main", True, False)
    (line,) = checking.lines
    assert (line["event"], line["level"]) == ("health_check_broken", "error")
    assert "ValueError" in json.text(line["exception"])


async def test_a_reload_that_changes_nothing(
    checking: Checking, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """What was found stays, and nothing is asked before its time."""
    upstream.answers(ILL)
    second.answers(WELL)
    line = checked(interval=NEVER_AGAIN, failures=1)
    checking.start(config(upstream.url, upstream=line))
    assert await checking.next() == ("main", False, True)

    checking.follow(config(upstream.url, upstream=line, second=second.url))
    assert await checking.next() == ("second", True, False)
    assert checking.states.checked("main").down
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("change", ["address", "health", "credential"])
async def test_a_reload_that_changes_an_upstream(
    change: str, checking: Checking, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """What was found says nothing of what is there now: it is asked at once."""
    line = checked(interval=NEVER_AGAIN, failures=1) + '\ncredential = { env = "SECRET" }'
    upstream.answers(ILL, WELL)
    second.answers(WELL)
    checking.start(config(upstream.url, upstream=line), SECRET="one")
    assert await checking.next() == ("main", False, True)

    checking.follow(
        config(
            second.url if change == "address" else upstream.url,
            upstream=line.replace("/models", "/health") if change == "health" else line,
        ),
        SECRET="two" if change == "credential" else "one",
    )
    assert not checking.states.checked("main").down
    assert await checking.next() == ("main", True, False)


async def test_a_reload_without_checks(checking: Checking, upstream: ScriptedUpstream) -> None:
    """An upstream that nobody asks any more is not down for good, not even by the answer to a check
    that was under way."""
    upstream.answers(ILL, [Hang])
    checking.start(config(upstream.url, upstream=checked(failures=1)))
    await checking.until_down()
    await upstream.until_requests(2)

    checking.follow(config(upstream.url))
    await upstream.until_open(0)
    assert not checking.states.checked("main").down
    assert checking.told.empty()

    upstream.answers(WELL)
    checking.follow(config(upstream.url, upstream=checked(interval=NEVER_AGAIN)))
    assert await checking.next() == ("main", True, False)
    assert len(upstream.requests) == 3


async def test_a_stop(checking: Checking, upstream: ScriptedUpstream) -> None:
    """In the middle of checks, also of one that a reload has ended a moment before."""
    before = asyncio.all_tasks()
    upstream.answers([Hang])
    checking.start(config(upstream.url, upstream=checked()))
    await upstream.until_requests(1)
    checking.follow(config(upstream.url, upstream=checked("/health")))
    await upstream.until_requests(2)
    checking.follow(config(upstream.url))
    await checking.checks.stop()

    assert {task for task in asyncio.all_tasks() - before if task.get_name() == "health"} == set()
    await upstream.until_open(0)
    assert checking.told.empty()
    await checking.checks.stop()


def test_checks_are_spread() -> None:
    """A fleet does not ask in step."""
    pauses = {health._pause(10.0) for _ in range(50)}

    assert len(pauses) > 1
    assert all(9.0 <= pause <= 11.0 for pause in pauses)
