"""Server-Sent Events: the standard's rules, however the bytes are cut, and the bounds."""

import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import json
from gateway.wire.sse import DEFAULT_MAX_EVENT, Frame, Parser, frame

BOM = b"\xef\xbb\xbf"
MIB = 1 << 20


def message(data: bytes) -> Frame:
    return ("message", data)


def messages(*data: bytes) -> list[Frame]:
    return [message(each) for each in data]


def read(chunks: Iterable[bytes], parser: Parser | None = None) -> list[Frame]:
    parser = parser or Parser()
    return [found for chunk in chunks for found in parser.feed(chunk)]


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


# The standard, rule by rule; after the suites that test browsers (WPT eventsource format-*) and
# clients (eventsource-parser's, LaunchDarkly's contract tests), in words of our own.
STANDARD: dict[str, tuple[bytes, list[Frame]]] = {
    "one event": (b"data: hello\n\n", messages(b"hello")),
    "two events": (b"data: a\n\ndata: b\n\n", messages(b"a", b"b")),
    "no space": (b"data:a\n\n", messages(b"a")),
    "one space goes, the others stay": (b"data:   a \n\n", messages(b"  a ")),
    "a tab is no space": (b"data:\ta\n\n", messages(b"\ta")),
    "colons in data": (b"data: a: b:c\n\n", messages(b"a: b:c")),
    "lines of data": (b"data: a\ndata: b\ndata:c\n\n", messages(b"a\nb\nc")),
    "empty data": (b"data:\n\n", messages(b"")),
    "empty data after a space": (b"data: \n\n", messages(b"")),
    "data without a colon": (b"data\n\n", messages(b"")),
    "two of these": (b"data\ndata\n\n", messages(b"\n")),
    "empty lines of data in the middle": (b"data:a\ndata\ndata:b\n\n", messages(b"a\n\nb")),
    "a name": (b"event: token\ndata: a\n\n", [("token", b"a")]),
    "a name after the data": (b"data: a\nevent: token\n\n", [("token", b"a")]),
    "the last name wins": (b"event: a\nevent: b\ndata: x\n\n", [("b", b"x")]),
    "a name is its own event's": (
        b"event: a\ndata: 1\n\ndata: 2\n\n",
        [("a", b"1"), message(b"2")],
    ),
    "an empty name": (b"event: \ndata: x\n\n", messages(b"x")),
    "an empty name takes one back": (b"event: a\nevent\ndata: x\n\n", messages(b"x")),
    "a name in any script": ("event: お\ndata: x\n\n".encode(), [("お", b"x")]),
    "a name that is not UTF-8": (b"event: \xff\ndata: x\n\n", [("�", b"x")]),
    "a name alone": (b"event: a\n\ndata: x\n\n", messages(b"x")),
    "an id alone": (b"id: 1\n\ndata: x\n\n", messages(b"x")),
    "a retry alone": (b"retry: 1\n\ndata: x\n\n", messages(b"x")),
    "no data at all": (b"event: a\nid: 1\nretry: 5\n: c\nother: 2\n\n", []),
    "a comment": (b": ping\n\ndata: a\n\n", messages(b"a")),
    "a comment with a dash and a number": (b": ping - 2\n\ndata: a\n\n", messages(b"a")),
    "comments within an event": (b"data: a\n:\n:data: no\n: \0\ndata: b\n\n", messages(b"a\nb")),
    "a long comment": (b"data:a\n:" + b"x" * 4096 + b"\ndata:b\n\n", messages(b"a\nb")),
    "unknown fields": (b"foo: 1\ndata: a\nbar\n\n", messages(b"a")),
    "fields are case-sensitive": (b"DATA: a\nData: b\ndata: c\n\n", messages(b"c")),
    "a space before the colon is of the name": (b"data : a\ndata: b\n\n", messages(b"b")),
    "a space before the field too": (b" data: a\ndata: b\n\n", messages(b"b")),
    "a field that begins like data": (b"datax: a\ndat: b\ndata: c\n\n", messages(b"c")),
    "NUL in data": (b"data: a\0b\n\n", messages(b"a\0b")),
    "NUL in a field's name": (b"data\0: a\n\0data: b\ndata: c\n\n", messages(b"c")),
    "many blank lines": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", messages(b"a", b"b")),
    "blank lines only": (b"\n" * 50, []),
    "not yet ended": (b"data: a\n\ndata: b\n", messages(b"a")),
    "UTF-8": ("data: 語🎉é\n\n".encode(), messages("語🎉é".encode())),
    "bytes that are no UTF-8 pass": (b"data: \xff\xfe\n\n", messages(b"\xff\xfe")),
    "only LF and CR end a line": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\n\n".encode(),
        messages("a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg".encode()),
    ),
    "a BOM at the start": (BOM + b"data: a\n\n", messages(b"a")),
    "only the first BOM": (BOM + BOM + b"data: a\n\ndata: b\n\n", messages(b"b")),
    "a BOM before a later event": (b"data: a\n\n" + BOM + b"data: b\n\n", messages(b"a")),
    "BOMs before the first and the second": (
        BOM + b"data: a\n\n" + BOM + b"data: b\n\ndata: c\n\n",
        messages(b"a", b"c"),
    ),
    "a BOM in data": (b"data: " + BOM + b"\n\n", messages(BOM)),
    "a BOM and a blank line": (BOM + b"\n\ndata: a\n\n", messages(b"a")),
    "half a BOM": (BOM[:2] + b"data: a\n\ndata: b\n\n", messages(b"b")),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\n", messages(b"a\nb")),
    "CR": (b"data: a\rdata: b\r\r", messages(b"a\nb")),
    "all three": (b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r\n", messages(b"a\nb\nc", b"d")),
    "LF CR is two": (b"data: a\n\rdata: b\n\n", messages(b"a", b"b")),
    "CR CRLF is two": (b"data: a\r\r\ndata: b\n\n", messages(b"a", b"b")),
    "odd comments between all three": (
        b"data:a\r:\0\n:\r\ndata:b\n:" + b"y" * 2048 + b"\rdata:c\r\n\r\n",
        messages(b"a\nb\nc"),
    ),
    "odd fields between all three": (
        b"data:\0\ndata:  b\rData:x\ndata\0:x\ndata:c\r\0data:x\n"
        b"da-ta:x\rdata:\r\n data:x\ndata:d\n\n",
        messages(b"\0\n b\nc\n\nd"),
    ),
}


