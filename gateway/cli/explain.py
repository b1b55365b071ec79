"""How an upstream's stream became a client's: event by event, for people."""

import re
from collections.abc import Iterator

from msgspec import to_builtins

from gateway.core.codec import Decoder, Encoder
from gateway.core.events import Event, Json
from gateway.core.turn import Reply
from gateway.wire import json

# What ends an event: a blank line, whatever the line ends are. (The LF of a CRLF may be still to
# come: it is then the beginning of the next event, where it says nothing.)
_BLANK = re.compile(rb"(?:\r\n|\r(?!\n)|\n){2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LINE = re.compile(r"\r\n|\r|\n")


class Explainer:
    """Blocks of lines: `<` what the upstream sent, `=` the events that it means, `>` the frames
    that a client receives for each. The blocks are those of the upstream's events, however its
    bytes arrive."""

    def __init__(self, decoder: Decoder, encoder: Encoder, reply: Reply) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._reply = reply
        self._pending = b""
        self._searched = 0

    def feed(self, data: bytes) -> str:
        """The blocks that are complete."""
        self._pending += data
        return "".join(map(self._block, self._complete()))

    def eof(self) -> str:
        """What is left, and what the end means."""
        blocks, rest = "", self._pending
        if rest.strip():
            blocks = self._block(rest)
        events = self._decoder.eof()
        return blocks + (f"< (the end)\n{self._explained(events)}\n" if events else "")

    def _complete(self) -> Iterator[bytes]:
        start = 0
        for found in _BLANK.finditer(self._pending, self._searched):
            # A line end is one that stands behind a line.
            if self._pending[start : found.start()].strip():
                yield self._pending[start : found.end()]
                start = found.end()
        self._pending = self._pending[start:]
        # Bytes that were searched are not searched again: a blank line has four at most.
        self._searched = max(0, len(self._pending) - 3)

    def _block(self, data: bytes) -> str:
        lines = _LINE.split(data.decode("utf-8", "backslashreplace").strip("\r\n"))
        events = self._decoder.feed(data)
        return f"{_marked('<', lines)}{self._explained(events) or '= (nothing)' + chr(10)}\n"

    def _explained(self, events: list[Event]) -> str:
        self._reply.extend(events)
        return "".join(self._event(event) for event in events)

    def _event(self, event: Event) -> str:
        dropped = sum(self._encoder.dropped.values())
        frames = self._encoder.encode(event)
        lines = ["(nothing)"]
        if sum(self._encoder.dropped.values()) > dropped:
            lines = ["(no words for it)"]
        if frames:
            lines = [line for line in frames.decode().split("\n") if line]
        return _marked("=", [written(event)]) + _marked(">", lines)


def written(event: Event) -> str:
    """Its name and what is known of it."""
    known = _known(to_builtins(event))
    name = type(event).__name__
    return f"{name} {json.dumps(known).decode()}" if known else name


def _known(fields: dict[str, Json]) -> dict[str, Json]:
    """Without what is None, at the depth where fields are ours."""
    known: dict[str, Json] = {n: value for n, value in fields.items() if value is not None}
    if isinstance(usage := known.get("usage"), dict):
        known["usage"] = _known(usage)
    if isinstance(items := known.get("items"), list):
        known["items"] = [_known(json.mapping(item)) for item in items]
    return known


def _marked(mark: str, lines: list[str]) -> str:
    return "".join(f"{mark} {_printable(line)}\n" for line in lines)


def _printable(line: str) -> str:
    """An upstream's control characters are none of the terminal's."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), line)
