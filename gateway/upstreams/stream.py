"""What every upstream's stream has in common: framing, and the promise of one terminal event.

A kind's own part is a `Reader`: what one frame means. This decoder feeds it frames, tells a JSON
answer from a stream by its first byte (content types lie), and ends every turn exactly once,
whatever the upstream does.
"""

from typing import Protocol

from gateway.core.errors import ErrorCode
from gateway.core.events import TERMINAL, Event, Json
from gateway.upstreams.refusals import failed
from gateway.wire import json
from gateway.wire.sse import DEFAULT_MAX_EVENT, Frame, Parser

# A whole answer in one JSON document may be longer than an event, but not without bound.
MAX_DOCUMENT = 16 << 20


class Reader(Protocol):
    """What one kind of upstream says. It may raise `InvalidJson`: the frame makes no sense."""

    def frame(self, name: str, data: bytes) -> list[Event]:
        """The events of one SSE frame. After a terminal one, it is asked no more."""
        ...

    def document(self, body: Json) -> list[Event]:
        """The events of a whole answer that came as JSON, ended or not."""
        ...

    def end(self) -> list[Event]:
        """The body is over: a finish that the upstream had announced, or nothing."""
        ...


class StreamDecoder:
    """Bytes of one answer to events, ended by exactly one terminal event."""

    def __init__(
        self, reader: Reader, *, max_event: int = DEFAULT_MAX_EVENT, blank_lines: bool = True
    ) -> None:
        self._reader = reader
        self._parser = Parser(max_event=max_event, blank_lines=blank_lines)
        self._document: bytearray | None = None
        self._sniffed = False
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        if not self._sniffed:
            self._sniff(data)
        if self._document is not None:
            return self._gather(data)
        events = self._read(self._parser.feed(data))
        if self._parser.oversized and not self._over:
            events += self._end([failed(ErrorCode.UPSTREAM_OVERSIZED)])
        return events

    def eof(self) -> list[Event]:
        if self._over:
            return []
        events = self._last_document() if self._document is not None else self._last_frames()
        if not self._over:
            events += self._end(self._reader.end() or [failed(ErrorCode.UPSTREAM_TRUNCATED)])
        return events

    def _sniff(self, data: bytes) -> None:
        # DeepSeek sends empty lines ahead of a JSON body, for as long as the model takes.
        start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if start:
            self._sniffed = True
        if start in (b"{", b"[", b"<"):
            self._document = bytearray()

    def _gather(self, data: bytes) -> list[Event]:
        assert self._document is not None
        self._document += data
        if len(self._document) > MAX_DOCUMENT:
            return self._end([failed(ErrorCode.UPSTREAM_OVERSIZED)])
        return []

    def _last_document(self) -> list[Event]:
        assert self._document is not None
        try:
            body = json.loads(bytes(self._document).removeprefix(b"\xef\xbb\xbf"))
        except json.InvalidJson:
            return self._end([failed(ErrorCode.UPSTREAM_MALFORMED)])
        return self._checked(self._reader.document(body))

    def _last_frames(self) -> list[Event]:
        events: list[Event] = []
        for frame in self._parser.eof():
            try:
                events += self._checked(self._reader.frame(*frame))
            except json.InvalidJson:
                break  # half an event: the stream was cut, which is what the caller will say
        return events

    def _read(self, frames: list[Frame]) -> list[Event]:
        events: list[Event] = []
        read = self._reader.frame
        for name, data in frames:
            try:
                new = read(name, data)
            except json.InvalidJson:
                new = [failed(ErrorCode.UPSTREAM_MALFORMED)]
            if new:
                events += new
                if type(new[-1]) in TERMINAL:
                    self._over = True
                    break
        return events

    def _checked(self, events: list[Event]) -> list[Event]:
        if events and type(events[-1]) in TERMINAL:
            self._over = True
        return events

    def _end(self, events: list[Event]) -> list[Event]:
        self._over = True
        return events
