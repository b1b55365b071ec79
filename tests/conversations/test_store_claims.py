"""What keeps two turns apart, in every store: claims, also of callers that leave."""

import asyncio

import pytest

from gateway.conversations.store import Change, Conflict, Store
from gateway.core.conversation import StoredMessage
from gateway.core.events import TextDelta
from tests.conversations.records import ACME, EVERYTHING, answer, dialogue, kept, later, new

CLAIM, OTHER_CLAIM = 7, 1 << 60


async def saved(store: Store, change: Change) -> Change:
    await store.save(change, ())
    return change


async def until_free(store: Store, name: int) -> None:
    """Wait until a claim can be had; a test that waits in vain is ended by its timeout."""
    while not await store.claim(name):  # noqa: ASYNC110 - a store has no event for it
        await asyncio.sleep(0.001)
    await store.release(name)


# Claims


@pytest.mark.parametrize("name", [1, (1 << 53) - 1, 1 << 53, 1 << 62])
async def test_a_claim_is_held_by_one(store: Store, name: int) -> None:
    """Whatever its name; it can be had again once it was given back."""
    assert await store.claim(name)
    assert not await store.claim(name)

    await store.release(name)
    assert await store.claim(name)


async def test_claims_do_not_touch_each_other(store: Store) -> None:
    """Neighbours are free, and stay held."""
    for name in (5, 6, 4):
        assert await store.claim(name)
    await store.release(5)

    assert await store.claim(5)
    assert not await store.claim(4)
    assert not await store.claim(6)


async def test_to_release_what_is_not_held_is_nothing(store: Store) -> None:
    """Neither an error, nor of any effect later."""
    await store.release(CLAIM)

    assert await store.claim(CLAIM)
    assert not await store.claim(CLAIM)


async def test_of_many_at_once_one_has_the_claim(store: Store) -> None:
    """However many try."""
    taken = await asyncio.gather(*(store.claim(CLAIM) for _ in range(50)))

    assert taken.count(True) == 1


async def test_a_claim_does_not_need_a_conversation_nor_guard_it(store: Store) -> None:
    """It keeps turns apart; what is read, and written under the claim, is not its business."""
    assert await store.claim(1)
    change = await saved(store, new(1))

    assert await kept(store, change) == change.messages


async def test_save_releases_its_claims(store: Store) -> None:
    """And no others."""
    for name in (CLAIM, OTHER_CLAIM, 99):
        assert await store.claim(name)

    await store.save(new(1), (CLAIM, OTHER_CLAIM))

    assert await store.claim(CLAIM)
    assert await store.claim(OTHER_CLAIM)
    assert not await store.claim(99)


async def test_a_refused_save_releases_its_claims_as_well(store: Store) -> None:
    """A conflict ends the turn like a success."""
    await saved(store, new(1))
    for name in (CLAIM, OTHER_CLAIM):
        assert await store.claim(name)

    with pytest.raises(Conflict):
        await store.save(new(1), (CLAIM, OTHER_CLAIM))

    assert await store.claim(CLAIM)
    assert await store.claim(OTHER_CLAIM)


# Callers that leave


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13])
async def test_a_save_is_whole_though_its_caller_left(store: Store, steps: int) -> None:
    """It is written to its end, and then its claim is free."""
    first = await saved(store, new(1, *dialogue(2)))
    second = later(first, 1, *_long(1))
    assert await store.claim(CLAIM)
    saving = asyncio.create_task(store.save(second, (CLAIM,)))
    for _ in range(steps):
        await asyncio.sleep(0)
    saving.cancel()
    await asyncio.wait([saving])

    await until_free(store, CLAIM)

    assert await store.load(ACME, 1, EVERYTHING) == (
        second.conversation,
        (*dialogue(1), *second.messages),
    )


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
async def test_a_refused_save_frees_its_claim_though_its_caller_left(
    store: Store, steps: int
) -> None:
    """Nobody waits for the conflict; the conversation must not stay closed for that."""
    first = await saved(store, new(1))
    assert await store.claim(CLAIM)
    saving = asyncio.create_task(store.save(later(first, 2, version=9), (CLAIM,)))
    for _ in range(steps):
        await asyncio.sleep(0)
    saving.cancel()
    await asyncio.wait([saving])
    if not saving.cancelled():
        assert isinstance(saving.exception(), Conflict)

    await until_free(store, CLAIM)

    assert await kept(store, first) == first.messages


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
async def test_nobody_holds_a_claim_whose_caller_left(store: Store, steps: int) -> None:
    """A claim that nobody knows of would close its conversation as long as the gateway lives."""
    claiming = asyncio.create_task(store.claim(CLAIM))
    for _ in range(steps):
        await asyncio.sleep(0)
    claiming.cancel()
    await asyncio.wait([claiming])
    if not claiming.cancelled():
        assert claiming.result()
        await store.release(CLAIM)

    await until_free(store, CLAIM)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
async def test_a_claim_is_released_though_its_caller_left(store: Store, steps: int) -> None:
    """Release runs to its end, like save."""
    assert await store.claim(CLAIM)
    releasing = asyncio.create_task(store.release(CLAIM))
    for _ in range(steps):
        await asyncio.sleep(0)
    releasing.cancel()
    await asyncio.wait([releasing])

    await until_free(store, CLAIM)


def _long(position: int) -> tuple[StoredMessage, ...]:
    return tuple(answer(position + n, TextDelta("x" * 20_000)) for n in range(20))
