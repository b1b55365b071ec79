"""What every store does: each sentence of `store.Store`, on each of them."""

import asyncio

import pytest

from gateway.conversations.store import Change, Conflict, Span, Store
from gateway.core.conversation import Feedback
from gateway.core.events import TextDelta
from tests.conversations.records import (
    ACME,
    EVERYTHING,
    NOW,
    answer,
    dialogue,
    ids,
    kept,
    later,
    new,
    question,
)


async def saved(store: Store, change: Change) -> Change:
    await store.save(change, ())
    return change


async def test_a_store_that_works_says_so(store: Store) -> None:
    """Its check raises nothing."""
    await store.check()


# Load


async def test_what_was_never_saved_is_not_found(store: Store) -> None:
    """None, rather than an empty conversation."""
    assert await store.load(ACME, 42, EVERYTHING) is None


async def test_a_conversation_comes_back_as_it_was_saved(store: Store) -> None:
    """Its row, field by field, and its messages in their order."""
    change = await saved(store, new(1, *dialogue(6), user_id="user_1"))

    assert await store.load(ACME, 1, EVERYTHING) == (change.conversation, change.messages)


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (Span(limit=3), [7, 8, 9]),
        (Span(limit=10), [*range(10)]),
        (Span(limit=11), [*range(10)]),
        (Span(limit=0), []),
        (Span(limit=2, before=9), [7, 8]),
        (Span(limit=2, before=1), [0]),
        (Span(limit=2, before=0), []),
        (Span(limit=2, before=10), [8, 9]),
        (Span(limit=2, before=1_000_000), [8, 9]),
        (Span(limit=3, upto=105), [3, 4, 5]),
        (Span(limit=3, upto=100), [0]),
        (Span(limit=3, upto=101), [0, 1]),
        (Span(limit=100, upto=109), [*range(10)]),
        (Span(limit=0, upto=105), []),
        (Span(limit=3, upto=0), []),
        (Span(limit=3, upto=5), []),
    ],
    ids=str,
)
async def test_a_span_is_the_newest_of_what_it_names(
    store: Store, span: Span, expected: list[int]
) -> None:
    """Before a position, or up to and including a message; none for a message that is not there."""
    await saved(store, new(1, *dialogue(10)))

    assert await ids(store, 1, span) == expected


async def test_another_conversations_message_is_none_of_this_ones(store: Store) -> None:
    """A span up to it is empty, though the conversation is found."""
    await saved(store, new(1, question(0), answer(1)))
    await saved(store, new(2, question(0, number=500), answer(1, number=501)))

    assert await ids(store, 1, Span(limit=5, upto=501)) == []


# Save


async def test_messages_follow_what_stays(store: Store) -> None:
    """A turn is written behind the turns before it, and the row is the new one."""
    first = await saved(store, new(1, *dialogue(2)))
    second = await saved(store, later(first, 2, *dialogue(4)[2:], updated=NOW + 5))

    assert await store.load(ACME, 1, EVERYTHING) == (second.conversation, dialogue(4))


async def test_what_does_not_stay_goes(store: Store) -> None:
    """Messages beyond the first `keep` make room for new ones, also for fewer than they were."""
    first = await saved(store, new(1, *dialogue(6)))
    retried = answer(3, TextDelta("anew"), number=999)
    second = await saved(store, later(first, 3, retried))

    assert await kept(store, second) == (*dialogue(3), retried)
    assert await ids(store, 1, Span(limit=9, upto=105)) == []


async def test_a_message_is_replaced_under_its_own_id(store: Store) -> None:
    """As a tool's result does with the message that called it."""
    first = await saved(store, new(1, *dialogue(2)))
    longer = answer(1, TextDelta("a1"), TextDelta("more"))
    second = await saved(store, later(first, 1, longer))

    assert await kept(store, second) == (*dialogue(1), longer)


