"""Answers given anew: the conversation is cut at the question, once there is another answer."""

import pytest
from msgspec.structs import replace

from gateway.conversations.turns import Opened
from gateway.core.conversation import Role
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import TextDelta, ToolCall
from tests.conversations.desk import ANYBODY, Desk, answer, ask, code, retry
from tests.conversations.records import answer as stored
from tests.conversations.records import new

CALL = ToolCall("call_1", "look_up", {"order": 7})


async def three(desk: Desk) -> list[Opened]:
    """A conversation of three turns."""
    first = await desk.say(ask("1"), TextDelta("one"))
    return [
        first,
        await desk.say(ask("2", first), TextDelta("two")),
        await desk.say(ask("3", first), TextDelta("three")),
    ]


async def refused(desk: Desk, turn: Opened, name: str) -> ErrorCode:
    with pytest.raises(GatewayError) as caught:
        await desk.begin(ask(None, turn, retry_of=name))
    return code(caught.value)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (2, ["1", "one", "2", "two", "3", "anew"]),
        (1, ["1", "one", "2", "anew"]),
        (0, ["1", "anew"]),
    ],
)
async def test_a_retry_cuts_at_the_question(desk: Desk, which: int, expected: list[str]) -> None:
    """The question stays, under its own id; all that came after it goes."""
    turns = await three(desk)
    opened = await desk.begin(retry(turns[which]))
    assert [said.text for said in opened.messages] == expected[:-1]
    assert opened.turn.user_message_id == turns[which].turn.user_message_id
    assert opened.turn.message_id != turns[which].turn.message_id
    assert opened.retried is not None
    assert f"msg_{opened.retried.id}" == turns[which].turn.message_id
    await desk.turns.commit(opened, answer(TextDelta("anew")))

    assert await desk.texts(opened) == expected
    found = await desk.row(opened)
    assert (found.length, found.version) == (len(expected), 4)
    assert [said.position for said in await desk.kept(opened)] == [*range(len(expected))]


async def test_the_prefix_is_optional(desk: Desk) -> None:
    """`msg_789` and `789` are one message."""
    first, *_ = await three(desk)
    name = (first.turn.message_id or "").removeprefix("msg_")
    opened = await desk.begin(ask(None, first, retry_of=name))

    assert opened.retried is not None
    assert opened.retried.text == "one"


async def test_a_failed_retry_leaves_the_old_branch(desk: Desk) -> None:
    """Message by message, and free for the next turn."""
    turns = await three(desk)
    before = await desk.row(turns[0]), await desk.kept(turns[0])
    await desk.turns.abandon(await desk.begin(retry(turns[0])))
    assert (await desk.row(turns[0]), await desk.kept(turns[0])) == before

    await desk.say(ask("4", turns[0]))
    assert len(await desk.kept(turns[0])) == 8


async def test_the_old_branch_is_there_until_the_commit(desk: Desk) -> None:
    """A reader sees it whole while the new answer is on its way."""
    turns = await three(desk)
    opened = await desk.begin(retry(turns[1]))
    assert await desk.texts(turns[0]) == ["1", "one", "2", "two", "3", "three"]

    await desk.turns.commit(opened, answer())
    assert await desk.texts(turns[0]) == ["1", "one", "2", "a"]


async def test_what_was_retried_is_gone(desk: Desk) -> None:
    """Neither the old answer nor what followed it can be retried; the new one can."""
    turns = await three(desk)
    opened = await desk.say(retry(turns[1]), TextDelta("anew"))
    for gone in turns[1:]:
        name = gone.turn.message_id or ""
        assert await refused(desk, turns[0], name) is ErrorCode.RETRY_MESSAGE_NOT_FOUND

    await desk.say(retry(opened), TextDelta("once more"))
    assert await desk.texts(turns[0]) == ["1", "one", "2", "once more"]


@pytest.mark.parametrize("which", ["call", "answer"])
async def test_a_retry_goes_back_over_tool_rounds(desk: Desk, which: str) -> None:
    """To the user's message, whichever of the turn's answers is named."""
    first = await desk.say(ask("1"), TextDelta("one"))
    calls = await desk.say(ask("2", first), CALL)
    await desk.give(calls, "call_1", "shipped")
    ended = await desk.say(ask(None, calls), TextDelta("two"))
    named = calls if which == "call" else ended
    opened = await desk.begin(retry(named))

    assert [said.text for said in opened.messages] == ["1", "one", "2"]
    assert opened.turn.user_message_id == calls.turn.user_message_id
    await desk.turns.commit(opened, answer(TextDelta("anew")))
    assert await desk.texts(first) == ["1", "one", "2", "anew"]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_question_is_found_behind_any_number_of_rounds(desk: Desk, limit: int) -> None:
    """Also where a turn has more messages than a request reads."""
    turn = first = await desk.say(ask("1"), CALL)
    for n in range(2, 6):
        await desk.give(turn, f"call_{n - 1}")
        turn = await desk.say(ask(None, first), ToolCall(f"call_{n}", "look_up", {}))
    opened = await desk.turns.begin(ANYBODY, retry(turn), limit=limit)

    assert isinstance(opened, Opened)
    assert [said.role for said in opened.messages] == [Role.USER]
    await desk.turns.commit(opened, answer())
    assert await desk.texts(first) == ["1", "a"]


async def test_only_an_answer_can_be_retried(desk: Desk) -> None:
    """Not a user's message, not another conversation's, and nothing that is no id at all."""
    (first, *_), other = await three(desk), await desk.say(ask())
    for name in (
        first.turn.user_message_id or "",
        other.turn.message_id or "",
        "",
        "msg_",
        "msg_0",
        "msg_99999",
        "msg_msg_2",
        "abc",
        "9" * 400,
    ):
        assert await refused(desk, first, name) is ErrorCode.RETRY_MESSAGE_NOT_FOUND

    await desk.say(ask("4", first))


async def test_an_answer_to_nobody_cannot_be_retried(desk: Desk) -> None:
    """One without a user's message before it, as another program may have written it."""
    await desk.store.save(new(500, stored(0, TextDelta("Welcome!"), number=501)), ())
    request = replace(ask(None, retry_of="msg_501"), conversation_id="500")
    with pytest.raises(GatewayError) as caught:
        await desk.begin(request)

    assert code(caught.value) is ErrorCode.RETRY_NO_USER_MESSAGE


async def test_a_retry_may_call_tools(desk: Desk) -> None:
    """And goes on from their results like any turn."""
    turns = await three(desk)
    opened = await desk.say(retry(turns[1]), CALL)
    await desk.give(opened, "call_1", 7)
    await desk.say(ask(None, opened), TextDelta("seven"))

    assert await desk.texts(opened) == ["1", "one", "2", "", "seven"]
