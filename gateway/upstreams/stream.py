"""What every upstream's stream has in common: framing, and the promise of one terminal event.

A kind's own part is a `Reader`: what one frame means. This decoder feeds it frames, tells a JSON
answer from a stream by its first byte (content types lie), and ends every turn exactly once,
whatever the upstream does.
"""

from collections.abc import Callable
from typing import Protocol

from gateway.core.codec import Target
from gateway.core.errors import ErrorCode
from gateway.core.events import TERMINAL, Event, Json
from gateway.upstreams.refusals import failed
from gateway.upstreams.stencil import Stencil
from gateway.wire import json
from gateway.wire.sse import DEFAULT_MAX_EVENT, Frame, Parser

# A whole answer in one JSON document may be longer than an event, but not without bound.
MAX_DOCUMENT = 16 << 20

_BLANK = b"\n\n"


class Reader(Protocol):
    """What one kind of upstream says. It may raise `InvalidJson`: the frame makes no sense."""

    @property
    def stencil(self) -> Stencil | None:
        """Of the last frame, if the next may differ from it in its text alone: a text delta."""
        ...

    def frame(self, name: str, data: bytes) -> list[Event]:
        """The events of one SSE frame; a terminal one comes last, and it is asked no more."""
        ...

    def document(self, body: Json) -> list[Event]:
        """The events of a whole answer that came as JSON, ended or not."""
        ...

    def end(self) -> list[Event]:
        """The body is over: a finish that the upstream had announced, or nothing."""
        ...


class Framing(Protocol):
    """How a stream is divided: bytes to frames, the last without its end at the end of the body."""

    @property
    def oversized(self) -> bool:
        """A frame was too large: it is lost, and so is all that follows."""
        ...

    @property
    def between(self) -> bool:
        """Whether what is fed next begins a frame, and is SSE as it stands."""
        ...

    def feed(self, data: bytes) -> list[Frame]: ...

    def eof(self) -> list[Frame]: ...


class StreamDecoder:
    """Bytes of one answer to events, ended by exactly one terminal event."""

    __slots__ = (
        "_blank_lines",
        "_document",
        "_framing",
        "_max_event",
        "_over",
        "_reader",
        "_streaming",
    )

    def __init__(
        self,
        reader: Reader,
        max_event: int = DEFAULT_MAX_EVENT,
        blank_lines: bool = True,
        framing: Framing | None = None,
    ) -> None:
        """`framing` is for a stream that is none of Server-Sent Events."""
        self._reader = reader
        self._framing = framing
        self._max_event, self._blank_lines = max_event, blank_lines
        self._document: bytearray | None = None
        self._streaming = False
        """It is known to be a stream, and not over."""
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        if not self._streaming:
            if self._over:
                return []
            if self._document is None:
                data = self._sniff(data)
            if self._document is not None:
                return self._gather(self._document, data)
        framing = self._framing
        if framing is None:
            return self._begun(data)
        stencil = self._reader.stencil
        if stencil is None or not framing.between or len(data) > self._max_event:
            return self._framed(framing, data)
        events, data = stencil.events(data)
        return events + self._framed(framing, data) if data else events

    def eof(self) -> list[Event]:
        if self._over:
            return []
        if self._document is not None:
            events = self._last_document(self._document)
        else:
            framing = self._framing or self._begin()
            events = self._checked(self._read(framing.eof(), cut=True))
        if not self._over:
            events += self._end(self._reader.end() or [failed(ErrorCode.UPSTREAM_TRUNCATED)])
        return events

    def lost(self) -> list[Event]:
        return self.eof()  # a finish is the upstream's word, and not the body's end

    def _sniff(self, data: bytes) -> bytes:
        # DeepSeek sends empty lines ahead of a JSON body, for as long as the model takes.
        text = data.lstrip(b"\xef\xbb\xbf \t\r\n")
        if text[:1] in (b"{", b"[", b"<"):
            self._document = bytearray()
            return text
        self._streaming = bool(text)
        return data

    def _begun(self, data: bytes) -> list[Event]:
        """The first read. What the first frames look like may make the others cheap."""
        framing = self._begin()
        place = data.find(_BLANK, data.find(_BLANK) + len(_BLANK)) + len(_BLANK)
        events = self._framed(framing, data[:place])
        return events + self.feed(data[place:])

    def _framed(self, framing: Framing, data: bytes) -> list[Event]:
        frames = framing.feed(data)
        events = self._read(frames) if frames else []
        return self._checked(events) if framing.oversized else events

    def _begin(self) -> Framing:
        # Not before: a document needs none.
        self._framing = Parser(max_event=self._max_event, blank_lines=self._blank_lines)
        return self._framing

    def _gather(self, document: bytearray, data: bytes) -> list[Event]:
        document += data
        if len(document) > MAX_DOCUMENT:
            return self._end([failed(ErrorCode.UPSTREAM_OVERSIZED)])
        return []

    def _last_document(self, document: bytearray) -> list[Event]:
        try:
            events = self._reader.document(json.loads(document))
        except json.InvalidJson:
            return self._end([failed(ErrorCode.UPSTREAM_MALFORMED)])
        for place, event in enumerate(events, 1):
            if type(event) in TERMINAL:
                return self._end(events[:place])
        return events

    def _read(self, frames: list[Frame], *, cut: bool = False) -> list[Event]:
        """The frames' events. `cut`: the last may be half an event, which says nothing."""
        events: list[Event] = []
        read = self._reader.frame
        for name, data in frames:
            try:
                new = read(name, data)
            except json.InvalidJson:
                new = self._read_odd(name, data.strip(), cut)
            if new:
                events += new
                if type(new[-1]) in TERMINAL:
                    return self._end(events)
        return events

    def _read_odd(self, name: str, data: bytes, cut: bool) -> list[Event]:
        """A frame whose data is no JSON, without the blanks around it."""
        if data == b"[DONE]":
            return self._reader.frame(name, data)
        # An event of empty data is some upstreams' way to keep the connection alive.
        return [] if cut or not data else [failed(ErrorCode.UPSTREAM_MALFORMED)]

    def _checked(self, events: list[Event]) -> list[Event]:
        if self._framing is not None and self._framing.oversized and not self._over:
            events += self._end([failed(ErrorCode.UPSTREAM_OVERSIZED)])
        return events

    def _end(self, events: list[Event]) -> list[Event]:
        self._over, self._streaming = True, False
        return events


def decoder(reader: Callable[[], Reader]) -> Callable[[Target], StreamDecoder]:
    """What makes a turn's decoder, given what makes its reader."""

    def decode(target: Target) -> StreamDecoder:
        # By position: keywords are put into a dictionary, and taken out of it again.
        return StreamDecoder(reader(), target.max_event, target.blank_lines)

    return decode


def fields(data: bytes) -> dict[str, Json]:
    """A frame's JSON object. Raises `InvalidJson`, also for JSON of another kind."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise json.InvalidJson
    return value