@pytest.mark.parametrize("case", STANDARD)
def test_the_standard(case: str) -> None:
    """A stream's frames, fed at once, in ones and twos, and cut at any one point."""
    stream, expected = STANDARD[case]

    assert read([stream]) == expected
    assert read(pieces(stream, 1)) == expected
    assert read(pieces(stream, 2)) == expected
    for cut in range(min(len(stream), 200)):
        assert read([stream[:cut], stream[cut:]]) == expected


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("case", [name for name in STANDARD if b"\r" not in STANDARD[name][0]])
def test_line_ends_are_alike(case: str, end: bytes) -> None:
    """The same stream with CRLF or CR has the same frames, however it is cut."""
    stream, expected = STANDARD[case]
    stream = stream.replace(b"\n", end)

    assert read([stream]) == expected
    assert read(pieces(stream, 1)) == expected
    assert read(pieces(stream, 2)) == expected


def test_a_cr_at_the_end_of_a_read_ends_its_line() -> None:
    """An event need not wait for the byte that follows, which may never come."""
    parser = Parser()
    assert parser.feed(b"data: a\r\n\r") == messages(b"a")
    assert parser.feed(b"\ndata: b\r") == []
    assert parser.feed(b"\n") == []
    assert parser.feed(b"\r") == messages(b"b")


def test_empty_reads_change_nothing() -> None:
    """Between any two bytes, a CR and its LF and the bytes of a BOM among them."""
    stream = BOM + b"data: a\r\n\r\n\r\ndata: b\n\n"
    chunks = [part for byte in pieces(stream, 1) for part in (b"", byte, b"")]

    assert read(chunks) == messages(b"a", b"b")


def test_an_event_comes_with_its_last_byte() -> None:
    """Not with the next event's first."""
    parser = Parser()
    stream = b"event: token\ndata: a\n\n"

    assert read(pieces(stream[:-1], 1), parser) == []
    assert parser.feed(stream[-1:]) == [("token", b"a")]


# Ids and retry


