"""The client: so many connections, each of which asks again as soon as it has been answered."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import cast

import httptools
import uvloop

from tests.bench.mock import tokens

_TOKEN = re.compile(rb"~[0-9]{3,}")
_FINISH = re.compile(rb'"finish_?[rR]eason":"stop"')  # OpenAI's spelling, and Bookbag's
_DONE = b"data: [DONE]\n\n"

# Beyond what a run should take, before it is given up.
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask, how often. Times in seconds."""

    port: int
    path: str
    body: bytes
    key: str
    stream: bool
    tokens: int
    connections: int
    seconds: float
    """No request begins later than this; each connection makes one in any case."""
    ramp: float
    """Over which the connections are opened."""
    hold: float = 0.0
    """How long they stay open after the last answer."""

    @property
    def request(self) -> bytes:
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    """Seconds from each request to its first token."""
    cpu: float = 0.0
    """Seconds that the client itself was busy."""
    took: float = 0.0
    """Seconds."""

    @property
    def lost(self) -> int:
        """Requests without an answer, or with a wrong one."""
        return len(self.wrong)


def fault(job: Job, status: int, body: bytes) -> str | None:
    """What is wrong with an answer; None if it is right."""
    found = _TOKEN.findall(body)
    if status != 200:
        return f"status {status}: {body[:200]!r}"
    if b"".join(found).decode() != "".join(tokens(job.tokens)):
        return f"{len(found)} tokens instead of {job.tokens}, or in another order"
    if not _FINISH.search(body):
        return "no finish reason"
    if not body.endswith(_DONE if job.stream else b"}"):
        return f"it ends with {body[-40:]!r}"
    return None


class Caller(asyncio.Protocol):
    """One connection. httptools calls the `on_` methods. `done` is set after the last answer."""

    _transport: asyncio.Transport

    def __init__(self, job: Job, outcome: Outcome, deadline: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._job, self._outcome, self._deadline = job, outcome, deadline
        self._request = job.request
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._waiting = self._complete = False
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._end(f"not HTTP: {exc}")
        if self._complete:
            self._judge()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._end("the connection was closed before the answer was complete")

    def on_body(self, data: bytes) -> None:
        self._body += data
        if self._waiting and b"~" in data:
            self._waiting = False
            self._outcome.first_tokens.append(time.perf_counter() - self._asked)

    def on_message_complete(self) -> None:
        self._complete = True

    def _ask(self) -> None:
        self._body.clear()
        self._waiting, self._complete = True, False
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def _judge(self) -> None:
        wrong = fault(self._job, self._parser.get_status_code(), bytes(self._body))
        self._outcome.answers += 1
        if wrong or time.perf_counter() >= self._deadline:
            self._end(wrong)
        else:
            self._ask()

    def _end(self, wrong: str | None) -> None:
        if self.done.done():
            return
        if wrong:
            self._outcome.wrong.append(wrong)
        self.done.set_result(None)
        if wrong or not self._job.hold:
            self._transport.close()

    def hang_up(self) -> None:
        self._transport.close()


def run(job: Job) -> Outcome:
    """Do the job, on a loop of its own."""
    began, busy = time.perf_counter(), time.process_time()
    outcome = uvloop.run(_run(job))
    outcome.took, outcome.cpu = time.perf_counter() - began, time.process_time() - busy
    return outcome


async def _run(job: Job) -> Outcome:
    outcome = Outcome()
    try:
        async with asyncio.timeout(job.seconds + job.ramp + _PATIENCE):
            callers = await _open(job, outcome)
            await asyncio.gather(*(caller.done for caller in callers))
        await asyncio.sleep(job.hold)
        for caller in callers:
            caller.hang_up()
    except (TimeoutError, OSError) as exc:
        outcome.wrong.append(f"given up: {exc!r}")
    return outcome


async def _open(job: Job, outcome: Outcome) -> list[Caller]:
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    callers: list[Caller] = []
    for number in range(job.connections):
        early = start + job.ramp * number / job.connections - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
        _, caller = await loop.create_connection(
            lambda: Caller(job, outcome, start + job.seconds), "127.0.0.1", job.port
        )
        callers.append(caller)
    return callers
