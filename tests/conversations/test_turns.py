"""Turns, on every store: begun, then committed or abandoned, and nothing in between."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.conversations.access import Scope
from gateway.conversations.store import Change
from gateway.conversations.turns import Opened
from gateway.core.conversation import MAX_ID, Owner, Place, Role
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, TextDelta, Usage
from gateway.core.turn import ChatRequest
from tests.conversations.desk import ANYBODY, Desk, answer, ask, code, retry
from tests.conversations.records import ACME, NOW

ELSEWHERE = [
    Scope(Place(Owner("other"), ACME.agent)),
    Scope(Place(Owner(None), ACME.agent)),
    Scope(Place(Owner(None, "acme"), ACME.agent)),
    Scope(Place(ACME.owner, ACME.agent + 1)),
]


async def refused(desk: Desk, request: ChatRequest, scope: Scope = ANYBODY) -> ErrorCode:
    """The error of a turn that must not begin."""
    with pytest.raises(GatewayError) as caught:
        await desk.begin(request, scope)
    return code(caught.value)


# Begin and end


async def test_a_turn_is_kept_with_its_question(desk: Desk) -> None:
    """Both messages, under the ids that the client was told, and all that is known of them."""
    opened = await desk.begin(ask("Where is it?", user_id="user_1"))
    desk.now += 500
    said = replace(
        answer(TextDelta("There."), conversation="theirs"), usage=Usage(1, 2), message="their_msg"
    )
    await desk.turns.commit(opened, said)

    found, (question, kept) = await desk.row(opened), await desk.kept(opened)
    assert (question.role, question.text, question.created) == (Role.USER, "Where is it?", NOW)
    assert (kept.role, kept.text, kept.created) == (Role.ASSISTANT, "There.", NOW + 500)
    assert opened.turn.user_message_id == f"msg_{question.id}"
    assert opened.turn.message_id == f"msg_{kept.id}"
    assert opened.turn.conversation_id == str(found.id)
    assert (kept.finish, kept.usage, kept.model) == (FinishReason.STOP, Usage(1, 2), "m")
    assert (kept.upstream, kept.upstream_conversation) == ("main", "theirs")
    assert kept.upstream_message == "their_msg"
    assert (found.user_id, found.created, found.updated) == ("user_1", NOW, NOW + 500)
    assert (found.length, found.version, found.place) == (2, 1, ACME)


async def test_turns_follow_each_other(desk: Desk) -> None:
    """The next one begins with what was said before, its own question last."""
    first = await desk.say(ask("1"), TextDelta("2"))
    opened = await desk.begin(ask("3", first))
    assert [said.text for said in opened.messages] == ["1", "2", "3"]
    await desk.turns.commit(opened, answer(TextDelta("4")))

    assert await desk.texts(first) == ["1", "2", "3", "4"]
    assert [said.position for said in await desk.kept(first)] == [0, 1, 2, 3]
    assert (await desk.row(first)).length == 4


async def test_a_turn_begins_with_the_newest_that_was_said(desk: Desk) -> None:
    """So many messages as were asked for; the others stay where they are."""
    first = await desk.say(ask("0"))
    for n in range(1, 5):
        await desk.say(ask(str(n), first))
    opened = await desk.turns.begin(ANYBODY, ask("5", first), limit=3)
    assert isinstance(opened, Opened)
    assert [said.text for said in opened.messages] == ["a", "4", "a", "5"]
    await desk.turns.commit(opened, answer())

    assert await desk.texts(first) == ["0", "a", "1", "a", "2", "a", "3", "a", "4", "a", "5", "a"]


async def test_nothing_of_a_turn_is_seen_before_its_commit(desk: Desk) -> None:
    """Neither a new conversation, nor a question in one that exists."""
    opened = await desk.begin(ask())
    with pytest.raises(GatewayError):
        await desk.row(opened)
    await desk.turns.commit(opened, answer())

    await desk.begin(ask("more", opened))
    assert await desk.texts(opened) == ["q", "a"]


async def test_an_abandoned_turn_leaves_no_trace(desk: Desk) -> None:
    """The conversation is as before and free; a new one never was."""
    first = await desk.say(ask())
    before = await desk.row(first), await desk.kept(first)
    opened, fresh = await desk.begin(ask("more", first)), await desk.begin(ask("new"))
    for each in (opened, fresh, opened):
        await desk.turns.abandon(each)

    assert (await desk.row(first), await desk.kept(first)) == before
    assert await refused(desk, ask("x", fresh)) is ErrorCode.CONVERSATION_NOT_FOUND
    await desk.say(ask("again", first))


async def test_to_abandon_what_was_committed_is_nothing(desk: Desk) -> None:
    """A late end does not free the next turn's conversation either."""
    first = await desk.say(ask())
    second = await desk.begin(ask("more", first))
    await desk.turns.abandon(first)
    assert await refused(desk, ask("x", first)) is ErrorCode.CONVERSATION_BUSY

    await desk.turns.commit(second, answer())
    await desk.turns.abandon(second)
    assert len(await desk.kept(first)) == 4


@pytest.mark.parametrize("first", ["message", "retry"])
@pytest.mark.parametrize("second", ["message", "retry"])
async def test_one_turn_at_a_time(desk: Desk, first: str, second: str) -> None:
    """Whatever the second of two wants to do, it is told that the conversation is busy."""
    known = await desk.say(ask())
    wants = {"message": ask("more", known), "retry": retry(known)}
    opened = await desk.begin(wants[first])
    assert await refused(desk, wants[second]) is ErrorCode.CONVERSATION_BUSY

    await desk.turns.abandon(opened)
    await desk.begin(wants[second])


