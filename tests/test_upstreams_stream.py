"""What every upstream's decoder promises, whatever its reader reads."""

import pytest

from gateway.core.codec import Target
from gateway.core.errors import ErrorCode
from gateway.core.events import Event, Finish, FinishReason, Json, TextDelta
from gateway.upstreams import stream
from gateway.upstreams.refusals import failed
from gateway.upstreams.remote import REMOTE
from gateway.upstreams.stencil import Stencil
from gateway.upstreams.stream import StreamDecoder, decoder, fields
from gateway.wire import json
from tests.golden_cases import decoded

OVERSIZED = failed(ErrorCode.UPSTREAM_OVERSIZED)
MALFORMED = failed(ErrorCode.UPSTREAM_MALFORMED)
TRUNCATED = failed(ErrorCode.UPSTREAM_TRUNCATED)
DONE = Finish(FinishReason.STOP)


class Words:
    """A reader of JSON strings: "end" ends the turn, and is announced by "last"."""

    stencil: Stencil | None = None

    def __init__(self) -> None:
        self._last = False

    def frame(self, name: str, data: bytes) -> list[Event]:
        word = json.text(json.loads(data))
        self._last = self._last or word == "last"
        return [DONE] if word == "end" else [TextDelta(word)]

    def document(self, body: Json) -> list[Event]:
        return [TextDelta(json.text(word)) for word in json.array(body)]

    def end(self) -> list[Event]:
        return [DONE] if self._last else []


def events(*chunks: bytes, max_event: int = 1 << 20) -> list[Event]:
    return decoded(StreamDecoder(Words(), max_event=max_event), chunks)


def test_ended_by_the_reader() -> None:
    """The reader's terminal event is the last, though more frames came with it."""
    data = b'data: "a"\n\ndata: "end"\n\ndata: "b"\n\n'

    assert events(data, data) == [TextDelta("a"), DONE]


def test_silent_after_the_end() -> None:
    """Nothing that is fed after the end says anything, and neither does the end of the body."""
    one = StreamDecoder(Words())
    one.feed(b'data: "end"\n\n')

    assert one.feed(b'data: "a"\n\n') == []
    assert one.feed(b"[") == []
    assert one.eof() == []
    assert one.eof() == []


def test_ended_by_the_end_of_the_body() -> None:
    """A finish that was announced holds when the body ends, even in the middle of an event."""
    assert events(b'data: "last"\n\n')[-1] == DONE
    assert events(b'data: "last"\n\ndata: "hal')[-1] == DONE


def test_cut_short() -> None:
    """A body that ends without a word of the end was cut, also in the middle of an event."""
    assert events(b'data: "a"\n\n') == [TextDelta("a"), TRUNCATED]
    assert events(b'data: "a"\n\ndata: "hal') == [TextDelta("a"), TRUNCATED]
    assert events() == [TRUNCATED]


def test_last_event_without_its_blank_line() -> None:
    """Many upstreams leave out the last blank line: the event counts."""
    assert events(b'data: "a"\n\ndata: "end"') == [TextDelta("a"), DONE]
    assert events(b'data: "a"') == [TextDelta("a"), TRUNCATED]


def test_no_event_follows_the_end_in_the_last_block() -> None:
    """A last block that holds two frames ends with the first that ends."""
    assert events(b'error: "end"\ndata: "late"') == [DONE]


def test_malformed() -> None:
    """An event that makes no sense ends the turn; one without data is only a sign of life."""
    assert events(b'data: "a"\n\ndata: {{\n\ndata: "b"\n\n') == [TextDelta("a"), MALFORMED]
    assert events(b'data:  \n\ndata:\n\ndata: "end"\n\n') == [DONE]


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_oversized_event(size: int) -> None:
    """An event over the limit is an error at once, not the end and not an endless buffer."""
    data = b'data: "a"\n\ndata: "' + b"x" * 200
    chunks = [data[start : start + size] for start in range(0, len(data), size)]

    assert events(*chunks, max_event=100) == [TextDelta("a"), OVERSIZED]


def test_oversized_event_that_ends_the_body() -> None:
    """An event over the limit by a byte is found at the end of the body, and was no finish."""
    data = b'data: "' + b"x" * 93
    assert len(data) == 100

    assert events(data, max_event=100) == [TRUNCATED]
    assert events(data + b"x", max_event=100) == [OVERSIZED]
    assert events(b'data: "last"\n\n' + data + b"x", max_event=100)[-1] == OVERSIZED


@pytest.mark.parametrize("start", [b"", b"\n\n\r\n \t", b"\xef\xbb\xbf"])
def test_document(start: bytes) -> None:
    """An answer that begins like JSON is a document, whatever stands before and how it is cut."""
    data = start + b'["a","b"]'

    assert events(data) == [TextDelta("a"), TextDelta("b"), TRUNCATED]
    assert events(*(data[i : i + 1] for i in range(len(data)))) == events(data)


@pytest.mark.parametrize("data", [b'["a"', b"<html></html>", b"{}}"])
def test_malformed_document(data: bytes) -> None:
    """A document that cannot be read is an error."""
    assert events(data) == [MALFORMED]


def test_oversized_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document grows only so far."""
    monkeypatch.setattr(stream, "MAX_DOCUMENT", 10)
    one = StreamDecoder(Words())

    assert one.feed(b'["a","b",') == []
    assert one.feed(b'"c"]') == [OVERSIZED]
    assert one.eof() == []


def test_the_targets_framing() -> None:
    """A target says how large its events may be and whether blank lines part them."""
    small = decoder(Words)(Target(upstream="x", max_event=8))
    lines = decoder(Words)(Target(upstream="x", blank_lines=False))

    assert decoded(small, [b'data: "abcdef"\n\n']) == [OVERSIZED]
    assert decoded(lines, [b'data: "a"\ndata: "end"\n']) == [TextDelta("a"), DONE]


@pytest.mark.parametrize("data", [b"[]", b'"a"', b"null", b"1", b"{", b""])
def test_fields_of_no_object(data: bytes) -> None:
    """A frame of any other JSON makes no sense."""
    with pytest.raises(json.InvalidJson):
        fields(data)


@pytest.mark.parametrize("kind", REMOTE)
def test_blanks_around_done(kind: str) -> None:
    """`[DONE]` is the upstream's word that it is done, also with a blank behind it."""
    reading = REMOTE[kind].decoder(Target(upstream="main"))

    assert decoded(reading, [b"data: [DONE] \n\n"]) == [Finish(FinishReason.OTHER)]
