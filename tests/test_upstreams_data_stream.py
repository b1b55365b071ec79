"""The lines of the AI SDK's older stream; what they mean is in the transcripts of AgentsGT."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.codec import Target
from gateway.core.errors import ErrorCode
from gateway.upstreams.data_stream import Lines, decoder
from gateway.upstreams.refusals import failed, failure
from gateway.upstreams.ui_stream import UIStreamReader
from gateway.wire.sse import Frame
from tests.golden_cases import cut, decoded


def frames(*chunks: bytes, max_event: int = 1 << 20) -> tuple[list[Frame], bool]:
    """The frames, and whether a line was too long."""
    lines = Lines(max_event=max_event)
    found = [frame for chunk in chunks for frame in lines.feed(chunk)]
    return found + lines.eof(), lines.oversized


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'0:"a"\n1:"b"\n', [("0", b'"a"'), ("1", b'"b"')]),
        (b'0:"a"\r\nd:{}', [("0", b'"a"'), ("d", b"{}")]),
        (b'0:"a"\r\rd:{}\r', [("0", b'"a"'), ("d", b"{}")]),
        (b"\n \n0:1", [("0", b"1")]),
        (b"oh no\n", [("", b"oh no")]),
        (b"::\n", [("", b"::")]),
        (b"\xe9:1\n", [("", b"\xe9:1")]),
        (b"0:\n", [("0", b"")]),
        (b"", []),
    ],
)
def test_lines(data: bytes, expected: list[Frame]) -> None:
    """A letter or digit and a colon, then what is said; any line end; the last needs none."""
    assert frames(data) == (expected, False)


@given(
    data=st.lists(st.sampled_from([b'0:"a"', b"\n", b"\r", b"d:", b"x", b"\xe9"])).map(b"".join),
    where=st.lists(st.integers(0, 60)),
)
def test_cut_anywhere(data: bytes, where: list[int]) -> None:
    """Where the network cuts the body changes nothing, nor does it where a line is too long."""
    for limit in (1 << 20, 9):
        whole, exceeded = frames(data, max_event=limit)
        pieces, again = frames(*cut(data, where), max_event=limit)
        assert (pieces, again) == (whole, exceeded)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_line_that_is_too_long(size: int) -> None:
    """It is lost, and so is what follows; what came before is not."""
    data = b'0:"a"\n0:"' + b"x" * 100 + b'"\n0:"b"\n'

    chunks = [data[i : i + size] for i in range(0, len(data), size)]

    assert frames(*chunks, max_event=50) == ([("0", b'"a"')], True)


def test_a_line_that_never_ends_is_not_kept() -> None:
    """What is held has a bound, whatever comes."""
    lines = Lines(max_event=100)
    for _ in range(1000):
        assert lines.feed(b"x" * 100) == []

    assert lines.oversized
    assert len(lines._pending) <= 200


def test_a_document_in_its_place() -> None:
    """An answer that is JSON is read as one, whatever was expected."""
    chunks = UIStreamReader(metadata=lambda _: [], document=lambda body: [failure(body)])
    decode = decoder(lambda: chunks)

    assert decoded(decode(Target(upstream="x")), [b'{"error":"x"}']) == [
        failed(ErrorCode.UPSTREAM_FAILED)
    ]


def test_time_is_linear() -> None:
    """A long line in many pieces costs no more than its bytes."""
    lines = Lines(max_event=1 << 23)
    started = time.process_time()
    for _ in range(100_000):
        lines.feed(b"x" * 40)

    assert lines.feed(b"\n") == [("", b"x" * 4_000_000)]
    assert time.process_time() - started < 5
