"""Conversations that clients tell anew each time, found again by what was said in them."""

import asyncio
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import pytest
from msgspec.structs import replace

from gateway.cli.store_export import Chosen, export
from gateway.conversations.access import Access
from gateway.conversations.guard import GuardedStore
from gateway.conversations.memory import MemoryStore
from gateway.conversations.store import Answered, Store, StoreError
from gateway.conversations.threads import Thread, Threads, fingerprint, is_thread
from gateway.core.conversation import Owner, Part, Place, Role
from gateway.core.events import (
    FinishReason,
    Json,
    Metadata,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
)
from gateway.core.turn import ChatRequest, Message, Reply
from gateway.wire import json
from tests.conversations.records import ACME, NOW
from tests.conversations.records import EVERYTHING as ALL

TTL = 60_000
CLIENTS_OWN = frozenset({TextDelta, ToolCall})
EVERYTHING = frozenset({TextDelta, ToolCall, ToolOutput})
CALL = ToolCall("call_0", "look_up", {"order": 1})


def user(text: str) -> Message:
    return Message(Role.USER, text)


def said(text: str, *calls: ToolCall) -> Message:
    return Message(Role.ASSISTANT, text, calls)


def result(text: str, call_id: str = "call_0") -> Message:
    return Message(Role.TOOL, text, call_id=call_id)


def ask(*history: Message, message: str | None = None, user_id: str | None = None) -> ChatRequest:
    return ChatRequest(agent="1", message=message, stream=True, history=history, user_id=user_id)


def replied(*parts: Part) -> Reply:
    return Reply(parts=list(parts), metadata=Metadata(), finish=FinishReason.STOP)


@dataclass(slots=True)
class Desk:
    """Threads over a store, with time standing still."""

    store: Store
    ids: Iterator[int]
    now: int = NOW

    @property
    def threads(self) -> Threads:
        return Threads(
            Access(self.store), ttl=TTL, mint=lambda: next(self.ids), clock=lambda: self.now
        )

    async def turn(
        self,
        asked: ChatRequest,
        *parts: Part,
        known_as: str = "456",
        replayed: frozenset[type] = CLIENTS_OWN,
    ) -> Thread:
        """A whole turn, answered by the target "main/77"."""
        thread = await self.threads.find(ACME, asked)
        await self.threads.keep(thread, replied(*parts), replayed, ("main/77", known_as))
        return thread

    async def known(self, asked: ChatRequest, place: Place = ACME) -> dict[str, str]:
        """What is known of the request's conversation."""
        thread = await self.threads.find(place, asked)
        await self.threads.release(thread)
        return dict(thread.conversation.upstream_ids)


@pytest.fixture
def desk(store: Store) -> Desk:
    """Over a store of each kind."""
    return Desk(store, count(1))


KNOWN = {"main/77": "456"}


async def test_found_by_what_was_said(desk: Desk) -> None:
    """By question and answer, and again after the next turn; a history that nobody knows is not."""
    await desk.turn(ask(message="1"), TextDelta("One"))
    second = ask(user("1"), said("One"), message="2")
    assert await desk.known(second) == KNOWN
    await desk.turn(second, TextDelta("Two"), known_as="457")

    third = ask(user("1"), said("One"), user("2"), said("Two"), message="3")
    assert await desk.known(third) == {"main/77": "457"}
    assert await desk.known(ask(user("1"), said("Other"), message="2")) == {}


async def test_one_that_has_moved_on(desk: Desk) -> None:
    """A history that something was said after leads nowhere: the upstream has heard more."""
    await desk.turn(ask(message="1"), TextDelta("One"))
    second = ask(user("1"), said("One"), message="2")
    await desk.turn(second, TextDelta("Two"))

    assert await desk.known(second) == {}


async def test_forgotten(desk: Desk) -> None:
    """A turn that was begun there and broke off: its history leads nowhere any more."""
    await desk.turn(ask(message="1"), TextDelta("One"))
    second = ask(user("1"), said("One"), message="2")
    thread = await desk.threads.find(ACME, second)
    await desk.threads.forget(thread)
    await desk.threads.release(thread)

    assert await desk.known(second) == {}


async def test_released(desk: Desk) -> None:
    """A turn that nobody was asked for leaves it as it was."""
    await desk.turn(ask(message="1"), TextDelta("One"))
    second = ask(user("1"), said("One"), message="2")
    assert await desk.known(second) == await desk.known(second) == KNOWN


