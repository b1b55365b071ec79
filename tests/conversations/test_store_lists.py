"""What every store does with many conversations: lists, keys, and who sees what."""

import asyncio

import pytest

from gateway.conversations import store as interface
from gateway.conversations.store import Change, Conflict, Store, walk
from gateway.core.conversation import MAX_ID, Conversation, Owner, Place
from tests.conversations.records import (
    ACME,
    EVERYTHING,
    HOUR,
    NOW,
    answered,
    dialogue,
    later,
    new,
)


async def fill(store: Store, *changes: Change) -> list[Conversation]:
    await asyncio.gather(*(store.save(change, ()) for change in changes))
    return [change.conversation for change in changes]


async def listed(store: Store, user_id: str | None = None) -> list[int]:
    page = await store.listed(ACME, user_id, None, 1000)
    assert page.total == len(page.conversations)
    return [each.id for each in page.conversations]


async def pages(store: Store, user_id: str | None, limit: int) -> list[list[Conversation]]:
    """All of them."""
    found: list[list[Conversation]] = []
    after = None
    while (page := await store.listed(ACME, user_id, after, limit)).conversations:
        found.append([*page.conversations])
        after = page.conversations[-1].updated, page.conversations[-1].id
        assert len(found) < 100, "the pages never end"
    return found


# Lists


async def test_where_nothing_is_the_list_is_empty(store: Store) -> None:
    """And counts nothing."""
    page = await store.listed(ACME, None, None, 10)

    assert (page.conversations, page.total) == ((), 0)


async def test_the_newest_activity_comes_first(store: Store) -> None:
    """Not the newest conversation: one that goes on comes to the top."""
    changes = [new(n, updated=NOW + n) for n in (3, 1, 2)]
    await fill(store, *changes)
    assert await listed(store) == [3, 2, 1]

    await store.save(later(changes[1], 2, *dialogue(4)[2:], updated=NOW + 10), ())
    assert await listed(store) == [1, 3, 2]


async def test_rows_are_listed_whole(store: Store) -> None:
    """Every field, as a load has them."""
    rows = await fill(store, new(1, user_id="user_1"), new(2))

    assert (await store.listed(ACME, None, None, 10)).conversations == (rows[1], rows[0])


async def test_of_one_time_the_greater_id_comes_first(store: Store) -> None:
    """Ids are numbers here, not text: 10 comes before 9."""
    await fill(store, *(new(n) for n in (9, 10, 1, MAX_ID, 2)))

    assert await listed(store) == [MAX_ID, 10, 9, 2, 1]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, 10, 11])
