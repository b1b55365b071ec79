"""Text without frames."""

import pytest

from gateway.core.errors import ErrorCode
from gateway.core.events import Event, Finish, FinishReason, TextDelta
from gateway.upstreams.refusals import failed
from gateway.upstreams.text_stream import TextDecoder
from tests.golden_cases import decoded, joined

END = Finish(FinishReason.OTHER)
TRUNCATED = failed(ErrorCode.UPSTREAM_TRUNCATED)


def test_each_read_is_a_piece() -> None:
    """What has come is said at once."""
    decoder = TextDecoder()

    assert decoder.feed(b"We ") == [TextDelta("We ")]
    assert decoder.feed(b"are") == [TextDelta("are")]
    assert decoder.eof() == [END]


@pytest.mark.parametrize("text", ["注文は👩‍🚀", "é", "a\u2028b", "x"])
def test_characters_that_the_network_cut(text: str) -> None:
    """A character is never said in halves, however the bytes arrive."""
    data = text.encode()

    events = decoded(TextDecoder(), [data[i : i + 1] for i in range(len(data))])

    assert joined(events) == [TextDelta(text), END]
    assert "".join(e.text for e in events if type(e) is TextDelta).isprintable() == (
        text.isprintable()
    )


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"", [TRUNCATED]),
        ("é".encode()[:1], [TRUNCATED]),
        ("We, é".encode()[:-1], [TextDelta("We, "), TRUNCATED]),
        ("We 👩".encode()[:-1], [TextDelta("We "), TRUNCATED]),
        (b"We \xff", [TextDelta("We \ufffd"), END]),
    ],
)
def test_the_end(data: bytes, events: list[Event]) -> None:
    """The end of the body is the end of the answer, unless there is none, or it ends within a
    character."""
    assert decoded(TextDecoder(), [data]) == events


def test_a_body_that_broke_off() -> None:
    """That is no end of an answer, however it looks."""
    decoder = TextDecoder()

    assert [*decoder.feed(b"We are open."), *decoder.lost()] == [
        TextDelta("We are open."),
        TRUNCATED,
    ]
    assert decoder.lost() == decoder.eof() == []


def test_silent_after_the_end() -> None:
    """Nothing follows the terminal event."""
    decoder = TextDecoder()
    decoder.feed(b"We")
    decoder.eof()

    assert decoder.feed(b"are") == []
    assert decoder.eof() == []