@pytest.mark.parametrize(
    ("stream", "last"),
    [
        (b"id: 7\ndata: a\n\n", "7"),
        (b"id: 7\ndata: a\n\ndata: b\n\n", "7"),
        (b"id: 7\n\n", "7"),
        (b"id: 7\ndata: a\n\nid: 8\ndata: b\n\n", "8"),
        (b"id: 7\ndata: a\n\nid\ndata: b\n\n", ""),
        (b"id: 7\ndata: a\n\nid:\n\n", ""),
        (b"id: 7\nid: 8\0\n\n", "7"),
        (b"id: \0\n\n", ""),
        ("id: 語\n\n".encode(), "語"),
        (b"id: \xff\n\n", "�"),
        (b"ID: 7\n\n", ""),
    ],
)
def test_the_last_id(stream: bytes, last: str) -> None:
    """It outlives its event, an empty one resets it, and one with a NUL is none."""
    for size in (1, len(stream)):
        parser = Parser()
        read(pieces(stream, size), parser)
        assert parser.last_event_id == last


@pytest.mark.parametrize(
    ("stream", "retry"),
    [
        (b"data: a\n\n", None),
        (b"retry: 1500\n\n", 1500),
        (b"retry:03000\n\n", 3000),
        (b"retry: 00000000001000\n\n", 1000),
        (b"retry: 1\nretry: 2\n\n", 2),
        (b"retry: 3000\nretry: 1000x\n\n", 3000),
        (b"retry: 3000\nretry\n\n", 3000),
        (b"retry: -1\n\n", None),
        (b"retry: 1.5\n\n", None),
        (b"retry:  1\n\n", None),
        ("retry: ١٢\n\n".encode(), None),
        (b"retry: " + b"9" * 10_000 + b"\n\n", None),
    ],
)
def test_the_retry(stream: bytes, retry: int | None) -> None:
    """Only ASCII digits count, and not thousands of them."""
    parser = Parser()
    read([stream], parser)

    assert parser.retry == retry


# The end of the stream


@pytest.mark.parametrize(
    ("stream", "left"),
    [
        (b"", []),
        (b"data: a\n\n", []),
        (b"data: a", messages(b"a")),
        (b"data: a\n", messages(b"a")),
        (b"data: a\r", messages(b"a")),
        (b"data: a\r\n", messages(b"a")),
        (b"data: a\ndata: b", messages(b"a\nb")),
        (b"data: a\ndata", messages(b"a\n")),
        (b"event: done\ndata: a", [("done", b"a")]),
        (b"event: done\n", []),
        (b"id: 1", []),
        (b": ping", []),
        (b"dat", []),
        (BOM, []),
        (BOM[:2], []),
        (BOM + b"data: a", messages(b"a")),
        (b"data: first\n\ndata: a", messages(b"a")),
    ],
)
def test_the_end_delivers_what_has_no_blank_line(stream: bytes, left: list[Frame]) -> None:
    """Once, for many upstreams leave the last blank line out; what says nothing stays unsaid."""
    for size in (1, 2, max(1, len(stream))):
        parser = Parser()
        read(pieces(stream, size), parser)
        assert parser.eof() == left
        assert parser.eof() == []


# What upstreams do that the standard does not know


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_without_blank_lines_each_data_line_is_an_event(end: bytes, size: int) -> None:
    """Where an upstream leaves them out, and where it does not after all."""
    lines = [b'data: {"a":1}', b"data:b", b": ping", b"", b"id: 1", b"data: c", b"", b"data: d"]
    parser = Parser(blank_lines=False)

    found = read(pieces(end.join(lines), size), parser)

    assert found + parser.eof() == messages(b'{"a":1}', b"b", b"c", b"d")


def test_without_blank_lines_an_event_comes_with_its_line_end() -> None:
    """The next line need not have begun."""
    parser = Parser(blank_lines=False)

    assert parser.feed(b"data: a") == []
    assert parser.feed(b"\n") == messages(b"a")


@pytest.mark.parametrize("blank_lines", [True, False])
def test_an_error_field_is_an_event_of_that_name(blank_lines: bool) -> None:
    """As llama.cpp wrote them; what was read before it is not lost."""
    parser = Parser(blank_lines=blank_lines)

    found = read([b'data: a\n\nerror: {"code":500}\n\n'], parser)

    assert found == [message(b"a"), ("error", b'{"code":500}')]


