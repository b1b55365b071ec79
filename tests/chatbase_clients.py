"""Chatbase streams as Chatbase's own clients read them: iOS, Android, and the command line.

None of the three is published as a package. These follow what is known of their strictness, and
ignore what those ignore.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.core.events import Json
from gateway.wire import json


class Unreadable(Exception):
    """The client gives up with an error of its own."""


@dataclass(slots=True)
class Heard:
    """What a client has after a stream."""

    text: str = ""
    calls: dict[str, Json] = field(default_factory=dict)
    """Inputs by the calls' ids."""
    reason: str = ""
    metadata: dict[str, Json] = field(default_factory=dict)
    error: str = ""


def ios(body: bytes) -> Heard:
    """`start.messageId` and `finish.messageMetadata` it cannot do without; errors it ignores, so a
    stream that failed is one that had no finish."""
    heard = Heard()
    finished = False
    for said in _parsed(_lines(body)):
        kind = said["type"]
        if kind == "start" and not isinstance(said.get("messageId"), str):
            raise Unreadable("start without messageId")
        if kind == "finish":
            heard.metadata = _metadata(said)
            heard.reason = _string(heard.metadata, "finishReason")
            finished = True
        _hear(heard, said)
    if not finished:
        raise Unreadable("the stream ended early")
    return heard


def android(body: bytes) -> Heard:
    """The reason is the one on `finish` itself; an error's text is in one of three places."""
    heard = Heard()
    for said in _parsed(_lines(body)):
        if said["type"] == "finish":
            heard.reason = _string(said, "finishReason")
            heard.metadata = json.mapping(said.get("messageMetadata"))
        if said["type"] == "error":
            inside = json.text(json.mapping(said.get("error")).get("message"))
            places = (json.text(said.get("errorText")), inside, json.text(said.get("message")))
            heard.error = next(filter(None, places))
        _hear(heard, said)
    return heard


def command_line(body: bytes) -> Heard:
    """Events are what is between blank lines of LF, and only if they begin with `data: `."""
    heard = Heard()
    blocks = body.decode().split("\n\n")
    if blocks.pop():
        raise Unreadable("an event without its end")
    data = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
    if not data or data[-1] != "[DONE]":
        raise Unreadable("the stream ended early")
    for said in _parsed(data[:-1]):
        if said["type"] == "finish":
            heard.metadata = _metadata(said)
            heard.reason = _string(heard.metadata, "finishReason")
        if said["type"] == "error":
            heard.error = _string(said, "errorText")
        _hear(heard, said)
    return heard


def by_the_page(body: bytes) -> Heard:
    """A client that somebody wrote from the reference page: every event is an `event:` line and a
    `data:` line of the same type, and has the fields that the page names for it."""
    heard = Heard()
    *blocks, done, end = body.decode().split("\n\n")
    if (done, end) != ("data: [DONE]", ""):
        raise Unreadable("the stream ended early")
    for number, block in enumerate(blocks):
        event, data = block.split("\n")
        said = json.mapping(json.loads(data.removeprefix("data: ").encode()))
        if event != f"event: {said['type']}" or not data.startswith("data: "):
            raise Unreadable(block)
        if (said["type"] == "message-start") != (number == 0) and said["type"] != "error":
            raise Unreadable("a message that does not begin")
        if said["type"] == "message-metadata":
            heard.metadata = {name: said[name] for name in said if name != "type"}
        if said["type"] == "error":
            heard.error = _string(said, "errorText")
        _hear(heard, said)
    return heard


CLIENTS: dict[str, Callable[[bytes], Heard]] = {
    "ios": ios,
    "android": android,
    "command line": command_line,
}


def _lines(body: bytes) -> list[str]:
    """The data of each line that has some, up to `[DONE]`."""
    lines = body.decode().splitlines()
    data = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    return data[: data.index("[DONE]")] if "[DONE]" in data else data


def _parsed(data: list[str]) -> list[dict[str, Json]]:
    return [json.mapping(json.loads(text.encode())) for text in data]


def _hear(heard: Heard, said: dict[str, Json]) -> None:
    if said["type"] == "text-delta":
        heard.text += _string(said, "delta")
    if said["type"] == "tool-input-available":
        _string(said, "toolName")
        heard.calls[_string(said, "toolCallId")] = said["input"]


def _metadata(said: dict[str, Json]) -> dict[str, Json]:
    metadata = said.get("messageMetadata")
    if not isinstance(metadata, dict):
        raise Unreadable("finish without messageMetadata")
    return metadata


def _string(said: dict[str, Json], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str):
        raise Unreadable(f"{name} is no string")
    return value
