"""The way to a store: ids, and claims that are given back."""

import asyncio
from itertools import islice
from sys import byteorder

import pytest

from gateway.conversations.access import Access, milliseconds, random_ids
from gateway.conversations.memory import MemoryStore
from gateway.conversations.repeats import Asked
from gateway.conversations.store import Span, StoreError
from gateway.core.conversation import MAX_ID
from tests.conversations.desk import ANYBODY, Desk, ask
from tests.conversations.faulty import FaultyStore
from tests.conversations.records import new


def test_ids_are_random() -> None:
    """Nobody can guess a neighbour's: they neither repeat nor count."""
    ids = [*islice(random_ids(), 2000)]

    assert len(set(ids)) == 2000
    assert all(1 <= number <= MAX_ID for number in ids)
    # Of uniform ids below 2^53, thousands that all lie below 2^52 would be a wonder.
    assert max(ids) > MAX_ID // 2


def test_an_id_is_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if chance has it so."""
    drawn = [(0).to_bytes(8, byteorder), (2047).to_bytes(8, byteorder), b"\xff" * 8]
    blocks = iter([b"".join(drawn), (2048).to_bytes(8, byteorder)])
    monkeypatch.setattr("os.urandom", lambda size: next(blocks).ljust(size, b"\0"))

    assert [*islice(random_ids(), 2)] == [MAX_ID, 1]


def test_no_two_draw_the_same_ids() -> None:
    """Each process has its own."""
    assert not {*islice(random_ids(), 1000)} & {*islice(random_ids(), 1000)}


def test_times_are_milliseconds() -> None:
    """Of this century."""
    assert 1_700_000_000_000 < milliseconds() < 4_000_000_000_000


async def test_a_conversation_is_found_by_its_number_or_its_text() -> None:
    """One is ours, the other a client's."""
    store = MemoryStore(1 << 20)
    await store.save(new(7), ())
    access = Access(store)

    by_number = await access.load(ANYBODY, 7, Span(limit=9))
    assert by_number == await access.load(ANYBODY, "7", Span(limit=9))


KEY = Asked(subject="key:acme-web", key="k-1", fingerprint="f")


@pytest.mark.parametrize("operation", ["load", "answered"])
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_turn_that_could_not_begin_holds_nothing(operation: str, leaves: bool) -> None:
    """Whether the store fails after the claims, or the caller leaves while it hangs."""
    inner = MemoryStore(1 << 20)
    desk = Desk(inner)
    known = await desk.say(ask())
    desk.access.store = faulty = FaultyStore(inner)
    faulty.fault, faulty.failing = StoreError("down"), operation
    if leaves:
        faulty.working.clear()
    beginning = asyncio.ensure_future(desk.begin(ask("more", known), asked=KEY))
    while leaves and await faulty.tried.get() != operation:
        pass
    if leaves:
        beginning.cancel()
    await asyncio.wait([beginning])
    assert beginning.cancelled() == leaves

    assert await inner.claim(known.conversation.id)
    assert await inner.claim(KEY.name)


async def test_who_leaves_while_claims_are_given_back_leaves_none() -> None:
    """Each of them is given back, however slow the first is."""
    inner = MemoryStore(1 << 20)
    access = Access(faulty := FaultyStore(inner))
    claims = [7, 8, 9]
    for name in claims:
        await inner.claim(name)
    faulty.working.clear()
    releasing = asyncio.ensure_future(access.release(claims))
    await faulty.tried.get()
    releasing.cancel()
    faulty.working.set()
    await asyncio.wait([releasing])

    assert releasing.cancelled()
    assert claims == []
    assert await inner.claim(7)
    assert await inner.claim(8)