# Bounds


@pytest.mark.parametrize("size", [1 << 16, 1000, 8 * MIB + 8])
def test_a_line_of_8_mib(size: int) -> None:
    """Size alone is no error where the limit allows it."""
    data = b"x" * (8 * MIB)
    parser = Parser(max_event=9 * MIB)

    found = read(pieces(b"data: " + data + b"\n\n", size), parser)

    assert found == messages(data)
    assert not parser.oversized


@pytest.mark.parametrize("blank_lines", [True, False])
@pytest.mark.parametrize("size", [1, 2, 7, 100, 101, 102, 103, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_limit_is_exact(size: int, end: bytes, blank_lines: bool) -> None:
    """An event of just that many bytes passes, of one more not, however they are cut."""
    for length, fits in [(100, True), (101, False)]:
        event = b"data: " + b"x" * (length - len(b"data: "))
        parser = Parser(max_event=100, blank_lines=blank_lines)
        found = read(pieces(b"data: a" + end * 2 + event + end * 2, size), parser)

        assert found == messages(b"a", event[6:])[: 2 if fits else 1]
        assert parser.oversized is not fits


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_limit_is_the_events_not_the_reads(size: int) -> None:
    """Many small events in one read, with blank lines in between, are not too much."""
    stream = (b"\n" * 13 + b"data: 12345\n\n") * 100
    parser = Parser(max_event=11)

    assert read(pieces(stream, size), parser) == messages(b"12345") * 100
    assert not parser.oversized


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_all_lines_of_an_event_count(size: int) -> None:
    """Comments and unknown fields fill the memory like data."""
    parser = Parser(max_event=100)
    read(pieces(b": ping\n" * 20, size), parser)

    assert parser.oversized


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_what_is_left_at_the_end_has_the_limit_too(size: int) -> None:
    """The last event of a stream that was cut."""
    for length, fits in [(100, True), (101, False)]:
        parser = Parser(max_event=100)
        read(pieces(b"data: " + b"x" * (length - 6) + b"\n", size), parser)

        assert parser.eof() == (messages(b"x" * 94) if fits else [])
        assert parser.oversized is not fits


def test_nothing_follows_an_oversized_event() -> None:
    """It is never mistaken for the end of the turn, nor is what comes later for its rest."""
    parser = Parser(max_event=100)

    assert parser.feed(b"data: a\n\n" + b"data: " + b"x" * 200) == messages(b"a")
    assert parser.oversized
    assert parser.feed(b"\n\ndata: b\n\ndata: c") == []
    assert parser.eof() == []
    assert parser.oversized


def test_an_endless_event_takes_no_more_memory() -> None:
    """32 MiB without a line end: the event is given up at the limit, 1 MiB by default."""
    chunk = b"x" * (1 << 16)
    parser = Parser()
    tracemalloc.start()
    try:
        parser.feed(b"data: ")
        for _ in range(512):
            parser.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert parser.oversized
    assert peak < 2 * DEFAULT_MAX_EVENT


def test_endless_blank_lines_take_no_memory() -> None:
    """They are no event, so they are never oversized, and they are not kept."""
    parser = Parser(max_event=100)
    for _ in range(1000):
        assert parser.feed(b"\n" * 999) == []
    assert not parser.oversized
    assert parser.feed(b"data: a\n\n") == messages(b"a")


class Unsearched(bytearray):
    """What is pending, where nobody may look for anything."""

    def __contains__(self, item: object) -> bool:
        raise AssertionError("what is pending was searched from its start")

    def find(self, *args: object) -> int:
        raise AssertionError("what is pending was searched from its start")

    def split(self, *args: object, **named: object) -> list[bytearray]:
        raise AssertionError("what is pending was split again")


def test_each_byte_is_looked_at_once() -> None:
    """What is pending is neither searched nor copied until its event is complete."""
    parser = Parser(max_event=2 * MIB)
    parser.feed(b"data: x")
    parser._pending = Unsearched(b"data: " + b"x" * MIB)
    copies = 0
    tracemalloc.start()
    try:
        for _ in range(200):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            parser.feed(b"y" * 1000)
            copies += tracemalloc.get_traced_memory()[1] - before > MIB / 2
    finally:
        tracemalloc.stop()

    # A bytearray moves now and then as it grows, each time an eighth larger.
    assert copies <= 5
    parser._pending = bytearray(parser._pending)
    assert len(parser.feed(b"\n\n")[0][1]) == MIB + 200_000


def test_byte_by_byte() -> None:
    """A megabyte in a million reads: hopeless unless each read costs the same."""
    data = b"x" * MIB
    parser = Parser(max_event=2 * MIB)

    assert read(pieces(b"data: " + data + b"\n\n", 1), parser) == messages(data)


# Any stream at all, against the standard's algorithm as it is written

FIELDS = st.sampled_from(
    [b"data", b"event", b"id", b"retry", b"", b"other", b"DATA", BOM + b"data"]
)
COLONS = st.sampled_from([b"", b":", b": ", b":  "])
VALUES = st.sampled_from([b"", b"1", b"x:y", "語🎉".encode(), "\u2028\u0085".encode(), b"\0"]) | (
    st.binary(max_size=8).map(lambda value: value.replace(b"\n", b"").replace(b"\r", b""))
)
LINES = st.builds(lambda *parts: b"".join(parts), FIELDS, COLONS, VALUES) | st.just(b"")
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r"])
STREAMS = st.builds(
    lambda bom, lines, rest: bom + b"".join(line + end for line, end in lines) + rest,
    st.sampled_from([b"", b"", BOM, BOM[:1], BOM + BOM]),
    st.lists(st.tuples(LINES, ENDS), max_size=20),
    LINES,
)


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    stream = draw(STREAMS)
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=12))
    ends = sorted({0, len(stream), *cuts})
    return stream, [stream[start:end] for start, end in pairwise(ends)]


