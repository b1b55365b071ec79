"""Results of client-side tools, on every store: taken once, and gone on from."""

import pytest

from gateway.conversations.access import Scope
from gateway.conversations.results import Pending
from gateway.conversations.turns import Opened
from gateway.core.conversation import Feedback, Owner, Place, Role
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, Json, TextDelta, ToolCall, ToolOutput
from gateway.core.turn import ToolAnswer
from tests.conversations.desk import ANYBODY, TOOL_CALL_TTL, Desk, answer, ask, code
from tests.conversations.records import ACME, NOW

ONE = ToolCall("call_1", "look_up", {"order": 7})
TWO = ToolCall("call_2", "look_up", {"order": 8}, said_id="call_1")
SHIPPED: Json = {"status": "shipped", "at": [1, None]}


async def pending(
    desk: Desk, turn: Opened, call_id: str, output: Json = None, scope: Scope = ANYBODY
) -> Pending:
    given = ToolAnswer(call_id, output)
    return await desk.results.pending(scope, turn.turn.conversation_id or "", given)


async def refused(
    desk: Desk, turn: Opened, call_id: str, output: Json = None, scope: Scope = ANYBODY
) -> ErrorCode:
    with pytest.raises(GatewayError) as caught:
        await pending(desk, turn, call_id, output, scope)
    return code(caught.value)


async def continuation_refused(desk: Desk, turn: Opened) -> str:
    with pytest.raises(GatewayError) as caught:
        await desk.begin(ask(None, turn))
    assert caught.value.code is ErrorCode.INVALID_BODY
    assert caught.value.details == {"message": caught.value.message}
    return caught.value.message


# Taking a result


async def test_a_result_is_kept_with_its_call(desk: Desk) -> None:
    """In the message that called, behind its other parts; the conversation is no younger."""
    turn = await desk.say(ask(), TextDelta("Let me see."), ONE)
    before = await desk.row(turn)
    desk.now += 1000
    taken = await pending(desk, turn, "call_1", SHIPPED)
    assert (taken.call, taken.result, taken.repeated) == (ONE, ToolOutput("call_1", SHIPPED), False)
    assert (await desk.kept(turn))[1].outputs == {}
    await desk.results.settle(taken)

    _, said = await desk.kept(turn)
    assert said.parts == (TextDelta("Let me see."), ONE, ToolOutput("call_1", SHIPPED))
    assert said.finish is FinishReason.TOOL_CALLS
    after = await desk.row(turn)
    assert (after.updated, after.length) == (before.updated, before.length)
    assert after.version == before.version + 1


async def test_feedback_meanwhile_stays(desk: Desk) -> None:
    """It may be given while an upstream is asked to take the result."""
    turn = await desk.say(ask(), ONE)
    taken = await pending(desk, turn, "call_1", SHIPPED)
    await desk.store.mark(turn.conversation.id, turn.answer, Feedback.POSITIVE)
    await desk.results.settle(taken)

    _, said = await desk.kept(turn)
    assert said.feedback is Feedback.POSITIVE
    assert list(said.outputs) == ["call_1"]


async def test_upstreams_ids_outlive_a_result(desk: Desk) -> None:
    """The upstream that called the tool is still who answered last."""
    opened = await desk.begin(ask())
    await desk.turns.commit(opened, answer(ONE, conversation="theirs"))
    await desk.give(opened, "call_1")

    assert (await desk.row(opened)).upstream_ids == {"main/": "theirs"}


async def test_results_come_in_any_order(desk: Desk) -> None:
    """Each with its own call, whatever upstreams call those."""
    turn = await desk.say(ask(), ONE, TWO)
    await desk.give(turn, "call_2", "second")
    await desk.give(turn, "call_1", "first")

    _, said = await desk.kept(turn)
    assert said.outputs == {
        "call_1": ToolOutput("call_1", "first"),
        "call_2": ToolOutput("call_2", "second"),
    }


async def test_an_abandoned_result_was_never_given(desk: Desk) -> None:
    """The call waits on; to abandon after settling is nothing."""
    turn = await desk.say(ask(), ONE)
    await desk.results.abandon(await pending(desk, turn, "call_1", "lost"))
    taken = await pending(desk, turn, "call_1", "kept")
    await desk.results.settle(taken)
    await desk.results.abandon(taken)

    assert (await desk.kept(turn))[1].outputs == {"call_1": ToolOutput("call_1", "kept")}


