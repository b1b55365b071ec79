"""What a fault is, and the pieces that faults are made of."""

from dataclasses import dataclass
from typing import TypedDict, Unpack

from gateway.core.errors import ErrorCode
from gateway.core.events import Json
from tests.e2e.scripted import END, Script, Step, chunk, delta, event, finish, head

CANARY = "canary-7f3a"
"""In what an upstream says to the gateway alone."""

CLOCKS: dict[str, tuple[str, float]] = {
    "connect": ('connect = "100ms"', 0.1),
    "head": ('first_event = "2s"', 2.0),
    "first": ('first_event = "100ms"', 0.1),
    "idle": ('idle = "100ms"', 0.1),
    "total": ('total = "2s"', 2.0),
}
"""The one that is short, for those faults that it ends: all others run longer than a test may. What
has to come before it runs out gets two seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What an upstream does, and what becomes of a turn with it."""

    script: Script
    text: str = ""
    """What a client hears before the end, as a pattern; with none, there is a status."""
    fails: ErrorCode | None = None
    """None: the turn is complete."""
    or_fails: ErrorCode | None = None
    """What it may be called as well: which of two things comes first is the network's doing."""
    retry_after: str | None = None
    kind: str = "openai"
    """Of the upstream."""
    clock: str = ""
    """The one that runs out."""
    at: str = ""
    """Where the upstream is said to be, if not where it is."""
    greeting: Script = ()
    """What it does before it is asked."""


class _More(TypedDict, total=False):
    """The rest of a fault."""

    or_fails: ErrorCode
    retry_after: str
    kind: str
    clock: str
    at: str
    greeting: Script


def complete(*script: Step, text: str = "Hello", **more: Unpack[_More]) -> Fault:
    """Whatever it was, the client has its answer."""
    return Fault(script=script, text=text, **more)


def refused(code: ErrorCode, *script: Step, **more: Unpack[_More]) -> Fault:
    """Nothing was said: there is a status."""
    return Fault(script=script, fails=code, **more)


def broken(code: ErrorCode, *script: Step, text: str = "Hello", **more: Unpack[_More]) -> Fault:
    """The answer began, and failed."""
    return Fault(script=script, text=text, fails=code, **more)


REJECTED = ErrorCode.UPSTREAM_REJECTED
REFUSED = ErrorCode.UPSTREAM_REFUSED
CREDITS = ErrorCode.UPSTREAM_CREDITS
LIMITED = ErrorCode.UPSTREAM_RATE_LIMITED
FAILED = ErrorCode.UPSTREAM_FAILED
MALFORMED = ErrorCode.UPSTREAM_MALFORMED
OVERSIZED = ErrorCode.UPSTREAM_OVERSIZED
TRUNCATED = ErrorCode.UPSTREAM_TRUNCATED
UNREACHABLE = ErrorCode.UPSTREAM_UNREACHABLE

HEAD = head()
TEXT = chunk(event(delta("Hello")))
FINISH = chunk(event(finish()))
DONE = chunk(b"data: [DONE]\n\n")
COMMENT = chunk(b": tick\n\n")
REST: list[Step] = [FINISH, DONE, END]
WHOLE: list[Step] = [HEAD, TEXT, *REST]
PLAIN = event(delta("Hello")) + event(finish()) + b"data: [DONE]\n\n"
"""The body of a whole answer."""

ERROR: dict[str, Json] = {"error": {"message": f"pod {CANARY} burns", "type": "server_error"}}
ANSWER: Json = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
PAGE = f"<!DOCTYPE html><html><body><h1>nginx {CANARY}</h1></body></html>".encode()


def whole(body: bytes, status: str = "200 OK", **fields: str) -> bytes:
    """An answer in one piece, as its fields say it."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def measured(body: bytes, status: str = "200 OK", **fields: str) -> bytes:
    """The same, with its length."""
    return whole(body, status, Content_Length=str(len(body)), **fields)


KINDS: dict[str, tuple[str, str, str]] = {
    "openai": ("openai", 'model = "m"', ""),
    "bookbag-v1": ("bookbag", "agent = 77", 'api = "v1"'),
    "bookbag-v2": ("bookbag", "agent = 77", ""),
    "chatbase": ("chatbase", 'agent = "5QHA"', ""),
    "sonzai": ("sonzai", 'agent = "luna"', ""),
    "agentsgt": ("agentsgt", 'agent = "luna"', ""),
}
"""What upstreams speak: the config's kind, the target's fields, and the upstream's own."""


def kind_of(form: str) -> str:
    """Of an upstream that streams in this form."""
    return next(kind for kind in KINDS if form.startswith(kind))
