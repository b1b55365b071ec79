"""Whether a client was told of a fault what it had to be told, as the table has it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.core.errors import ErrorCode
from gateway.dialects import DIALECTS
from gateway.observe.exchange import COMPLETE
from tests.e2e.running import Answered
from tests.e2e.speaking import ASK
from tests.faults.fault import CANARY, CLOCKS, Fault
from tests.faults.wellformed import is_error, is_stream, told

STATUSES: dict[ErrorCode, int] = {
    ErrorCode.UPSTREAM_REJECTED: 400,
    ErrorCode.UPSTREAM_REFUSED: 502,
    ErrorCode.UPSTREAM_RATE_LIMITED: 429,
    ErrorCode.UPSTREAM_FAILED: 502,
    ErrorCode.UPSTREAM_MALFORMED: 502,
    ErrorCode.UPSTREAM_OVERSIZED: 502,
    ErrorCode.UPSTREAM_TRUNCATED: 502,
    ErrorCode.UPSTREAM_UNREACHABLE: 503,
    ErrorCode.CONNECT_TIMEOUT: 504,
    ErrorCode.FIRST_EVENT_TIMEOUT: 504,
    ErrorCode.IDLE_TIMEOUT: 504,
    ErrorCode.TOTAL_TIMEOUT: 504,
}
"""What every dialect answers."""

_NO_CREDITS: dict[str, int] = {
    "bookbag-v1": 503,
    "bookbag-v2": 503,
    "chatbase": 402,
    "agentsgt": 402,
    "openai": 429,
    "sonzai": 402,
}
"""Where they differ: to UPSTREAM_CREDITS."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, and how it wants its answer: as a `stream`, or `whole`."""

    dialect: str
    way: str

    def __str__(self) -> str:
        return f"{self.dialect} {self.way}"


CLIENTS = [
    Client(name, way)
    for name in ASK
    for way in ("stream", "whole")
    if way == "stream" or DIALECTS[name].reply is not None
]


def seconds(fault: Fault) -> float:
    """After which its clock runs out; 0.0 if none does."""
    return CLOCKS[fault.clock][1] if fault.clock else 0.0


def faulted(fault: Fault, client: Client, came: Answered, code: str, took: float) -> Iterator[str]:
    """What is wrong with the answer to a client; `code` is what the gateway's log says of it, and
    it took so many seconds."""
    if code not in (fault.fails or COMPLETE, fault.or_fails):
        yield f"the log says {code}"
    if "timeout" in code and took < 0.9 * seconds(fault):
        yield "before its time"
    if CANARY in f"{came.headers}{came.body!r}":
        yield "it shows what is the upstream's own"
    if came.headers.get("retry-after") != fault.retry_after:
        yield f"Retry-After is {came.headers.get('retry-after')}"
    whole = client.way == "whole"
    try:
        if fault.fails is not None and (whole or not fault.text):
            yield from _no_error(client.dialect, came, ErrorCode(code))
        else:
            yield from _no_answer(fault, client, came)
    except (AssertionError, ValueError, LookupError) as exc:
        yield f"it cannot be read: {exc!r}"


def _no_error(dialect: str, came: Answered, code: ErrorCode) -> Iterator[str]:
    """What is wrong with a status and its body."""
    status = STATUSES[code] if code in STATUSES else _NO_CREDITS[dialect]
    if came.status != status:
        yield f"its status is {came.status}"
    elif not is_error(dialect, came, code):
        yield f"its error is not the dialect's: {came.body!r}"


def _no_answer(fault: Fault, client: Client, came: Answered) -> Iterator[str]:
    """What is wrong with a stream, or a whole answer."""
    if came.status != 200:
        yield f"its status is {came.status}"
        return
    text, well = told(client.dialect, came.body)
    if well is not (fault.fails is None):
        yield f"it ended {'well' if well else 'badly'}"
    if not re.fullmatch(fault.text, text):
        yield f"it says {text!r}"
    kind = "text/event-stream" if client.way == "stream" else "application/json"
    if not came.headers["content-type"].startswith(kind):
        yield f"it is {came.headers['content-type']}"
    if client.way == "stream" and not is_stream(client.dialect, came.body, complete=well):
        yield f"its frames are not the dialect's: {came.body!r}"
