"""The golden transcripts: what upstreams send, and what it must become.

`golden/<kind>/<case>.sse` (or `.json`, or `.txt` for text without frames) is what the upstream
sends; beside it are the events that it means, `<case>.events.json`, and what a client of each
dialect receives, `<case>.<dialect>.sse`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from msgspec import to_builtins
from msgspec.structs import replace

from gateway.core.codec import Decoder, Target, Transcript
from gateway.core.events import Event, TextDelta
from gateway.core.turn import ChatRequest, Turn
from gateway.dialects import DIALECTS
from gateway.upstreams import UPSTREAMS

GOLDEN = Path(__file__).parent / "golden"

TURN = Turn(
    conversation_id="4503599627370001",
    user_message_id="msg_1",
    message_id="msg_2",
    user_id="user_8821",
)
ASK = ChatRequest(agent="1", message="hi", stream=True)

_TARGET = Target(upstream="golden", transcript=Transcript("openai", ()))
_TARGETS = {"openai/no-blank-lines": replace(_TARGET, blank_lines=False)}


@dataclass(frozen=True, slots=True)
class Case:
    """One transcript."""

    path: Path

    @property
    def kind(self) -> str:
        return self.path.parent.name

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.path.stem}"

    @property
    def streamed(self) -> bool:
        return self.path.suffix == ".sse"

    @property
    def framed(self) -> bool:
        """Whether it says itself where an event ends, and not the network."""
        return self.path.suffix != ".txt"

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    def decoder(self) -> Decoder:
        return UPSTREAMS[self.kind].decoder(_TARGETS.get(self.name, _TARGET))

    def decoded(self, chunks: Iterable[bytes]) -> list[Event]:
        """The events of the transcript, however it is cut."""
        events = decoded(self.decoder(), chunks)
        return events if self.framed else joined(events)

    def beside(self, suffix: str) -> Path:
        """The file of what it must become."""
        return self.path.with_name(self.path.stem + suffix)


def cases() -> list[Case]:
    """Every transcript. What it becomes has a dot in its name, and is none."""
    found = (path for path in GOLDEN.glob("*/*") if path.suffix in (".sse", ".json", ".txt"))
    return sorted((Case(path) for path in found if "." not in path.stem), key=lambda c: c.name)


def decoded(decoder: Decoder, chunks: Iterable[bytes]) -> list[Event]:
    """The events of a body that arrives in these pieces."""
    events: list[Event] = []
    for chunk in chunks:
        events += decoder.feed(chunk)
    return events + decoder.eof()


def joined(events: Iterable[Event]) -> list[Event]:
    """With texts that follow each other as one."""
    whole: list[Event] = []
    for event in events:
        if whole and type(event) is type(last := whole[-1]) is TextDelta:
            whole[-1] = TextDelta(last.text + event.text)
        else:
            whole.append(event)
    return whole


def encoded(dialect: str, events: Iterable[Event]) -> bytes:
    """What a client of the dialect receives."""
    encoder = DIALECTS[dialect].encoder(TURN, ASK)
    return b"".join(encoder.encode(event) for event in events)


def written(events: Sequence[Event]) -> bytes:
    """The events for a reader's eyes: one a line, fields that are not known left out."""
    lines = ",\n".join(f"  {_written(event)}" for event in events)
    return f"[\n{lines}\n]\n".encode()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces, cut at these offsets."""
    bounds = [0, *sorted(place for place in places if 0 < place < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def _written(event: Event) -> str:
    fields = _known(to_builtins(event))
    text = json.dumps({"event": type(event).__name__, **fields}, ensure_ascii=False)
    # Editors take these for line ends.
    for character in "\u0085\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _known(fields: dict[str, object]) -> dict[str, object]:
    """Without the fields that are None, at the depth where those are ours."""
    known = {name: value for name, value in fields.items() if value is not None}
    if isinstance(items := known.get("items"), list):
        known["items"] = [_known(item) for item in items]
    if isinstance(usage := known.get("usage"), dict):
        known["usage"] = _known(usage)
    return known