@pytest.mark.parametrize("output", [None, "", SHIPPED, False])
async def test_the_same_result_may_be_given_again(desk: Desk, output: Json) -> None:
    """A client that did not see the answer asks once more; nothing is written twice."""
    turn = await desk.say(ask(), ONE)
    await desk.give(turn, "call_1", output)
    before = await desk.row(turn), await desk.kept(turn)
    again = await pending(desk, turn, "call_1", output)
    assert again.repeated
    await desk.results.settle(again)

    assert (await desk.row(turn), await desk.kept(turn)) == before
    await desk.say(ask(None, turn))


@pytest.mark.parametrize(
    ("first", "other"), [("a", "b"), (None, ""), (0, None), ([], {}), ("1", 1)]
)
async def test_another_result_is_refused(desk: Desk, first: Json, other: Json) -> None:
    """A call has one result, the first; the conversation is free after it."""
    turn = await desk.say(ask(), ONE)
    await desk.give(turn, "call_1", first)

    assert await refused(desk, turn, "call_1", other) is ErrorCode.TOOL_CALL_NOT_FOUND
    assert (await desk.kept(turn))[1].outputs["call_1"].output == first


async def test_a_call_expires(desk: Desk) -> None:
    """Nobody waits for its result for ever."""
    turn = await desk.say(ask(), ONE, TWO)
    desk.now = NOW + TOOL_CALL_TTL
    await desk.give(turn, "call_1")
    desk.now += 1

    assert await refused(desk, turn, "call_2") is ErrorCode.TOOL_CALL_NOT_FOUND
    assert await refused(desk, turn, "call_1") is ErrorCode.TOOL_CALL_NOT_FOUND


async def test_only_the_last_messages_calls_wait(desk: Desk) -> None:
    """Once the conversation has gone on, nobody does."""
    turn = await desk.say(ask(), ONE)
    await desk.say(ask("Never mind", turn))

    assert await refused(desk, turn, "call_1") is ErrorCode.TOOL_CALL_NOT_FOUND


@pytest.mark.parametrize("call_id", ["call_9", "", "CALL_1", "call_1 ", "look_up"])
async def test_an_unknown_call_waits_for_nothing(desk: Desk, call_id: str) -> None:
    """And the conversation is free after it."""
    turn = await desk.say(ask(), ONE)
    assert await refused(desk, turn, call_id) is ErrorCode.TOOL_CALL_NOT_FOUND

    await desk.give(turn, "call_1")


async def test_what_an_upstream_calls_a_call_is_not_its_id(desk: Desk) -> None:
    """Clients know it by ours."""
    turn = await desk.say(ask(), ToolCall("call_1x", "f", {}, said_id="theirs"))

    assert await refused(desk, turn, "theirs") is ErrorCode.TOOL_CALL_NOT_FOUND


async def test_server_run_tools_wait_for_no_client(desk: Desk) -> None:
    """Their results are there, and the answer is complete."""
    ran = ONE, ToolOutput("call_1", SHIPPED), TextDelta("It has shipped.")
    turn = await desk.say(ask(), *ran)

    assert await refused(desk, turn, "call_1", SHIPPED) is ErrorCode.TOOL_CALL_NOT_FOUND
    assert "no tool's result waits here" in await continuation_refused(desk, turn)


async def test_results_keep_out_of_running_turns(desk: Desk) -> None:
    """And turns out of a result that is being taken."""
    turn = await desk.say(ask(), ONE)
    opened = await desk.begin(ask("more", turn))
    assert await refused(desk, turn, "call_1") is ErrorCode.CONVERSATION_BUSY
    await desk.turns.abandon(opened)

    taken = await pending(desk, turn, "call_1")
    assert await refused(desk, turn, "call_1") is ErrorCode.CONVERSATION_BUSY
    with pytest.raises(GatewayError) as caught:
        await desk.begin(ask("more", turn))
    assert code(caught.value) is ErrorCode.CONVERSATION_BUSY
    await desk.results.settle(taken)


async def test_a_result_of_what_is_elsewhere_is_not_found(desk: Desk) -> None:
    """Nor of another user's, nor of a conversation that never was."""
    turn = await desk.say(ask(user_id="user_1"), ONE)
    for scope in (
        Scope(Place(Owner("other"), ACME.agent)),
        Scope(Place(ACME.owner, 9)),
        Scope(ACME, "user_2"),
    ):
        found = await refused(desk, turn, "call_1", scope=scope)
        assert found is ErrorCode.CONVERSATION_NOT_FOUND
    fresh = await desk.begin(ask())
    assert await refused(desk, fresh, "call_1") is ErrorCode.CONVERSATION_NOT_FOUND

    taken = await pending(desk, turn, "call_1", scope=Scope(ACME, "user_1"))
    await desk.results.settle(taken)


