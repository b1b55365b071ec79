"""Bookbag's agents, through its API v1 (named events, streams only) and v2 (typed frames).

The v1 page names the events and not their fields: they are read liberally.
"""

import re
from collections.abc import Callable
from typing import ClassVar

from msgspec.structs import replace

from gateway.core.codec import Target, UpstreamKind, UpstreamRequest
from gateway.core.errors import ErrorCode
from gateway.core.events import Event, Finish, FinishReason, Json, TextDelta
from gateway.core.turn import Prompt
from gateway.upstreams import folding, hosted
from gateway.upstreams.refusals import failed, failure, failure_of, refusal
from gateway.upstreams.sources import Sources
from gateway.upstreams.stencil import Stencil
from gateway.upstreams.stream import decoder, fields
from gateway.wire import json

_VENDOR = "bookbag"

# Where v1 may keep the text of a token.
_TEXT_KEYS = ("text", "token", "delta", "content")

# Below 2^53, which is 16 digits.
_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)


class BookbagV1Reader:
    """Frames `token`, `citations`, `done` and `error`."""

    stencil: Stencil | None = None

    def __init__(self) -> None:
        self._sources = Sources()

    def frame(self, name: str, data: bytes) -> list[Event]:
        if data == b"[DONE]":
            return [Finish(FinishReason.OTHER)]
        if name == "error":
            return [failure_of(data)]
        said = json.loads(data)
        if name == "message":
            name = json.text(json.mapping(said).get("type")) or name
        if read := self._readers.get(name):
            return read(self, said)
        return [hosted.extension(_VENDOR, name, json.mapping(said))]

    def document(self, body: Json) -> list[Event]:
        error = json.mapping(body).get("error")
        return [failure(body) if error else failed(ErrorCode.UPSTREAM_MALFORMED)]

    def end(self) -> list[Event]:
        return []

    def _token(self, said: Json) -> list[Event]:
        known = json.mapping(said)
        texts = (json.text(known.get(key)) for key in _TEXT_KEYS)
        text = said if isinstance(said, str) else next(filter(None, texts), "")
        return [TextDelta(text)] if text else []

    def _citations(self, said: Json) -> list[Event]:
        return self._sources.read(json.mapping(said).get("citations", said))

    def _done(self, said: Json) -> list[Event]:
        known = json.mapping(said)
        return [*hosted.metadata(known), hosted.finish(hosted.finish_reason(known))]

    def _error(self, said: Json) -> list[Event]:
        return [failure(said)]

    _readers: ClassVar[dict[str, Callable[["BookbagV1Reader", Json], list[Event]]]] = {
        "token": _token,
        "citations": _citations,
        "done": _done,
        "error": _error,
    }


class BookbagV2Reader:
    """Frames in the shape of message parts, then `finish` or `error`, then `[DONE]`."""

    stencil: Stencil | None = None

    def __init__(self) -> None:
        self._parts = hosted.Parts(_VENDOR)

    def frame(self, name: str, data: bytes) -> list[Event]:
        if data == b"[DONE]":
            return [Finish(FinishReason.OTHER)]
        if name == "error":
            return [failure_of(data)]
        said = fields(data)
        kind = json.text(said.get("type"))
        if kind == "error" or (said.get("error") and not kind):
            return [failure(said)]
        if kind != "finish":
            return self._parts.read(said)
        known = hosted.metadata(json.mapping(said.get("metadata")))
        return [*known, hosted.finish(hosted.finish_reason(said))]

    def document(self, body: Json) -> list[Event]:
        return hosted.answer(body, self._parts)

    def end(self) -> list[Event]:
        return []


def _request_v1(target: Target, prompt: Prompt) -> UpstreamRequest:
    prompt, message = _in_words(prompt)
    body: dict[str, Json] = {
        **target.params,
        "agentId": _number(target.agent),
        "message": message,
    }
    if prompt.conversation_id is not None:
        body["conversationId"] = _number(prompt.conversation_id)
    if model := prompt.model or target.model:
        body["model"] = model
    return UpstreamRequest("/api/v1/chat", json.dumps(body))


def _in_words(prompt: Prompt) -> tuple[Prompt, str]:
    """v1 can neither answer anew nor go on without a message: what asks for that opens another
    conversation, with all that was said."""
    message = folding.message(prompt) if prompt.retry_of is None else None
    if message is None:
        prompt = replace(prompt, conversation_id=None)
        message = folding.message(prompt)
    return prompt, message or ""


def _request_v2(target: Target, prompt: Prompt) -> UpstreamRequest:
    return hosted.chat(target, prompt, _number(prompt.conversation_id))


def _number(written: str | None) -> Json:
    """An id as requests want it: an integer, unless it is something else."""
    return int(written) if written and _NUMBER.fullmatch(written) else written


BOOKBAG_V1 = UpstreamKind(
    name="bookbag-v1",
    family="bookbag",
    decoder=decoder(BookbagV1Reader),
    stateful=True,
    request=_request_v1,
    error=refusal,
)

BOOKBAG_V2 = UpstreamKind(
    name="bookbag-v2",
    family="bookbag",
    decoder=decoder(BookbagV2Reader),
    stateful=True,
    request=_request_v2,
    result=hosted.result,
    passage=hosted.passage,
    error=refusal,
)
