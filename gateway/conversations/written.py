"""Records as JSON: how databases keep what has no columns of its own, and memory whole messages.

Keys are short, for there is one object for every part of every message. What a newer gateway has
written and this one does not know is left out.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from gateway.core.conversation import Feedback, Part, Role, StoredMessage
from gateway.core.events import (
    Citation,
    Citations,
    FinishReason,
    Json,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.wire import json

_USER, _ASSISTANT = Role.USER, Role.ASSISTANT

# An enumeration that is called takes ten times as long.
_FINISHES = {str(reason): reason for reason in FinishReason}


def write_parts(parts: Iterable[Part]) -> str:
    """A message's parts."""
    return _dumps([_WRITERS[type(part)](part) for part in parts])


def read_parts(text: str) -> tuple[Part, ...]:
    """The parts that `write_parts` wrote."""
    written = json.array(json.loads_own(text))
    return tuple([part for each in written if (part := _read(json.mapping(each)))])


def write_about(message: StoredMessage) -> str | None:
    """What an assistant's message has beside its parts; None for a user's."""
    if message.role is _USER:
        return None
    known: dict[str, Json] = {
        "finish": message.finish,
        "usage": _write_usage(message.usage),
        "model": message.model,
        "upstream": message.upstream,
        "conversation": message.upstream_conversation,
        "message": message.upstream_message,
    }
    return _dumps({name: value for name, value in known.items() if value is not None})


def read_message(
    position: int,
    number: int,
    role: str,
    created: int,
    parts: str,
    about: str | None,
    feedback: str | None,
) -> StoredMessage:
    """A message from its columns."""
    known = json.mapping(json.loads_own(about)) if about else {}
    reason = known.get("finish")
    return StoredMessage(
        id=number,
        position=position,
        role=Role(role),
        parts=read_parts(parts),
        created=created,
        finish=FinishReason(reason) if isinstance(reason, str) else None,
        usage=_read_usage(known.get("usage")),
        model=_text(known.get("model")),
        upstream=_text(known.get("upstream")),
        upstream_conversation=_text(known.get("conversation")),
        upstream_message=_text(known.get("message")),
        feedback=Feedback(feedback) if feedback else None,
    )


def write_whole(message: StoredMessage) -> bytes:
    """A message without columns, for `read_whole`: its id first, and last what only an assistant's
    has."""
    parts: list[Json]
    if len(message.parts) == 1 and type(part := message.parts[0]) is TextDelta:  # as nearly all
        parts = [{"text": part.text}]
    else:
        parts = [_WRITERS[type(part)](part) for part in message.parts]
    known: list[Json] = [message.id, message.position, message.created, parts]
    if message.role is not _USER:
        known += (
            message.finish,
            _write_usage(message.usage),
            message.model,
            message.upstream,
            message.upstream_conversation,
            message.upstream_message,
            message.feedback,
        )
    # A copy, for what orjson makes keeps all the room that it was made in.
    return json.dumps(known) + b"\n"


def read_whole(written: Iterable[bytes]) -> tuple[StoredMessage, ...]:
    """The messages that `write_whole` wrote."""
    messages = json.loads_own(b"[%b]" % b",".join(written))
    return tuple([_whole(*each) for each in cast("list[list[Any]]", messages)])


def _whole(
    number: int, position: int, created: int, parts: list[dict[str, Json]], *about: Any
) -> StoredMessage:
    said: tuple[Part, ...]
    if len(parts) == 1 and "text" in parts[0]:
        said = (TextDelta(cast("str", parts[0]["text"])),)
    else:
        said = tuple([part for each in parts if (part := _read(each))])
    if not about:
        return StoredMessage(number, position, _USER, said, created)
    finish, usage, *names, feedback = about
    model, upstream, upstream_conversation, upstream_message = names
    return StoredMessage(
        number,
        position,
        _ASSISTANT,
        said,
        created,
        _FINISHES.get(finish),
        Usage(*usage) if usage else None,
        model,
        upstream,
        upstream_conversation,
        upstream_message,
        Feedback(feedback) if feedback else None,
    )


def is_whole(written: bytes, number: int) -> bool:
    """Whether it is the message with this id, without reading it."""
    return written.startswith(b"[%d," % number)


def write_ids(ids: Mapping[str, str]) -> str:
    """What upstreams call a conversation."""
    return _dumps(dict(ids)) if ids else "{}"


def read_ids(text: str) -> dict[str, str]:
    if text == "{}":  # as nearly all
        return {}
    return {name: json.text(known) for name, known in json.mapping(json.loads_own(text)).items()}


def _write_usage(usage: Usage | None) -> Json:
    return [usage.input_tokens, usage.output_tokens, usage.credits] if usage else None


def _read_usage(known: Json) -> Usage | None:
    if known is None:
        return None
    asked, said, paid = json.array(known)
    return Usage(json.count(asked), json.count(said), json.amount(paid))


def _text(known: Json) -> str | None:
    return known if isinstance(known, str) else None


def _call(part: ToolCall) -> Json:
    known: dict[str, Json] = {"call": part.call_id, "name": part.name, "input": part.arguments}
    if part.echo is not None:
        known["echo"] = part.echo
    if part.said_id is not None:
        known["said"] = part.said_id
    return known


def _read_call(known: dict[str, Json]) -> ToolCall:
    return ToolCall(
        json.text(known["call"]),
        json.text(known.get("name")),
        known.get("input"),
        known.get("echo"),
        _text(known.get("said")),
    )


def _citations(part: Citations) -> Json:
    return {"cited": [[item.url, item.title, item.snippet] for item in part.items]}


def _read_citations(known: dict[str, Json]) -> Citations:
    items = (json.array(item) for item in json.array(known["cited"]))
    return Citations([Citation(*(_text(text) for text in item)) for item in items])


_WRITERS: dict[type, Callable[..., Json]] = {
    TextDelta: lambda part: {"text": part.text},
    ReasoningDelta: lambda part: {"thought": part.text},
    ToolCall: _call,
    ToolOutput: lambda part: {"result": part.call_id, "output": part.output},
    Citations: _citations,
}

# By the key that only this kind of part has.
_READERS: dict[str, Callable[[dict[str, Json]], Part]] = {
    "text": lambda known: TextDelta(json.text(known["text"])),
    "thought": lambda known: ReasoningDelta(json.text(known["thought"])),
    "call": _read_call,
    "result": lambda known: ToolOutput(json.text(known["result"]), known.get("output")),
    "cited": _read_citations,
}


def _read(known: dict[str, Json]) -> Part | None:
    for kind in known:  # it is the first, as it was written
        if reader := _READERS.get(kind):
            return reader(known)
    return None


def _dumps(value: Json) -> str:
    return json.dumps(value).decode()
