"""The AI SDK's older "data stream", version 1: lines of a one-letter code and JSON.

Source: `@ai-sdk/ui-utils` of `ai` 4.3. Its lines say what the chunks of today's stream say, in
other words: they are read as those chunks.
"""

from collections.abc import Callable, Iterator

from gateway.core.codec import Target
from gateway.core.events import Event, Json
from gateway.upstreams.stencil import Stencil
from gateway.upstreams.stream import StreamDecoder
from gateway.upstreams.ui_stream import UIStreamReader
from gateway.wire import json
from gateway.wire.sse import DEFAULT_MAX_EVENT, Frame

# What each line's JSON begins with: that tells such a stream from a text that begins with "3:".
OPENINGS: dict[str, str] = {
    **dict.fromkeys("03g", '"'),
    **dict.fromkeys("28", "["),
    **dict.fromkeys("9abcdefhijk", "{"),
}


class Lines:
    """Bytes to frames: a line's code is the frame's name, `""` for a line that has none. It is
    linear in its input, however that is cut, and holds at most one line."""

    between = False

    def __init__(self, *, max_event: int = DEFAULT_MAX_EVENT) -> None:
        self.oversized = False
        """A line was longer than `max_event` bytes: it is lost, and so is all that follows."""
        self._max_event = max_event
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        if self.oversized:
            return []
        # No JSON holds a CR as it stands, so each may end a line.
        first, *rest = data.replace(b"\r", b"\n").split(b"\n")
        self._pending += first
        lines: list[bytes] = []
        if rest:
            lines, self._pending = [bytes(self._pending), *rest[:-1]], bytearray(rest[-1])
        frames = list(self._frames(lines))
        self.oversized |= len(self._pending) > self._max_event
        return frames

    def eof(self) -> list[Frame]:
        """The last line need not have its end."""
        last, self._pending = bytes(self._pending), bytearray()
        return list(self._frames([last]))

    def _frames(self, lines: list[bytes]) -> Iterator[Frame]:
        for line in lines:
            self.oversized = self.oversized or len(line) > self._max_event
            if self.oversized:
                return
            if line[1:2] == b":" and line[:1].isalnum():
                yield line[:1].decode(), line[2:]
            elif line.strip():
                yield "", line


Chunk = dict[str, Json]


class DataStreamReader:
    """What one line means, by way of the reader of today's chunks."""

    stencil: Stencil | None = None

    def __init__(self, chunks: UIStreamReader) -> None:
        self._chunks = chunks

    def frame(self, name: str, data: bytes) -> list[Event]:
        if not name:
            raise json.InvalidJson
        said, read = json.loads(data), _CODES.get(name)
        chunks: list[Chunk] = read(said) if read else [{"type": f"data-{name}", "data": said}]
        events: list[Event] = []
        for chunk in chunks:
            events += self._chunks.chunk(json.text(chunk["type"]), chunk)
        return events

    def document(self, body: Json) -> list[Event]:
        return self._chunks.document(body)

    def end(self) -> list[Event]:
        return self._chunks.end()


def _called(kind: str, said: Json, **named: str) -> list[Chunk]:
    """A chunk about a tool's call; `named` are its fields that have other names in the line."""
    known = json.mapping(said)
    chunk: Chunk = {key: known[key] for key in ("toolCallId", "toolName") if key in known}
    chunk |= {key: known[old] for key, old in named.items() if old in known}
    return [{"type": kind, **chunk}]


def _started(said: Json) -> list[Chunk]:
    name: Chunk = {"messageId": json.mapping(said).get("messageId")}
    return [{"type": "start", **name}, {"type": "start-step"}]


def _finished(said: Json) -> list[Chunk]:
    known = json.mapping(said)
    figures = json.mapping(known.get("usage"))
    usage: Json = {
        "inputTokens": figures.get("promptTokens"),
        "outputTokens": figures.get("completionTokens"),
    }
    reason: Chunk = {"finishReason": known.get("finishReason")}
    return [{"type": "finish", **reason, "messageMetadata": {"usage": usage}}]


def _file(said: Json) -> list[Chunk]:
    known = json.mapping(said)
    media = json.text(known.get("mimeType"))
    url = f"data:{media};base64,{json.text(known.get('data'))}"
    return [{"type": "file", "mediaType": media, "url": url}]


_CODES: dict[str, Callable[[Json], list[Chunk]]] = {
    "0": lambda said: [{"type": "text-delta", "delta": said}],
    "2": lambda said: [{"type": "data-part", "data": part} for part in json.array(said)],
    "3": lambda said: [{"type": "error", "errorText": said}],
    "8": lambda said: [{"type": "message-metadata", "messageMetadata": {"annotations": said}}],
    "9": lambda said: _called("tool-input-available", said, input="args"),
    "a": lambda said: _called("tool-output-available", said, output="result"),
    "b": lambda said: _called("tool-input-start", said),
    "c": lambda said: _called("tool-input-delta", said, inputTextDelta="argsTextDelta"),
    "d": _finished,
    "e": lambda _: [{"type": "finish-step"}],
    "f": _started,
    "g": lambda said: [{"type": "reasoning-delta", "delta": said}],
    "h": lambda said: [{**json.mapping(said), "type": "source-url"}],
    "i": lambda _: [],  # reasoning that only the model can read, and its signature
    "j": lambda _: [],
    "k": _file,
}


def decoder(chunks: Callable[[], UIStreamReader]) -> Callable[[Target], StreamDecoder]:
    """What makes a turn's decoder, given what makes the reader of today's chunks."""

    def decode(target: Target) -> StreamDecoder:
        reader = DataStreamReader(chunks())
        return StreamDecoder(reader, framing=Lines(max_event=target.max_event))

    return decode
