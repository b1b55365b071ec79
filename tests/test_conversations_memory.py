"""The store in memory: turns that are whole or never were, owners kept apart, and a bound."""

import tracemalloc
from collections.abc import Coroutine, Iterator
from typing import TypeVar

import pytest

from gateway.conversations.memory import MAX_ID, MemoryStore, newest, random_id
from gateway.conversations.store import Opened, Owner, Store
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import ToolCall
from gateway.core.turn import Message, Role

T = TypeVar("T")

ACME = Owner("acme")
AGENT = 123


def done(coroutine: Coroutine[object, object, T]) -> T:
    """The result of a coroutine that has to come to its end in one go."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("it awaits something: two turns could get in each other's way")


def store(
    *, max_size: int = 1 << 20, max_messages: int = 100, ids: Iterator[int] | None = None
) -> MemoryStore:
    if ids is None:
        return MemoryStore(max_size, max_messages)
    return MemoryStore(max_size, max_messages, mint=lambda: next(ids))


def said(text: str) -> Message:
    return Message(Role.USER, text)


def answered(text: str) -> Message:
    return Message(Role.ASSISTANT, text)


def begun(kept: Store, conversation_id: str | None = None, owner: Owner = ACME) -> Opened:
    return done(kept.begin(owner, AGENT, conversation_id, None))


def committed(
    kept: Store, conversation_id: str | None = None, question: str = "hi", answer: str = "hello"
) -> str:
    opened = begun(kept, conversation_id)
    done(kept.commit(opened, said(question), [answered(answer)], "up", None))
    return opened.turn.conversation_id


def history(kept: Store, conversation_id: str, owner: Owner = ACME) -> tuple[Message, ...]:
    opened = begun(kept, conversation_id, owner)
    done(kept.abandon(opened))
    return opened.history


def code(kept: Store, owner: Owner, agent: int, conversation_id: str) -> ErrorCode:
    with pytest.raises(GatewayError) as caught:
        done(kept.begin(owner, agent, conversation_id, None))
    return caught.value.code


# Ids


def test_ids_are_what_clients_expect() -> None:
    """Conversations are positive integers that JavaScript can hold, messages `msg_` and one."""
    turn = begun(store()).turn

    numbers = [
        int(turn.conversation_id),
        int(turn.user_message_id.removeprefix("msg_")),
        int(turn.message_id.removeprefix("msg_")),
    ]
    assert all(0 < number <= MAX_ID for number in numbers)
    assert turn.user_message_id.startswith("msg_")
    assert turn.message_id.startswith("msg_")


def test_ids_are_random() -> None:
    """Nobody can guess a neighbour's: they neither repeat nor count."""
    ids = [random_id() for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert all(1 <= number <= MAX_ID for number in ids)
    # Of uniform ids below 2^53, a thousand that all lie below 2^52 would be a wonder.
    assert max(ids) > MAX_ID // 2


def test_an_id_is_never_given_twice() -> None:
    """A number that a kept or an open conversation has is drawn again."""
    kept = store(ids=iter([7, 1, 2, 7, 8, 3, 4, 7, 8, 9, 5, 6]))
    first = committed(kept)
    open_one = begun(kept).turn.conversation_id

    assert (first, open_one, begun(kept).turn.conversation_id) == ("7", "8", "9")


def test_a_turns_two_messages_differ() -> None:
    """The question and the answer never have one id."""
    turn = begun(store(ids=iter([1, 5, 5, 5, 6]))).turn

    assert (turn.user_message_id, turn.message_id) == ("msg_5", "msg_6")


# Turns


def test_a_committed_turn_is_the_next_ones_history() -> None:
    """Question and answers, in order, turn after turn, under one id."""
    kept = store()
    conversation = committed(kept, question="1", answer="2")
    assert committed(kept, conversation, question="3", answer="4") == conversation

    assert [message.text for message in history(kept, conversation)] == ["1", "2", "3", "4"]


def test_a_new_conversation_has_no_past() -> None:
    """No history, no upstream's id, and the user that the client named."""
    opened = done(store().begin(ACME, AGENT, None, "user_1"))

    assert (opened.history, opened.upstream_ids, opened.turn.user_id) == ((), {}, "user_1")


def test_a_new_conversation_cannot_be_seen_before_its_first_commit() -> None:
    """Not even by its owner: it does not exist yet."""
    kept = store()
    opened = begun(kept)
    assert code(kept, ACME, AGENT, opened.turn.conversation_id) is ErrorCode.CONVERSATION_NOT_FOUND

    done(kept.commit(opened, said("hi"), [answered("hello")], "up", None))
    assert len(history(kept, opened.turn.conversation_id)) == 2


def test_a_new_conversation_that_failed_never_was() -> None:
    """An abandoned first turn leaves nothing to be found."""
    kept = store()
    opened = begun(kept)
    done(kept.abandon(opened))

    assert code(kept, ACME, AGENT, opened.turn.conversation_id) is ErrorCode.CONVERSATION_NOT_FOUND


def test_an_abandoned_turn_leaves_the_conversation_as_it_was() -> None:
    """And free for the next turn."""
    kept = store()
    conversation = committed(kept)
    before = history(kept, conversation)

    opened = begun(kept, conversation)
    opened.upstream_ids["up"] = "theirs"
    done(kept.abandon(opened))

    after = begun(kept, conversation)
    assert (after.history, after.upstream_ids) == (before, {})


def test_abandoning_after_the_commit_does_nothing() -> None:
    """A `finally` may always abandon."""
    kept = store()
    opened = begun(kept)
    done(kept.commit(opened, said("hi"), [answered("hello")], "up", None))
    done(kept.abandon(opened))
    done(kept.abandon(opened))

    assert len(history(kept, opened.turn.conversation_id)) == 2


def test_a_late_abandon_does_not_end_the_next_turn() -> None:
    """It ends its own turn only."""
    kept = store()
    first = begun(kept)
    done(kept.commit(first, said("hi"), [answered("hello")], "up", None))
    begun(kept, first.turn.conversation_id)
    done(kept.abandon(first))

    found = code(kept, ACME, AGENT, first.turn.conversation_id)
    assert found is ErrorCode.CONVERSATION_BUSY


@pytest.mark.parametrize("end", ["commit", "abandon"])
def test_a_turn_is_committed_once(end: str) -> None:
    """A second commit, or one after an abandon, is a bug of the caller and writes nothing."""
    kept = store()
    conversation = committed(kept)
    opened = begun(kept, conversation)
    if end == "commit":
        done(kept.commit(opened, said("3"), [answered("4")], "up", None))
    else:
        done(kept.abandon(opened))
    before = history(kept, conversation)

    with pytest.raises(ValueError, match="has ended"):
        done(kept.commit(opened, said("5"), [answered("6")], "up", None))

    assert history(kept, conversation) == before


def test_one_turn_at_a_time() -> None:
    """The second of two at once is told that the conversation is busy, until the first ends."""
    kept = store()
    conversation = committed(kept)
    first = begun(kept, conversation)

    assert code(kept, ACME, AGENT, conversation) is ErrorCode.CONVERSATION_BUSY
    assert code(kept, ACME, AGENT, conversation) is ErrorCode.CONVERSATION_BUSY

    done(kept.abandon(first))
    begun(kept, conversation)


def test_other_conversations_are_not_busy() -> None:
    """An owner may hold turns in many."""
    kept = store()
    one, other = committed(kept), committed(kept)
    begun(kept, one)

    assert begun(kept, other).turn.conversation_id == other


# Owners


@pytest.mark.parametrize(
    ("owner", "stranger"),
    [
        (Owner("acme"), Owner("other")),
        (Owner("acme"), Owner(None, "https://www.acme.com")),
        (Owner("acme"), Owner(None)),
        (Owner(None, "https://www.acme.com"), Owner(None, "https://evil.example")),
        (Owner(None, "https://www.acme.com"), Owner(None)),
        (Owner(None, "https://www.acme.com"), Owner("acme")),
        (Owner(None), Owner("acme")),
    ],
)
def test_another_owners_conversation_does_not_exist(owner: Owner, stranger: Owner) -> None:
    """Another workspace or origin finds nothing, not even that it is busy."""
    kept = store()
    opened = begun(kept, owner=owner)
    done(kept.commit(opened, said("hi"), [answered("hello")], "up", None))
    conversation = opened.turn.conversation_id

    assert code(kept, stranger, AGENT, conversation) is ErrorCode.CONVERSATION_NOT_FOUND
    begun(kept, conversation, owner)
    assert code(kept, stranger, AGENT, conversation) is ErrorCode.CONVERSATION_NOT_FOUND


def test_another_agents_conversation_does_not_exist() -> None:
    """Nor does it within the workspace."""
    kept = store()
    conversation = committed(kept)

    assert code(kept, ACME, AGENT + 1, conversation) is ErrorCode.CONVERSATION_NOT_FOUND


def test_an_unknown_conversation_does_not_exist() -> None:
    """An id that was never given."""
    assert code(store(), ACME, AGENT, "42") is ErrorCode.CONVERSATION_NOT_FOUND


def test_with_a_key_the_origin_does_not_matter() -> None:
    """A workspace's conversation goes on from wherever its key is used."""
    kept = store()
    opened = begun(kept, owner=Owner("acme", "https://a.example"))
    done(kept.commit(opened, said("hi"), [answered("hello")], "up", None))

    assert len(history(kept, opened.turn.conversation_id, Owner("acme", "https://b.example"))) == 2


def test_the_user_is_who_began() -> None:
    """A later turn's user id is ignored, also where the first had none."""
    kept = store()
    for first, later in [("user_1", "user_2"), ("user_1", None), (None, "user_2")]:
        opened = done(kept.begin(ACME, AGENT, None, first))
        done(kept.commit(opened, said("hi"), [answered("hello")], "up", None))

        again = done(kept.begin(ACME, AGENT, opened.turn.conversation_id, later))
        assert again.turn.user_id == first


# Upstreams' ids


def test_the_id_of_the_upstream_that_answered_last_is_kept() -> None:
    """One that gave no id this time keeps its own; the others have missed a turn."""
    kept = store()
    conversation = committed(kept)
    for upstream, theirs, known in [
        ("a", "a1", {"a": "a1"}),
        ("a", None, {"a": "a1"}),
        ("b", "b1", {"b": "b1"}),
        ("a", "a2", {"a": "a2"}),
        ("c", None, {}),
    ]:
        opened = begun(kept, conversation)
        done(kept.commit(opened, said("q"), [answered("a")], upstream, theirs))
        after = begun(kept, conversation)
        done(kept.abandon(after))

        assert after.upstream_ids == known


# Bounds


def test_the_size_is_bounded() -> None:
    """Ten thousand conversations of 1 KiB and more, in a store of 1 MiB: the newest are there."""
    kept = store(max_size=1 << 20)
    tracemalloc.start()
    try:
        ids = [committed(kept, question=f"{n}" + "q" * 500, answer="a" * 500) for n in range(10000)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    ids_size = 10000 * 120
    assert size - ids_size < 1.25 * (1 << 20)
    assert len(history(kept, ids[-1])) == 2
    assert len(history(kept, ids[-300])) == 2
    assert code(kept, ACME, AGENT, ids[0]) is ErrorCode.CONVERSATION_NOT_FOUND


def test_the_oldest_used_goes_first() -> None:
    """A turn, even one that is abandoned, makes a conversation young again."""
    kept = store(max_size=10_000)
    first, second = committed(kept), committed(kept)
    history(kept, first)
    committed(kept, question="x" * 7000)

    assert len(history(kept, first)) == 2
    assert code(kept, ACME, AGENT, second) is ErrorCode.CONVERSATION_NOT_FOUND


def test_a_conversation_pushed_out_during_a_turn_comes_back_whole() -> None:
    """The turn that is running has it all, and its commit writes it all."""
    kept = store(max_size=10_000)
    conversation = committed(kept, question="1", answer="2")
    opened = begun(kept, conversation)
    committed(kept, question="x" * 7500)
    assert code(kept, ACME, AGENT, conversation) is ErrorCode.CONVERSATION_NOT_FOUND

    done(kept.commit(opened, said("3"), [answered("4")], "up", None))

    assert [message.text for message in history(kept, conversation)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("known", [False, True])
def test_a_conversation_larger_than_the_store_is_not_kept(known: bool) -> None:
    """It goes as a whole; the others and the turn itself are not disturbed."""
    kept = store(max_size=10_000)
    other = committed(kept)
    conversation = committed(kept) if known else None

    conversation = committed(kept, conversation, question="x" * 20_000)

    assert code(kept, ACME, AGENT, conversation) is ErrorCode.CONVERSATION_NOT_FOUND
    assert len(history(kept, other)) == 2


def test_tool_arguments_count() -> None:
    """A call's arguments take memory like any text."""
    kept = store(max_size=10_000)
    call = ToolCall("call_1", "look_up", {"items": [{"text": "x" * 100} for _ in range(100)]})
    opened = begun(kept)
    answer = Message(Role.ASSISTANT, "", (call,))
    done(kept.commit(opened, said("hi"), [answer], "up", None))

    found = code(kept, ACME, AGENT, opened.turn.conversation_id)
    assert found is ErrorCode.CONVERSATION_NOT_FOUND


def test_what_upstreams_call_it_counts() -> None:
    """An upstream that names conversations at length does not get more room than others."""
    kept = MemoryStore(10_000, 10)
    for _ in range(100):
        opened = done(kept.begin(ACME, AGENT, None, None))
        done(kept.commit(opened, said("q"), [answered("a")], "up", "x" * 4_000))

    assert len(kept._kept) <= 2


def test_messages_are_bounded() -> None:
    """The newest stay, from a question on."""
    kept = store(max_messages=5)
    conversation = committed(kept, question="q0", answer="a0")
    for n in range(1, 10):
        committed(kept, conversation, question=f"q{n}", answer=f"a{n}")

    texts = [message.text for message in history(kept, conversation)]
    assert texts == ["q8", "a8", "q9", "a9"]


USER, CALL, TOOL, ANSWER = (
    said("q"),
    Message(Role.ASSISTANT, "", (ToolCall("call_1", "look_up", {}),)),
    Message(Role.TOOL, "{}", call_id="call_1"),
    answered("a"),
)


@pytest.mark.parametrize(
    ("most", "kept"),
    [
        (7, 6),
        (6, 6),
        (5, 2),  # would begin with the call
        (4, 2),  # would begin with the tool's result, whose call is gone
        (3, 2),  # would begin with an answer
        (2, 2),
        (1, 0),  # nothing but an answer
    ],
)
def test_history_never_begins_within_a_tool_round(most: int, kept: int) -> None:
    """It begins with a user's message, or there is none."""
    messages = (USER, CALL, TOOL, ANSWER, USER, ANSWER)

    assert newest(messages, most) == messages[len(messages) - kept :]


def test_no_history_is_no_history() -> None:
    """Nothing to trim."""
    assert newest((), 5) == ()