async def test_two_at_once(desk: Desk) -> None:
    """One of them has it, and the others know nothing."""
    await desk.turn(ask(message="1"), TextDelta("One"))
    second = ask(user("1"), said("One"), message="2")
    found = await asyncio.gather(*(desk.threads.find(ACME, second) for _ in range(5)))
    assert [dict(thread.conversation.upstream_ids) for thread in found].count(KNOWN) == 1
    for thread in found:
        await desk.threads.release(thread)


async def test_it_expires(desk: Desk) -> None:
    """After the time that is set for it."""
    await desk.turn(ask(message="1"), TextDelta("One"))
    second = ask(user("1"), said("One"), message="2")
    desk.now += TTL - 1
    assert await desk.known(second) == KNOWN
    desk.now += 1
    assert await desk.known(second) == {}


async def test_whose_it_is(desk: Desk) -> None:
    """The same words with another owner, agent or user are another conversation."""
    await desk.turn(ask(message="1", user_id="ann"), TextDelta("One"))
    second = ask(user("1"), said("One"), message="2", user_id="ann")

    assert await desk.known(second) == KNOWN
    assert await desk.known(replace(second, user_id="bob")) == {}
    assert await desk.known(replace(second, user_id=None)) == {}
    assert await desk.known(second, Place(Owner("globex"), ACME.agent)) == {}
    assert await desk.known(second, Place(ACME.owner, ACME.agent + 1)) == {}


async def test_nothing_of_it_is_told(desk: Desk) -> None:
    """It is in no place that a client can name, and holds no text and no argument."""
    said_id = ToolCall("call_0_2", "look_up", {"secret": "sesame"}, said_id="call_0")
    await desk.turn(ask(message="open"), TextDelta("sesame"), said_id)
    (row,) = await desk.store.everything(None, 10)
    found = await desk.store.load(row.place, row.id, ALL)

    assert is_thread(row.place)
    assert not is_thread(ACME)
    assert (await desk.store.listed(ACME, None, None, 10)).total == 0
    assert found is not None
    assert [m.parts for m in found[1]] == [(ToolCall("call_0_2", "look_up", None, None, "call_0"),)]
    assert row.title is None
    sink = io.BytesIO()
    chosen = Chosen(agents=frozenset(), workspace=None, user=None, feedback=None, since=None)
    await export(desk.store, chosen, sink)
    assert sink.getvalue() == b""


async def test_a_tool_round(desk: Desk) -> None:
    """The results at the end are the upstream's to be told, by its own ids; JSON as what it is."""
    other = ToolCall("call_1", "look_up", {})
    renamed = ToolCall("call_0_2", "look_up", {}, said_id="call_0")
    await desk.turn(ask(message="1"), other, renamed)
    history = (user("1"), said("", other, renamed))
    both = ask(*history, result("[1]", "call_1"), result("42", "call_0_2"))
    thread = await desk.threads.find(ACME, both)

    assert thread.conversation.upstream_ids == KNOWN
    assert thread.results == {"call_1": [1], "call_0": "42"}
    await desk.threads.keep(thread, replied(TextDelta("Done")), CLIENTS_OWN, ("main/77", "456"))
    after = ask(*both.history, said("Done"), message="2")
    assert await desk.known(after) == KNOWN
    edited = [result("[2]", "call_1"), result("42", "call_0_2"), said("Done")]
    assert await desk.known(ask(*history, *edited, message="2")) == {}


UNFIT: dict[str, Sequence[Message]] = {
    "a result is missing": (result("1"),),
    "a result of no call of its": (result("1"), result("2", "call_9")),
    "no result, no question": (),
}


@pytest.mark.parametrize("case", UNFIT)
async def test_nothing_to_go_on_from(desk: Desk, case: str) -> None:
    """The upstream could not answer that: it is told everything."""
    calls = (CALL, ToolCall("call_1", "look_up", {}))
    await desk.turn(ask(message="1"), *calls)
    assert await desk.known(ask(user("1"), said("", *calls), *UNFIT[case])) == {}


async def test_a_question_instead_of_a_result(desk: Desk) -> None:
    """Goes on, also with the results of some of the calls, and where it is more than text."""
    calls = (CALL, ToolCall("call_1", "look_up", {}))
    await desk.turn(ask(message="1"), *calls)
    history = (user("1"), said("", *calls))
    image: Json = [{"type": "image_url"}]

    assert await desk.known(ask(*history, message="Never mind")) == KNOWN
    assert await desk.known(ask(*history, result("1"), message="And?")) == KNOWN
    assert await desk.known(ask(*history, replace(user("Look"), content=image))) == KNOWN


