"""What is kept of a stream, and how a client finds its place in it again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.turn_log import SLICE, TurnLog, split
from gateway.wire.sse import Parser, frame

FRAMES = st.lists(
    st.tuples(st.sampled_from([None, "token"]), st.text(alphabet='ab"\\ü🚀', max_size=9)),
    min_size=1,
)
BATCHES = st.lists(FRAMES, min_size=1, max_size=12)


def batch(said: list[tuple[str | None, str]]) -> bytes:
    return b"".join(frame(text.encode() or b'""', name) for name, text in said)


def rest(log: TurnLog, number: int, *, ids: bool = True) -> bytes:
    """All from this number on."""
    out = b""
    while number < log.next:
        found = log.since(number, ids=ids)
        assert found is not None
        data, number = found
        assert data
        out += data
    return out


@given(BATCHES)
def test_each_frame_has_a_number_and_is_else_as_it_was(
    batches: list[list[tuple[str | None, str]]],
) -> None:
    """Parsed, the stream is the same; its ids count from 1, without gaps."""
    log = TurnLog("msg_7", 1 << 20)
    whole = b"".join(map(batch, batches))
    for said in map(batch, batches):
        log.append(said)
    numbered = rest(log, 1)
    blocks = numbered.removesuffix(b"\n\n").split(b"\n\n")
    for count, block in enumerate(blocks, 1):
        assert block.startswith(b"id: msg_7:%d\n" % count)
    parser, plain = Parser(), Parser()
    assert parser.feed(numbered) == plain.feed(whole)
    assert parser.last_event_id == f"msg_7:{len(blocks)}"
    assert (log.first, log.next) == (1, len(blocks) + 1)
    assert log.numbered(split(whole), 1) == numbered
    assert rest(log, 1, ids=False) == whole


@given(BATCHES, st.data())
def test_whoever_comes_back_misses_nothing(
    batches: list[list[tuple[str | None, str]]], data: st.DataObject
) -> None:
    """Wherever a stream is cut, what was seen and what follows it are the whole stream."""
    log = TurnLog("msg_7", 1 << 20)
    for said in batches:
        log.append(batch(said))
    whole = rest(log, 1)
    blocks = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    seen = data.draw(st.integers(1, len(blocks)))

    at = log.after(f"msg_7:{seen}")
    assert at == seen + 1
    assert b"".join(blocks[:seen]) + rest(log, at) == whole


@given(BATCHES, st.integers(1, 300))
def test_a_full_log_lets_the_oldest_go(
    batches: list[list[tuple[str | None, str]]], most: int
) -> None:
    """What is left fits, and is the end of the stream; what is gone is said to be."""
    log = TurnLog("m", most)
    whole = b""
    for said in batches:
        whole += batch(said)
        log.append(batch(said))
        assert log.size <= most
    left = rest(log, log.first, ids=False)
    assert whole.endswith(left)
    assert log.size == len(left)
    assert log.since(log.first - 1, ids=False) is None
    assert log.after(f"m:{log.first - 2}") is None


def test_what_is_held_may_be_too_much() -> None:
    """Without a trim nothing goes, and the next one takes all of it."""
    log = TurnLog("m", 8)
    log.append(b"data: 1\n\n", trim=False)
    log.append(b"data: 2\n\n", trim=False)
    assert rest(log, 1) == b"id: m:1\ndata: 1\n\nid: m:2\ndata: 2\n\n"
    log.trim()
    assert (log.first, log.next, log.size) == (3, 3, 0)


def test_a_stream_that_nobody_comes_back_to() -> None:
    """Its frames are as they were, and nothing is kept of it."""
    log = TurnLog()
    log.append(b"data: 1\n\ndata: 2\n\n", trim=False)
    assert log.since(1, ids=False) == (b"data: 1\n\ndata: 2\n\n", 2)
    log.trim()
    assert (log.next, log.size) == (2, 0)
    assert log.after("None:1") is None


def test_much_comes_in_slices() -> None:
    """A slow client is not sent all of it at once; a frame that is larger comes whole."""
    log = TurnLog("m", 1 << 20)
    log.append(frame(b"x" * 40_000) * 3 + frame(b"y" * SLICE * 2))
    found = log.since(1, ids=False)
    assert found is not None
    assert found[1] == 2
    found = log.since(4, ids=False)
    assert found is not None
    assert (len(found[0]) > SLICE, found[1]) == (True, 5)


@pytest.mark.parametrize(
    "event_id", ["", "m", "m:", "m:x", ":1", "n:1", "m:3", "m:-1", "m:1 ", "m:1:1", "m:" + "9" * 99]
)
def test_ids_that_are_no_place_in_it(event_id: str) -> None:
    """Another turn's, what is no id of ours, and what has not been said yet."""
    log = TurnLog("m", 100)
    log.append(b"data: 1\n\ndata: 2\n\n")
    assert log.after("m:2") == 3
    assert log.after(event_id) is None
