"""Answers, on every store: those that broke off, and what users think of them."""

import pytest

from gateway.conversations.access import Scope
from gateway.core.conversation import Feedback, Owner, Place
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import TextDelta, ToolCall
from tests.conversations.desk import ANYBODY, Desk, answer, ask, code, retry
from tests.conversations.records import ACME

CALL = ToolCall("call_1", "look_up", {"order": 7})
ELSEWHERE = Scope(Place(Owner("other"), ACME.agent))


# Answers that broke off


async def test_an_incomplete_answer_is_marked(desk: Desk) -> None:
    """It has no finish, and the conversation goes on from it."""
    opened = await desk.begin(ask())
    await desk.turns.commit(opened, answer(TextDelta("I th"), finish=None))
    assert [said.finish for said in await desk.kept(opened)] == [None, None]

    await desk.say(ask("Go on", opened))
    assert await desk.texts(opened) == ["q", "I th", "Go on", "a"]


async def test_an_incomplete_answers_calls_wait_for_nothing(desk: Desk) -> None:
    """A client has not been told to run them."""
    opened = await desk.begin(ask())
    await desk.turns.commit(opened, answer(CALL, finish=None))

    with pytest.raises(GatewayError) as caught:
        await desk.begin(ask(None, opened))
    assert code(caught.value) is ErrorCode.INVALID_BODY
    with pytest.raises(GatewayError) as caught:
        await desk.give(opened, CALL.call_id)
    assert code(caught.value) is ErrorCode.TOOL_CALL_NOT_FOUND


async def test_an_incomplete_answer_can_be_retried(desk: Desk) -> None:
    """Like any other."""
    opened = await desk.begin(ask())
    await desk.turns.commit(opened, answer(TextDelta("I th"), finish=None))
    await desk.say(retry(opened), TextDelta("I think so"))

    assert await desk.texts(opened) == ["q", "I think so"]


# Feedback


async def test_feedback_is_given_to_an_answer(desk: Desk) -> None:
    """And can be taken back; the message comes back with it."""
    known = await desk.say(ask(), TextDelta("yes"))
    name = known.turn.message_id or ""
    for given in (Feedback.POSITIVE, Feedback.NEGATIVE, None):
        for called in (name, name.removeprefix("msg_")):
            marked = await desk.access.mark(
                ANYBODY, known.turn.conversation_id or "", called, given
            )
            assert (marked.text, marked.feedback) == ("yes", given)
            assert (await desk.kept(known))[1] == marked


async def test_feedback_is_for_answers_that_are_there(desk: Desk) -> None:
    """Not for questions, nor for what is elsewhere, or nowhere."""
    known, other = await desk.say(ask()), await desk.say(ask())
    here = known.turn.conversation_id or ""
    for scope, conversation, message, expected in [
        (ANYBODY, here, known.turn.user_message_id, ErrorCode.MESSAGE_NOT_ASSISTANT),
        (ANYBODY, here, other.turn.message_id, ErrorCode.MESSAGE_NOT_FOUND),
        (ANYBODY, here, "msg_", ErrorCode.MESSAGE_NOT_FOUND),
        (ANYBODY, here, "msg_msg_2", ErrorCode.MESSAGE_NOT_FOUND),
        (ANYBODY, "777", known.turn.message_id, ErrorCode.CONVERSATION_NOT_FOUND),
        (ELSEWHERE, here, known.turn.message_id, ErrorCode.CONVERSATION_NOT_FOUND),
        (Scope(ACME, "user_1"), here, known.turn.message_id, ErrorCode.CONVERSATION_NOT_FOUND),
    ]:
        with pytest.raises(GatewayError) as caught:
            await desk.access.mark(scope, conversation, message or "", Feedback.POSITIVE)
        assert code(caught.value) is expected

    assert {said.feedback for said in await desk.kept(known)} == {None}
