"""What every store forgets, and what it counts."""

import asyncio

import pytest

from gateway.conversations.store import Change, Conflict, Store
from gateway.core.conversation import Conversation, Owner, Place
from tests.conversations.records import ACME, EVERYTHING, HOUR, NOW, answered, dialogue, later, new


async def fill(store: Store, *changes: Change) -> list[Conversation]:
    await asyncio.gather(*(store.save(change, ()) for change in changes))
    return [change.conversation for change in changes]


async def listed(store: Store, user_id: str | None = None) -> list[int]:
    page = await store.listed(ACME, user_id, None, 1000)
    assert page.total == len(page.conversations)
    return [each.id for each in page.conversations]


# Pruning


async def test_what_has_no_activity_is_forgotten(store: Store) -> None:
    """With its messages; what was active just then stays."""
    await fill(store, *(new(n, updated=NOW + n) for n in range(5)[1:]))

    assert await store.prune(NOW + 3, None, NOW) == 2
    assert await listed(store) == [4, 3]
    assert await store.load(ACME, 1, EVERYTHING) is None
    assert await store.prune(NOW + 3, None, NOW) == 0


async def test_without_bounds_nothing_goes(store: Store) -> None:
    """Conversations are kept as long as the store is."""
    await fill(store, *(new(n, user_id="user_1", updated=1) for n in range(1, 4)))

    assert await store.prune(None, None, NOW) == 0
    assert await listed(store) == [3, 2, 1]


async def test_a_users_newest_stay(store: Store) -> None:
    """Of each user of each place so many; what has no user is not counted."""
    elsewhere = Place(ACME.owner, ACME.agent + 1)
    await fill(
        store,
        *(new(n, user_id="user_1", updated=NOW - n) for n in range(1, 5)),
        *(new(n, user_id="user_2") for n in range(5, 7)),
        *(new(n) for n in range(7, 11)),
        *(new(n, user_id="user_1", place=elsewhere) for n in range(11, 14)),
    )

    assert await store.prune(None, 2, NOW) == 3
    assert await listed(store, "user_1") == [1, 2]
    assert await listed(store, "user_2") == [6, 5]
    assert len(await listed(store)) == 8
    page = await store.listed(elsewhere, "user_1", None, 10)
    assert [each.id for each in page.conversations] == [13, 12]


async def test_users_without_a_key_are_counted_by_place(store: Store) -> None:
    """No workspace and no origin are a place like any other."""
    places = [Place(Owner(None), 1), Place(Owner(None, "https://a.example"), 1)]
    await fill(
        store,
        *(new(n, place=places[n % 2], user_id="user_1") for n in range(1, 7)),
    )

    assert await store.prune(None, 1, NOW) == 4
    for place, left in zip(places, (6, 5), strict=True):
        page = await store.listed(place, None, None, 10)
        assert [each.id for each in page.conversations] == [left]


async def test_what_two_rules_forget_is_counted_once(store: Store) -> None:
    """Too old, and too many."""
    await fill(store, *(new(n, user_id="user_1", updated=NOW + n) for n in range(1, 6)))

    assert await store.prune(NOW + 3, 1, NOW) == 4
    assert await listed(store) == [5]


async def test_many_are_forgotten_at_once(store: Store) -> None:
    """However many there are, and the rest is as it was."""
    rows = await fill(store, *(new(n, updated=n) for n in range(1, 1301)), new(5000))

    assert await store.prune(NOW, None, NOW) == 1300
    assert await store.load(ACME, 5000, EVERYTHING) == (rows[-1], dialogue(2))


async def test_what_is_forgotten_can_be_written_anew(store: Store) -> None:
    """Nothing of it is in the way of a conversation with the same id."""
    await fill(store, new(1, updated=1))
    await store.prune(NOW, None, NOW)
    await store.save(new(1, *dialogue(4)), ())

    found = await store.load(ACME, 1, EVERYTHING)
    assert found is not None
    assert found[1] == dialogue(4)


async def test_a_turn_of_what_was_forgotten_ends_with_a_conflict(store: Store) -> None:
    """A claim does not save a conversation from being pruned."""
    change = new(1, updated=1)
    await fill(store, change)
    assert await store.claim(1)

    assert await store.prune(NOW, None, NOW) == 1
    with pytest.raises(Conflict):
        await store.save(later(change, 2, *dialogue(4)[2:]), (1,))

    assert await store.claim(1)
    assert await store.load(ACME, 1, EVERYTHING) is None


async def test_expired_keys_are_forgotten(store: Store) -> None:
    """Without a count; the others stay, even if their conversations have gone."""
    await store.save(new(1, updated=1, answered=answered("old", expires=NOW - 1)), ())
    await store.save(new(2, updated=1, answered=answered("new")), ())

    assert await store.prune(None, None, NOW) == 0
    assert await store.answered("s", "old", NOW - HOUR) is None
    assert await store.answered("s", "new", NOW) == answered("new")
    assert await store.prune(NOW, None, NOW) == 2
    assert await store.answered("s", "new", NOW) == answered("new")


# Figures


async def test_figures_count_what_there_is(store: Store) -> None:
    """Conversations, messages and bytes; nothing of what was cut or forgotten."""
    changes = [new(n, *dialogue(4)) for n in (1, 2, 3)]
    await fill(store, *changes)
    await store.save(later(changes[0], 1), ())

    figures = await store.figures()
    assert (figures.conversations, figures.messages) == (3, 9)
    assert figures.size > 0

    await store.prune(NOW + 1, None, NOW)
    figures = await store.figures()
    assert (figures.conversations, figures.messages) == (0, 0)