def by_the_standard(stream: bytes) -> list[Frame]:
    """ "Interpreting an event stream", line by line."""
    frames: list[Frame] = []
    name, data = b"", list[bytes]()
    text = stream.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in text.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                frames.append((name.decode("utf-8", "replace") or "message", b"\n".join(data)))
            name, data = b"", list[bytes]()
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return frames


@settings(deadline=None, max_examples=400)
@given(cut_streams())
def test_any_stream_cut_anywhere(case: tuple[bytes, list[bytes]]) -> None:
    """The frames are the standard's."""
    stream, chunks = case

    assert read(chunks) == by_the_standard(stream)


@settings(deadline=None)
@given(cut_streams(), st.booleans(), st.integers(1, 30))
def test_cuts_change_nothing(
    case: tuple[bytes, list[bytes]], blank_lines: bool, limit: int
) -> None:
    """Nor do they of what the end leaves, the id, the retry, or where the limit strikes."""
    stream, chunks = case
    whole, cut = (Parser(max_event=limit, blank_lines=blank_lines) for _ in range(2))

    assert read([stream], whole) + whole.eof() == read(chunks, cut) + cut.eof()
    assert whole.oversized == cut.oversized
    assert (whole.last_event_id, whole.retry) == (cut.last_event_id, cut.retry)


@settings(deadline=None)
@given(st.binary(max_size=60), st.booleans(), st.integers(1, 60))
def test_no_bytes_are_too_odd(data: bytes, blank_lines: bool, size: int) -> None:
    """Whatever an upstream sends, nothing is raised."""
    parser = Parser(max_event=40, blank_lines=blank_lines)
    read(pieces(data, size), parser)
    parser.eof()


# Writing


def test_a_frame_is_lines_and_a_blank_one() -> None:
    """LF only, with the space, the name first."""
    assert frame(b"{}") == b"data: {}\n\n"
    assert frame(b"{}", "token") == b"event: token\ndata: {}\n\n"


@given(st.text(), st.sampled_from([None, "token", "done"]))
def test_what_is_written_can_be_read(text: str, name: str | None) -> None:
    """Our frames are read as they were meant, also by clients that split lines as Python does."""
    written = frame(json.dumps(text), name)

    ((found, data),) = Parser().feed(written)
    assert (found, json.loads(data)) == (name or "message", text)
    assert len(written.decode().splitlines()) == (2 if name is None else 3)