OUTPUT = ToolOutput("call_0", {"found": [1, 2]})


@pytest.mark.parametrize(
    ("replayed", "history"),
    [
        (CLIENTS_OWN, (said("Let me see. There."),)),
        (
            EVERYTHING,
            (said("Let me see.", CALL), result('{"found": [1, 2]}'), said("There.")),
        ),
        (frozenset({TextDelta}), (said("Let me see. There."),)),
    ],
    ids=["OpenAI", "AI SDK", "Sonzai"],
)
async def test_tools_that_the_upstream_ran(
    desk: Desk, replayed: frozenset[type], history: Sequence[Message]
) -> None:
    """Some clients tell of them, in steps; others have not heard of them."""
    parts = (ReasoningDelta("Hm"), TextDelta("Let me see."), CALL, OUTPUT, TextDelta("There."))
    await desk.turn(ask(message="1"), *parts, replayed=replayed)
    assert await desk.known(ask(user("1"), *history, message="2")) == KNOWN


def prints(*messages: Message) -> str:
    return fingerprint(ACME, None, messages)


def test_what_makes_no_difference() -> None:
    """How a client cuts an answer, lays out its text and its JSON, and its own instructions."""
    arguments: Json = {"b": 1.0, "a": [{"d": 1, "c": 2.5}]}
    plain = prints(user("q"), said("One two", ToolCall("c", "f", arguments)), result("{}", "c"))

    assert plain == prints(
        Message(Role.SYSTEM, "Be brief."),
        user("q"),
        said("One"),
        said(""),
        said("\n\ttwo", ToolCall("c", "f", '{"a":[{"c":2.5,"d":1.0}],"b":1}')),
        result("{ }", "c"),
    )


def nested(times: int) -> Json:
    """JSON in a string of JSON, again and again, each as deep as JSON may be."""
    value: Json = "the end"
    for _ in range(times):
        for _ in range(json.MAX_DEPTH - 1):
            value = [value]
        value = json.dumps(value).decode()
    return value


@pytest.mark.parametrize("value", [1e300, -1e300, 2.0**64, 18446744073709551615, nested(8)])
async def test_any_json_of_tools(desk: Desk, value: Json) -> None:
    """Numbers beyond 64 bits and strings in strings: nothing fails of them."""
    called, text = ToolCall("c", "f", {"n": value}), json.dumps({"n": value}).decode()
    history = [user("1"), said("", called), result(text, "c")]
    await desk.turn(ask(*history), TextDelta("Done"))

    assert await desk.known(ask(*history, said("Done"), message="2")) == KNOWN


async def test_a_user_by_any_name(desk: Desk) -> None:
    """Who is no user here, but is named to the upstream, has a conversation of their own too."""
    ann = replace(ask(message="1"), params={"user": "ann@example.com"})
    await desk.turn(ann, TextDelta("One"))
    later = ask(user("1"), said("One"), message="2")

    assert await desk.known(replace(later, params={"user": "bob@example.com"})) == {}
    assert await desk.known(later) == {}
    assert await desk.known(replace(later, params=ann.params)) == KNOWN


def test_what_makes_one() -> None:
    """What was said, by whom, and in which order."""
    histories = [
        (user("q"), said("a")),
        (user("q "), said("a")),
        (user("q"), said("b")),
        (user("q"), user("a")),
        (user("a"), said("q")),
        (user("q"), said("a"), user("q"), said("a")),
        (user("q"), said("a", CALL)),
        (user("q"), said("a", replace(CALL, call_id="call_1"))),
        (user("q"), said("a", replace(CALL, name="g"))),
        (user("q"), said("a", replace(CALL, arguments={"order": 2}))),
        (user("q"), said("a", replace(CALL, arguments="{order"))),
        (user("q"), said("a", CALL), result("1")),
        (user("q"), said("a", CALL), result("2")),
        (user("q"), said("a", CALL), result("1", "call_1")),
    ]
    assert len({prints(*history) for history in histories}) == len(histories)


class _Down(MemoryStore):
    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        raise StoreError("down")


async def test_a_store_that_is_down() -> None:
    """Knows nothing, and no turn fails of it."""
    failed: list[str] = []
    store = GuardedStore(_Down(1 << 20), 1.0, lambda operation, _: failed.append(operation))
    desk = Desk(store, count(1))
    thread = await desk.turn(ask(user("1"), said("One"), message="2"), TextDelta("Two"))

    assert thread.conversation.upstream_ids == {}
    assert failed == ["answered"]