async def test_a_change_need_not_have_messages(store: Store) -> None:
    """It may be of the row alone, or only cut."""
    first = await saved(store, new(1, *dialogue(4)))
    second = await saved(store, later(first, 4))
    assert await kept(store, second) == dialogue(4)

    third = await saved(store, later(second, 2))
    assert await kept(store, third) == dialogue(2)


@pytest.mark.parametrize("version", [1, 2, 4, 5])
async def test_a_change_to_what_is_no_longer_so_is_refused(store: Store, version: int) -> None:
    """Only the version before the change's own will do; nothing is written otherwise."""
    first = await saved(store, new(1, *dialogue(2)))
    second = await saved(store, later(first, 2, *dialogue(4)[2:]))

    with pytest.raises(Conflict):
        await store.save(later(second, 0, question(0, "no"), version=version), ())

    assert await store.load(ACME, 1, EVERYTHING) == (second.conversation, dialogue(4))


async def test_a_change_to_what_is_gone_is_refused(store: Store) -> None:
    """It does not come to life again with its last turn alone."""
    first = new(1, *dialogue(2))

    with pytest.raises(Conflict):
        await store.save(later(first, 2, *dialogue(4)[2:]), ())

    assert await store.load(ACME, 1, EVERYTHING) is None


async def test_of_many_changes_at_once_one_is_written(store: Store) -> None:
    """All but one of them are refused, and nothing of theirs is mixed into it."""
    first = await saved(store, new(1, *dialogue(2)))
    changes = [
        later(first, 2, question(2, f"q{n}", number=1000 + n), answer(3, number=2000 + n))
        for n in range(20)
    ]

    ends = await asyncio.gather(
        *(store.save(change, ()) for change in changes), return_exceptions=True
    )

    (winner,) = (change for change, end in zip(changes, ends, strict=True) if end is None)
    assert [type(end) for end in ends].count(Conflict) == 19
    assert await store.load(ACME, 1, EVERYTHING) == (
        winner.conversation,
        (*first.messages, *winner.messages),
    )


async def test_a_refused_change_takes_no_other_along(store: Store) -> None:
    """Those that are written together with it are kept."""
    first = await saved(store, new(1))
    refused = later(first, 2, *dialogue(4)[2:], version=9)
    others = [new(number) for number in range(2, 30)]

    ends = await asyncio.gather(
        *(store.save(each, ()) for each in (*others, refused, new(30))), return_exceptions=True
    )

    assert [type(end) for end in ends if end] == [Conflict]
    assert (await store.listed(ACME, None, None, 100)).total == 30


# Feedback


async def test_feedback_is_set_changed_and_cleared(store: Store) -> None:
    """On its message, and on no other of the same id."""
    first, second = await saved(store, new(1)), await saved(store, new(2))
    for feedback in (Feedback.POSITIVE, Feedback.NEGATIVE, None, None, Feedback.POSITIVE):
        await store.mark(1, 101, feedback)

        assert [said.feedback for said in await kept(store, first)] == [None, feedback]
        assert [said.feedback for said in await kept(store, second)] == [None, None]


async def test_feedback_on_what_is_not_there_is_nothing(store: Store) -> None:
    """A message or a conversation that went meanwhile."""
    first = await saved(store, new(1))
    await store.mark(1, 999, Feedback.POSITIVE)
    await store.mark(2, 101, Feedback.POSITIVE)

    assert await kept(store, first) == first.messages


async def test_feedback_is_no_change_of_the_conversation(store: Store) -> None:
    """A turn that is running can still be committed, and the lists keep their order."""
    first = await saved(store, new(1))
    await store.mark(1, 101, Feedback.NEGATIVE)
    assert await store.load(ACME, 1, Span(limit=0)) == (first.conversation, ())

    second = await saved(store, later(first, 2, *dialogue(4)[2:]))
    feedback = [said.feedback for said in await kept(store, second)]
    assert feedback == [None, Feedback.NEGATIVE, None, None]
