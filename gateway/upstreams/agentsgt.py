"""AgentsGT's agents: the whole conversation with every request, and an answer in one of the AI
SDK's three forms of a stream.

Which one the vendor's pages do not say, so the first words of the body tell. Source: the vendor's
page of `POST /agents/chat/{agent}`.
"""

import re
from collections.abc import Callable
from urllib.parse import quote

from gateway.core.codec import HEADER_VALUE, Decoder, Target, UpstreamKind, UpstreamRequest
from gateway.core.errors import ErrorCode
from gateway.core.events import Event, Extension, Finish, FinishReason, Json, TextDelta
from gateway.core.turn import Prompt
from gateway.upstreams import data_stream, folding, hosted, stream
from gateway.upstreams.refusals import failed, failure, refusal
from gateway.upstreams.text_stream import TextDecoder
from gateway.upstreams.ui_stream import UIStreamReader
from gateway.wire import json

# What `hosted.metadata` reads, under these names or in the frame that holds them.
_READ = frozenset(
    {"conversationId", "finishReason", "messageId", "totalUsage", "usage", "userId"}
    | {"userMessageId"}
)


def _metadata(said: dict[str, Json]) -> list[Event]:
    """What is known by its name, and the application's own beside it."""
    events = hosted.metadata({"usage": said.get("totalUsage"), **said})
    own = json.mapping(said.get("messageMetadata"))
    rest: Json = {key: value for key, value in own.items() if key not in _READ}
    if rest:
        events.append(Extension("ai-sdk", "message-metadata", {"messageMetadata": rest}))
    return events


def _document(body: Json) -> list[Event]:
    """An error, or the answer of the sibling endpoint that does not stream."""
    answer = json.mapping(body)
    if answer.get("error"):
        return [failure(answer)]
    if text := json.text(answer.get("response")):
        return [TextDelta(text), Finish(FinishReason.OTHER)]
    return [failed(ErrorCode.UPSTREAM_MALFORMED)]


def _reader() -> UIStreamReader:
    return UIStreamReader(metadata=_metadata, document=_document)


_Form = Callable[[Target], Decoder]

_events: _Form = stream.decoder(_reader)
_lines: _Form = data_stream.decoder(_reader)

# Servers and proxies answer documents where a stream was asked for: they are no text to pass on.
_DOCUMENTS = (b'{"error":', b'{"success":', b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML")
_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
_FORMS: dict[bytes, _Form] = {
    **dict.fromkeys(_FIELDS + _DOCUMENTS, _events),
    **{f"{c}:{opening}".encode(): _lines for c, opening in data_stream.OPENINGS.items()},
}

_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*")


def _text(_target: Target) -> Decoder:
    return TextDecoder()


def _form(head: bytes) -> _Form | None:
    """What begins so; None as long as it may be several. No first letter waits for a second one
    longer than it must."""
    for opening, form in _FORMS.items():
        if head.startswith(opening):
            return form
    undecided = any(opening.startswith(head) for opening in (*_FORMS, _BOM))
    return None if undecided else _text


class AgentsGTDecoder:
    """Looks at the first words, and leaves the rest to the decoder of their form. Blanks before
    them say nothing."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._head = b""
        self._decoder: Decoder | None = None

    def feed(self, data: bytes) -> list[Event]:
        if self._decoder is not None:
            return self._decoder.feed(data)
        self._head += data
        blank = _BLANK.match(self._head)
        self._head = self._head[blank.end() if blank else 0 :]
        if (form := _form(self._head)) is None:
            return []
        return self._begin(form)

    def eof(self) -> list[Event]:
        if self._decoder is not None:
            return self._decoder.eof()
        # A text may be as short as "3", or nothing at all, which is none.
        events = self._begin(_text)
        return events + self.eof()

    def lost(self) -> list[Event]:
        # What may be the beginning of a frame, and broke off, is no text to show.
        self._decoder = self._decoder or _text(self._target)
        return self._decoder.lost()

    def _begin(self, form: _Form) -> list[Event]:
        self._decoder = form(self._target)
        return self._decoder.feed(self._head)


# What the gateway itself says: a target's params cannot say it instead.
_OWN = "messages"


def _request(target: Target, prompt: Prompt) -> UpstreamRequest:
    body = {name: value for name, value in target.params.items() if name != _OWN}
    said = folding.plain(prompt.messages)
    user = prompt.user_id or json.identifier(prompt.params.get("user"))
    body[_OWN] = [{"role": role.value, "content": text} for role, text in said]
    return UpstreamRequest(
        f"/api/v1/agents/chat/{quote(target.agent or '', safe='')}",
        json.dumps(body),
        headers={"X-Agent-Identifier": _in_header(user)} if user else {},
    )


def _in_header(user_id: str) -> str:
    """As it stands; what no header can hold, with percent signs."""
    return user_id if HEADER_VALUE.fullmatch(user_id) else quote(user_id, errors="replace")


AGENTSGT = UpstreamKind(
    name="agentsgt",
    family="agentsgt",
    decoder=AgentsGTDecoder,
    request=_request,
    error=refusal,
)