# Going on from it


async def test_the_conversation_goes_on_from_the_results(desk: Desk) -> None:
    """Without a message: the answer follows the call, and the question is the user's last."""
    turn = await desk.say(ask("Where is it?"), ONE, TWO)
    await desk.give(turn, "call_1", "a")
    await desk.give(turn, "call_2", "b")
    opened = await desk.begin(ask(None, turn))
    assert opened.turn.user_message_id == turn.turn.user_message_id
    assert [said.role for said in opened.messages] == [Role.USER, Role.ASSISTANT]
    assert opened.messages[-1].outputs.keys() == {"call_1", "call_2"}
    await desk.turns.commit(opened, answer(TextDelta("There.")))

    assert await desk.texts(turn) == ["Where is it?", "", "There."]
    assert (await desk.row(turn)).length == 3


async def test_a_failed_continuation_can_be_tried_again(desk: Desk) -> None:
    """The results stay."""
    turn = await desk.say(ask(), ONE)
    await desk.give(turn, "call_1")
    await desk.turns.abandon(await desk.begin(ask(None, turn)))

    await desk.say(ask(None, turn))


async def test_several_rounds_follow_each_other(desk: Desk) -> None:
    """A continuation may call tools again; then its calls are the ones that wait."""
    turn = await desk.say(ask(), ONE)
    await desk.give(turn, "call_1")
    second = await desk.say(ask(None, turn), TWO)
    assert await refused(desk, turn, "call_1") is ErrorCode.TOOL_CALL_NOT_FOUND
    await continuation_refused(desk, turn)
    await desk.give(second, "call_2")
    await desk.say(ask(None, turn), TextDelta("done"))

    assert await desk.texts(turn) == ["q", "", "", "done"]


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_a_continuation_begins_with_its_question(desk: Desk, limit: int) -> None:
    """Though a turn of many rounds is longer than what is read of a conversation."""
    turn = await desk.say(ask("old"))
    await desk.say(ask("Where is it?", turn), ToolCall("call_0", "f", {}))
    for n in range(4):
        await desk.give(turn, f"call_{n}")
        await desk.say(ask(None, turn), ToolCall(f"call_{n + 1}", "f", {}))
    await desk.give(turn, "call_4")
    opened = await desk.turns.begin(ANYBODY, ask(None, turn), limit=limit)

    assert isinstance(opened, Opened)
    asked = [said.text for said in opened.messages if said.role is Role.USER]
    assert asked[-1] == "Where is it?"
    assert len(opened.messages) >= 6


async def test_every_call_needs_its_result(desk: Desk) -> None:
    """A client is told which are missing."""
    three = ToolCall("call_3", "f", {})
    turn = await desk.say(ask(), ONE, three, TWO)
    await desk.give(turn, "call_1")
    message = await continuation_refused(desk, turn)
    assert message == "these tool calls have no result yet: call_2, call_3"

    await desk.give(turn, "call_2")
    await desk.give(turn, "call_3")
    await desk.say(ask(None, turn))


async def test_expired_calls_need_no_result(desk: Desk) -> None:
    """The conversation goes on from those that came in time."""
    turn = await desk.say(ask(), ONE, TWO)
    await desk.give(turn, "call_1")
    desk.now += TOOL_CALL_TTL + 1

    await desk.say(ask(None, turn))


@pytest.mark.parametrize("late", [0, TOOL_CALL_TTL + 1])
async def test_without_a_result_there_is_nothing_to_go_on_from(desk: Desk, late: int) -> None:
    """Whether the calls still wait or not, and after an answer without any."""
    for part in (ONE, TextDelta("a")):
        turn = await desk.say(ask(), part)
        desk.now += late
        await continuation_refused(desk, turn)
        await desk.say(ask("Never mind", turn))


async def test_a_new_conversation_begins_with_a_message(desk: Desk) -> None:
    """There is nothing to go on from."""
    with pytest.raises(GatewayError) as caught:
        await desk.begin(ask(None))

    assert code(caught.value) is ErrorCode.INVALID_BODY


async def test_a_message_passes_over_waiting_calls(desk: Desk) -> None:
    """A user may say something else instead, with or without results."""
    turn = await desk.say(ask(), ONE, TWO)
    await desk.give(turn, "call_1")
    await desk.say(ask("Never mind", turn))

    assert await desk.texts(turn) == ["q", "", "Never mind", "a"]
