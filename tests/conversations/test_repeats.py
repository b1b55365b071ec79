"""Requests with an Idempotency-Key: run once, answered as often as they are asked."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.conversations.access import Scope
from gateway.conversations.repeats import Asked
from gateway.conversations.store import Change
from gateway.core.conversation import Owner, Place, message_name
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import TextDelta, ToolCall, ToolOutput
from gateway.core.turn import ChatRequest
from tests.conversations.desk import ANYBODY, REPEAT_TTL, Desk, answer, ask, code, retry
from tests.conversations.records import ACME, NOW

KEY = Asked(subject="key:acme-web", key="k-1", fingerprint="f")
CALL = ToolCall("call_1", "look_up", {})


async def refused(desk: Desk, request: ChatRequest, asked: Asked = KEY) -> ErrorCode:
    with pytest.raises(GatewayError) as caught:
        await desk.turns.begin(ANYBODY, request, limit=100, asked=asked)
    return code(caught.value)


async def test_the_same_request_is_answered_the_same(desk: Desk) -> None:
    """With the same ids and parts, as often as it is asked; nothing is run or written."""
    first = await desk.say(ask("hi", user_id="user_1"), TextDelta("hello"), asked=KEY)
    before = await desk.row(first), await desk.kept(first)
    for _ in range(3):
        repeated = await desk.repeat(ask("hi", user_id="user_1"), KEY)
        assert repeated.turn == first.turn
        assert repeated.message.parts == (TextDelta("hello"),)

    assert (await desk.row(first), await desk.kept(first)) == before


async def test_without_a_key_it_is_another_request(desk: Desk) -> None:
    """The same words twice are two turns."""
    first, second = await desk.say(ask("hi")), await desk.say(ask("hi"))

    assert first.turn.conversation_id != second.turn.conversation_id


async def test_a_turn_in_mid_conversation_is_answered_again(desk: Desk) -> None:
    """As it was, though the conversation has gone on since."""
    first = await desk.say(ask("1"))
    second = await desk.say(ask("2", first), TextDelta("two"), asked=KEY)
    await desk.say(ask("3", first))

    repeated = await desk.repeat(ask("2", first), KEY)
    assert repeated.turn == second.turn
    assert repeated.message.text == "two"


async def test_a_repeat_does_not_wait_for_the_conversation(desk: Desk) -> None:
    """It only reads, also while another turn runs; and leaves nothing closed."""
    first = await desk.say(ask("1"), asked=KEY)
    opened = await desk.begin(ask("2", first))
    assert (await desk.repeat(ask("1"), KEY)).turn == first.turn
    await desk.turns.commit(opened, answer())

    assert (await desk.repeat(ask("1"), KEY)).turn == first.turn
    await desk.say(ask("3", first))


async def test_a_retry_is_answered_again(desk: Desk) -> None:
    """It does not cut the conversation twice."""
    first = await desk.say(ask("1"), TextDelta("one"))
    again = await desk.say(retry(first), TextDelta("anew"), asked=KEY)

    assert (await desk.repeat(retry(first), KEY)).message.text == "anew"
    assert await desk.texts(again) == ["1", "anew"]


@pytest.mark.parametrize("rounds", [1, 2, 5])
async def test_an_answer_after_tool_rounds_names_its_question(desk: Desk, rounds: int) -> None:
    """However many rounds lie between them."""
    turn = first = await desk.say(ask("1"), CALL)
    for n in range(rounds):
        await desk.give(turn, f"call_{n + 1}")
        call = ToolCall(f"call_{n + 2}", "look_up", {})
        turn = await desk.say(ask(None, first), call, asked=replace(KEY, key=f"k-{n}"))

    repeated = await desk.repeat(ask(None, first), replace(KEY, key=f"k-{rounds - 1}"))
    assert repeated.turn == turn.turn
    assert repeated.turn.user_message_id == first.turn.user_message_id


async def test_the_results_of_its_calls_are_no_part_of_an_answer(desk: Desk) -> None:
    """They were handed in after it was given; those of tools that the agent ran itself are."""
    own = ToolCall("own", "search", {}), ToolOutput("own", "found")
    first = await desk.say(ask("1"), *own, CALL, asked=KEY)
    await desk.give(first, CALL.call_id, {"known": True})

    assert (await desk.repeat(ask("1"), KEY)).message.parts == (*own, CALL)
    assert len((await desk.kept(first))[-1].parts) == 4


async def test_a_key_is_for_one_request(desk: Desk) -> None:
    """Another request with it is refused, and the first is still known."""
    await desk.say(ask("1"), asked=KEY)
    other = replace(KEY, fingerprint="g")
    assert await refused(desk, ask("2"), other) is ErrorCode.INVALID_BODY
    assert await refused(desk, ask("2"), other) is ErrorCode.INVALID_BODY

    await desk.repeat(ask("1"), KEY)


async def test_a_key_is_one_clients(desk: Desk) -> None:
    """Another client's key of the same name is another key."""
    first = await desk.say(ask("1"), asked=KEY)
    second = await desk.say(ask("1"), asked=replace(KEY, subject="key:other"))

    assert first.turn.conversation_id != second.turn.conversation_id