async def test_pages_leave_out_nothing_and_repeat_nothing(store: Store, limit: int) -> None:
    """Also where a page ends among conversations of one time."""
    rows = await fill(store, *(new(n, updated=NOW + n // 4) for n in range(1, 11)))
    expected = sorted(rows, key=lambda each: (each.updated, each.id), reverse=True)

    found = await pages(store, None, limit)

    assert [each for page in found for each in page] == expected
    assert {len(page) for page in found[:-1]} <= {limit}


async def test_every_page_tells_how_many_there_are(store: Store) -> None:
    """On all pages, not on those to come."""
    rows = await fill(store, *(new(n) for n in range(1, 6)))

    for after in (None, *((each.updated, each.id) for each in rows)):
        assert (await store.listed(ACME, None, after, 2)).total == 5


async def test_a_page_does_not_move_when_others_come(store: Store) -> None:
    """The next one goes on behind the last one seen, wherever that is now."""
    changes = [new(n, updated=NOW + n) for n in range(1, 6)]
    rows = await fill(store, *changes)
    await fill(store, new(9, updated=NOW + 9))
    await store.save(later(changes[3], 2, updated=NOW + 20), ())

    page = await store.listed(ACME, None, (rows[3].updated, rows[3].id), 10)

    assert [each.id for each in page.conversations] == [3, 2, 1]


async def test_a_users_list_is_the_users(store: Store) -> None:
    """Nobody else's, nor what has no user; with its own count and pages."""
    users = {1: "user_1", 2: "user_2", 3: None, 4: "user_1", 5: "USER_1", 6: "user_1"}
    await fill(store, *(new(n, user_id=user) for n, user in users.items()))

    assert await listed(store, "user_1") == [6, 4, 1]
    assert await listed(store, "user_2") == [2]
    assert await listed(store, "nobody") == []
    assert await listed(store) == [6, 5, 4, 3, 2, 1]
    found = await pages(store, "user_1", 2)
    assert [[each.id for each in page] for page in found] == [[6, 4], [1]]


# Places

PLACES = [
    Place(owner, agent)
    for agent in (1, 2, MAX_ID)
    for owner in (
        Owner("acme"),
        Owner("other"),
        Owner("https://a.example"),
        Owner(None),
        Owner(None, "https://a.example"),
        Owner(None, "https://b.example"),
    )
]


async def test_what_is_elsewhere_does_not_exist(store: Store) -> None:
    """Another workspace, origin or agent, or none where there is one: neither found nor listed."""
    rows = await fill(store, *(new(n, place=place) for n, place in enumerate(PLACES, 1)))

    for place in PLACES:
        found = [each.id for each in rows if await store.load(place, each.id, EVERYTHING)]
        page = await store.listed(place, None, None, 100)

        assert found == [PLACES.index(place) + 1]
        assert ([each.id for each in page.conversations], page.total) == (found, 1)


async def test_a_users_name_is_another_user_elsewhere(store: Store) -> None:
    """Lists of a user stay within the place."""
    await fill(store, *(new(n, place=at, user_id="user_1") for n, at in enumerate(PLACES, 1)))

    for place in PLACES:
        assert (await store.listed(place, "user_1", None, 100)).total == 1


# Everything


@pytest.mark.parametrize("limit", [1, 3, 17, 18, 19])
async def test_everything_is_wherever_it_is(store: Store, limit: int) -> None:
    """All places' conversations by their ids, page after page, whatever their activity."""
    rows = await fill(
        store,
        *(new(n * 7 % 19, place=place, updated=NOW + n % 3) for n, place in enumerate(PLACES, 1)),
    )
    found: list[Conversation] = []
    while page := await store.everything(found[-1].id if found else None, limit):
        assert len(page) <= limit
        found += page

    assert found == sorted(rows, key=lambda each: each.id)


async def test_to_walk_is_to_see_everything(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each, over pages that nobody sees."""
    assert [each async for each in walk(store)] == []
    rows = await fill(store, *(new(n) for n in range(1, 8)))
    monkeypatch.setattr(interface, "_PAGE", 3)

    assert [each async for each in walk(store)] == rows


# Keys


async def test_what_a_key_was_answered_is_known(store: Store) -> None:
    """By whose it is and by its name, both exactly."""
    await store.save(new(1, answered=answered()), ())
    await store.save(new(2, answered=answered("K", fingerprint="g")), ())
    await store.save(new(3, answered=answered(subject="t", fingerprint="h")), ())

    assert await store.answered("s", "k", NOW) == answered()
    assert await store.answered("s", "K", NOW) == answered("K", fingerprint="g")
    assert await store.answered("t", "k", NOW) == answered(subject="t", fingerprint="h")
    assert await store.answered("t", "K", NOW) is None


async def test_a_key_expires(store: Store) -> None:
    """What has expired is not known, though it has not been pruned."""
    await store.save(new(1, answered=answered()), ())

    assert await store.answered("s", "k", NOW + HOUR - 1) == answered()
    assert await store.answered("s", "k", NOW + HOUR + 1) is None


async def test_an_expired_key_can_be_used_again(store: Store) -> None:
    """The new answer takes the old one's place."""
    await store.save(new(1, answered=answered(expires=NOW - 1)), ())
    await store.save(new(2, answered=answered(fingerprint="g")), ())

    assert await store.answered("s", "k", NOW) == answered(fingerprint="g")


async def test_a_change_that_was_refused_answered_nothing(store: Store) -> None:
    """The key is written with the turn, or not at all."""
    await store.save(new(1), ())
    with pytest.raises(Conflict):
        await store.save(new(1, answered=answered()), ())

    assert await store.answered("s", "k", NOW) is None