async def test_of_many_turns_at_once_one_begins(desk: Desk) -> None:
    """The others are told so at once."""
    known = await desk.say(ask())
    begun = await asyncio.gather(
        *(desk.begin(ask(str(n), known)) for n in range(20)), return_exceptions=True
    )

    errors = [each for each in begun if isinstance(each, BaseException)]
    assert {code(error) for error in errors} == {ErrorCode.CONVERSATION_BUSY}
    assert len(errors) == 19


async def test_what_was_changed_from_outside_is_not_overwritten(desk: Desk) -> None:
    """A turn whose claim was lost is not kept, and says so; the conversation is free again."""
    known = await desk.say(ask())
    opened = await desk.begin(ask("mine", known))
    found = await desk.row(known)
    outside = replace(found, version=found.version + 1)
    await desk.store.save(Change(conversation=outside, keep=2, messages=()), ())

    with pytest.raises(GatewayError) as caught:
        await desk.turns.commit(opened, answer())

    assert code(caught.value) is ErrorCode.CONVERSATION_BUSY
    assert await desk.texts(known) == ["q", "a"]
    await desk.say(ask("again", known))


# Who


@pytest.mark.parametrize("scope", ELSEWHERE, ids=str)
async def test_what_is_elsewhere_does_not_exist(desk: Desk, scope: Scope) -> None:
    """For any request, also while a turn runs in it: busy would tell that it is there."""
    known = await desk.say(ask())
    for request in (ask("more", known), ask(None, known), retry(known)):
        assert await refused(desk, request, scope) is ErrorCode.CONVERSATION_NOT_FOUND
    await desk.begin(ask("more", known))
    for request in (ask("more", known), ask(None, known), retry(known)):
        assert await refused(desk, request, scope) is ErrorCode.CONVERSATION_NOT_FOUND


async def test_a_stranger_does_not_close_a_conversation(desk: Desk) -> None:
    """A turn that was refused holds nothing."""
    known = await desk.say(ask())
    for scope in ELSEWHERE:
        await refused(desk, ask("more", known), scope)

    await desk.say(ask("more", known))


@pytest.mark.parametrize(
    "name", ["", "0", "-1", "42", "1.0", "abc", "٤٢", "1e3", " 1", str(MAX_ID + 1), "9" * 5000]
)
async def test_an_id_that_nobody_was_given_is_of_no_conversation(desk: Desk, name: str) -> None:
    """Whatever it looks like, it is just not found."""
    await desk.say(ask())
    request = replace(ask(), conversation_id=name)

    assert await refused(desk, request) is ErrorCode.CONVERSATION_NOT_FOUND
    assert await refused(desk, request) is ErrorCode.CONVERSATION_NOT_FOUND


async def test_the_user_is_who_began(desk: Desk) -> None:
    """A later request's user is ignored, also where the first had none."""
    for first, other in [("user_1", "user_2"), ("user_1", None), (None, "user_2")]:
        known = await desk.say(ask(user_id=first))
        opened = await desk.begin(ask("more", known, user_id=other))
        assert opened.turn.user_id == first
        await desk.turns.commit(opened, answer())
        assert (await desk.row(known)).user_id == first


async def test_a_user_sees_only_what_is_the_users(desk: Desk) -> None:
    """A caller bound to a user finds neither another's conversations nor nobody's."""
    whose = {user: await desk.say(ask(user_id=user)) for user in ("user_1", "user_2", None)}
    scope = Scope(ACME, "user_1")
    for user, known in whose.items():
        if user != "user_1":
            found = await refused(desk, ask("more", known), scope)
            assert found is ErrorCode.CONVERSATION_NOT_FOUND

    opened = await desk.begin(ask("more", whose["user_1"]), scope)
    assert await refused(desk, ask("x", opened), scope) is ErrorCode.CONVERSATION_BUSY
    bound = Scope(ACME, "user_2")
    assert await refused(desk, ask("x", opened), bound) is ErrorCode.CONVERSATION_NOT_FOUND


# Titles and ids


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("Where is my order?", "Where is my order?"),
        ("  Where\n\n is\tmy\0 order? ", "Where is my order?"),
        ("注文は どこ？", "注文は どこ？"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
        ("x" * 78 + " yy", "x" * 78 + "…"),
        ("\n" * 79 + "deep down", "deep down"),
        ("\u202eevil\u2028", "evil"),
        ("\0", ""),
    ],
    ids=range(9),
)
async def test_a_conversation_is_called_after_its_first_message(
    desk: Desk, message: str, title: str
) -> None:
    """On one line, printable, and not too long; later messages do not change it."""
    known = await desk.say(ask(message))
    await desk.say(ask("Something else", known))

    assert (await desk.row(known)).title == title


async def test_a_turns_ids_differ(desk: Desk) -> None:
    """An answer is never called like a message of its conversation."""
    desk.ids = iter([9, 5, 5, 5, 6])
    first = await desk.say(ask())
    assert (first.turn.user_message_id, first.turn.message_id) == ("msg_5", "msg_6")

    desk.ids = iter([7, 5, 6, 7, 8])
    second = await desk.say(ask("more", first))
    assert (second.turn.user_message_id, second.turn.message_id) == ("msg_7", "msg_8")


# Upstreams' ids


async def test_the_id_of_the_upstream_that_answered_is_kept(desk: Desk) -> None:
    """And no other's: they have missed this turn."""
    known = await desk.say(ask())
    for upstream, theirs, expected in [
        ("a", "a1", {"a/": "a1"}),
        ("b", "b1", {"b/": "b1"}),
        ("a", "a2", {"a/": "a2"}),
        ("c", None, {}),
    ]:
        opened = await desk.begin(ask("more", known))
        await desk.turns.commit(opened, answer(upstream=upstream, conversation=theirs))

        assert (await desk.row(known)).upstream_ids == expected
