"""Whether what a client was told is well-formed in its dialect, and how it ended."""

import re

from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Failure, Finish, Json
from gateway.dialects import DIALECTS
from gateway.wire import json
from gateway.wire.sse import Parser
from tests.e2e.running import Answered
from tests.e2e.speaking import parted, read, texts

DONE = "[DONE]"


def kind_of(name: str, data: Json) -> str:
    """What a frame is called where its type is said, and what it says where that is not."""
    if data == DONE:
        return DONE
    known = json.mapping(data)
    if "type" in known:
        return json.text(known["type"])
    if name != "message":
        return name
    choice = json.mapping(next(iter(json.array(known.get("choices"))), None))
    keys = (*json.mapping(choice.get("delta")), *choice, *known)
    words = ("role", "content", "reasoning_content", "finish_reason", "error", "usage")
    return next(word for word in words if word in keys)


def kinds(body: bytes) -> tuple[str, ...]:
    """What the frames of a stream are called."""
    parser = Parser()
    frames = parser.feed(body)
    assert not parser.eof(), "a stream ends with a blank line"
    return tuple(
        kind_of(name, DONE if data == DONE.encode() else json.loads(data)) for name, data in frames
    )


# What a stream of text may consist of, by the kinds of its frames: complete, and failed.

_TEXT = "(text-start (text-delta )+text-end )*"
_STEPS = f"start (start-step {_TEXT}finish-step )*"

_STREAMS: dict[str, tuple[str, str]] = {
    "bookbag-v1": ("(token )*done ", "(token )*error "),
    "bookbag-v2": (r"(text-delta )*finish \[DONE\] ", r"(text-delta )*error \[DONE\] "),
    "chatbase": (
        rf"start (start-step |finish-step |{_TEXT})*finish \[DONE\] ",
        rf"start (start-step |finish-step |{_TEXT})*error \[DONE\] ",
    ),
    "agentsgt": (
        rf"{_STEPS}finish \[DONE\] ",
        rf"{_STEPS}(start-step {_TEXT})?error \[DONE\] ",
    ),
    "openai": (
        r"role (content )*finish_reason (usage )?\[DONE\] ",
        r"role (content )*error \[DONE\] ",
    ),
    "sonzai": (
        r"(context_ready )?(content )*finish_reason \[DONE\] ",
        r"(context_ready )?(content )*error \[DONE\] ",
    ),
}


def told(dialect: str, body: bytes) -> tuple[str, bool]:
    """The text of an answer, streamed or whole, and whether it ended well."""
    said, last = parted(read(dialect, body))
    assert isinstance(last, (Finish, Failure))
    return "".join(texts(said)), isinstance(last, Finish)


def is_stream(dialect: str, body: bytes, *, complete: bool) -> bool:
    """Whether the frames stand in an order that the dialect knows."""
    order = "".join(f"{kind} " for kind in kinds(body))
    return re.fullmatch(_STREAMS[dialect][0 if complete else 1], order) is not None


def is_error(dialect: str, answer: Answered, code: ErrorCode) -> bool:
    """Whether it is this error in the dialect's own words."""
    wait = answer.headers.get("retry-after")
    error = GatewayError(code, _message(dialect, answer), retry_after=float(wait) if wait else None)
    wanted = DIALECTS[dialect].error(error)
    kind = answer.headers["content-type"].split(";")[0]
    return (answer.body, kind) == (wanted.body, wanted.content_type)


def _message(dialect: str, answer: Answered) -> str:
    """What it says was wrong: there are words in every one."""
    if dialect == "agentsgt":
        return "its clients are told a status and no more"
    message = answer.json["detail"] if dialect == "sonzai" else answer.error["message"]
    assert isinstance(message, str)
    assert message
    return message