async def test_a_request_that_still_runs_is_not_run_again(desk: Desk) -> None:
    """The second is told so, also one that would be another conversation's."""
    opened = await desk.begin(ask("1"), asked=KEY)
    assert await refused(desk, ask("1")) is ErrorCode.REQUEST_RUNNING
    await desk.turns.commit(opened, answer())

    assert (await desk.repeat(ask("1"), KEY)).turn == opened.turn


async def test_of_many_at_once_one_runs(desk: Desk) -> None:
    """The others are told that it does."""
    begun = await asyncio.gather(
        *(desk.begin(ask("1"), asked=KEY) for _ in range(20)), return_exceptions=True
    )

    errors = [each for each in begun if isinstance(each, BaseException)]
    assert {code(error) for error in errors} == {ErrorCode.REQUEST_RUNNING}
    assert len(errors) == 19


async def test_a_request_that_failed_runs_again(desk: Desk) -> None:
    """Its key was not answered."""
    await desk.turns.abandon(await desk.begin(ask("1"), asked=KEY))

    await desk.say(ask("1"), asked=KEY)


async def test_a_request_that_could_not_begin_frees_its_key(desk: Desk) -> None:
    """A refused request is no answer, and is not running either."""
    first = await desk.say(ask("1"))
    busy = await desk.begin(ask("2", first))
    assert await refused(desk, ask("3", first)) is ErrorCode.CONVERSATION_BUSY
    await desk.turns.abandon(busy)

    await desk.say(ask("3", first), asked=KEY)


async def test_an_answer_that_broke_off_answers_no_key(desk: Desk) -> None:
    """It is kept, but whoever asks again wants a whole one."""
    opened = await desk.begin(ask("1"), asked=KEY)
    await desk.turns.commit(opened, answer(TextDelta("I th"), finish=None))

    await desk.say(ask("1"), asked=KEY)


async def test_a_key_expires(desk: Desk) -> None:
    """Then the request is a new one, and answers its key anew."""
    first = await desk.say(ask("1"), asked=KEY)
    desk.now = NOW + REPEAT_TTL - 1
    await desk.repeat(ask("1"), KEY)
    desk.now = NOW + REPEAT_TTL + 1
    second = await desk.say(ask("1"), asked=KEY)

    assert second.turn.conversation_id != first.turn.conversation_id
    assert (await desk.repeat(ask("1"), KEY)).turn == second.turn


async def test_an_answer_that_was_cut_away_is_not_found(desk: Desk) -> None:
    """A retry has replaced it: neither is it invented, nor run again into the conversation."""
    first = await desk.say(ask("1"))
    await desk.say(ask("2", first), asked=KEY)
    await desk.say(retry(first))

    assert await refused(desk, ask("2", first)) is ErrorCode.MESSAGE_NOT_FOUND
    assert await desk.texts(first) == ["1", "a"]


async def test_the_answer_of_a_conversation_that_is_gone_is_not_found(desk: Desk) -> None:
    """It was pruned."""
    await desk.say(ask("1"), asked=KEY)
    await desk.store.prune(NOW + 1, None, NOW)

    assert await refused(desk, ask("1")) is ErrorCode.CONVERSATION_NOT_FOUND


async def test_a_key_does_not_open_what_is_elsewhere(desk: Desk) -> None:
    """An answer is only for who may see its conversation."""
    await desk.say(ask("1"), asked=KEY)
    for scope in (Scope(Place(Owner("other"), ACME.agent)), Scope(ACME, "user_1")):
        with pytest.raises(GatewayError) as caught:
            await desk.turns.begin(scope, ask("1"), limit=100, asked=KEY)
        assert code(caught.value) is ErrorCode.CONVERSATION_NOT_FOUND


async def test_an_answer_to_nobody_is_answered_again(desk: Desk) -> None:
    """Without the question that it does not have."""
    first = await desk.say(ask("1"), asked=KEY)
    found, (_, said) = await desk.row(first), await desk.kept(first)
    alone = replace(found, version=found.version + 1, length=1)
    change = Change(conversation=alone, keep=0, messages=(replace(said, position=0),))
    await desk.store.save(change, ())

    repeated = await desk.repeat(ask("1"), KEY)
    assert repeated.turn.user_message_id is None
    assert repeated.turn.message_id == message_name(said.id)


@pytest.mark.parametrize("other", [replace(KEY, subject="x"), replace(KEY, key="y")])
def test_keys_claim_what_no_conversation_claims(other: Asked) -> None:
    """Names above all ids, and each its own."""
    assert 1 << 53 <= KEY.name <= 1 << 62
    assert 1 << 53 <= other.name <= 1 << 62
    assert KEY.name != other.name
    assert KEY.name == replace(KEY, fingerprint="g").name
