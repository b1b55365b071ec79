"""Conversations against a model of plain lists, over any sequence of what clients may do."""

import asyncio
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
)

from gateway.conversations.memory import MemoryStore
from gateway.conversations.sqlite import SqliteStore
from gateway.conversations.store import Store
from gateway.conversations.turns import Opened
from gateway.core.conversation import Feedback, Part, Role, StoredMessage
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import TextDelta, ToolCall
from gateway.core.turn import ChatRequest, ToolAnswer
from tests.conversations.desk import ANYBODY, TOOL_CALL_TTL, Desk, answer, ask
from tests.conversations.records import ACME, EVERYTHING

T = TypeVar("T")

ENDS = st.sampled_from(["commit", "commit", "commit", "break off", "abandon"])
CALLS = st.integers(0, 2)
SPANS = st.sampled_from([1, 2, 3, 100])
INDEX = st.integers(0, 20)


@dataclass
class Said:
    """One message."""

    name: str
    role: Role
    text: str
    calls: list[str] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    complete: bool = True
    created: int = 0
    feedback: Feedback | None = None


@dataclass
class Chat:
    """One conversation."""

    opened: Opened
    said: list[Said]
    updated: int

    @property
    def number(self) -> int:
        return self.opened.conversation.id


class Conversations(RuleBasedStateMachine):
    """What clients do, in the conversations that there are."""

    chats = Bundle("chats")
    backend: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.made()
        self.do(self.store.open())
        self.desk = Desk(self.store)
        self.known: list[Chat] = []
        self.words = 0

    def made(self) -> Store:
        if self.backend == "sqlite":
            return SqliteStore(Path(self.folder.name) / "conversations.db")
        return MemoryStore(1 << 30)

    def teardown(self) -> None:
        self.do(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    def do(self, coroutine: Coroutine[object, object, T]) -> T:
        return self.runner.run(coroutine)

    # What clients do

    # Few, for what goes wrong takes many turns of one conversation.
    @precondition(lambda self: len(self.known) < 3)
    @rule(target=chats, end=ENDS, calls=CALLS)
    def begin(self, end: str, calls: int) -> object:
        chat = Chat(self.opened(ask(self.word()), 100), [], 0)
        self.end(chat, chat.opened, 0, end, calls)
        if not chat.said:
            return multiple()
        self.known.append(chat)
        return chat

    @rule(chat=chats, end=ENDS, calls=CALLS, limit=SPANS)
    def go_on(self, chat: Chat, end: str, calls: int, limit: int) -> None:
        opened = self.opened(ask(self.word(), chat.opened), limit)
        self.sees(chat, opened, len(chat.said), limit)
        self.end(chat, opened, len(chat.said), end, calls)

    @rule(chat=chats, end=ENDS, calls=CALLS, limit=SPANS)
    def go_on_from_results(self, chat: Chat, end: str, calls: int, limit: int) -> None:
        last = chat.said[-1]
        request = ask(None, chat.opened)
        late = self.desk.now - last.created > TOOL_CALL_TTL
        missing = len(last.outputs) < len(last.calls) and not late
        if not (last.calls and last.complete and last.outputs) or missing:
            assert self.refused(request) is ErrorCode.INVALID_BODY
            return
        opened = self.opened(request, limit)
        assert opened.messages[-1].outputs.keys() == last.outputs.keys()
        self.end(chat, opened, len(chat.said), end, calls)

    @rule(chat=chats, which=INDEX, end=ENDS, calls=CALLS, limit=SPANS)
    def retry(self, chat: Chat, which: int, end: str, calls: int, limit: int) -> None:
        index = which % len(chat.said)
        named = chat.said[index]
        name = named.name if which % 2 else named.name.removeprefix("msg_")
        request = ask(None, chat.opened, retry_of=name)
        if named.role is Role.USER:
            assert self.refused(request) is ErrorCode.RETRY_MESSAGE_NOT_FOUND
            return
        while chat.said[index].role is not Role.USER:
            index -= 1
        opened = self.opened(request, limit)
        assert opened.messages[-1].text == chat.said[index].text
        assert opened.turn.user_message_id == chat.said[index].name
        self.end(chat, opened, index + 1, end, calls)

    @rule(chat=chats, other=chats, which=INDEX)
    def retry_what_is_elsewhere(self, chat: Chat, other: Chat, which: int) -> None:
        name = other.said[which % len(other.said)].name
        if chat is not other:
            request = ask(None, chat.opened, retry_of=name)
            assert self.refused(request) is ErrorCode.RETRY_MESSAGE_NOT_FOUND

    @rule(chat=chats, which=INDEX, output=st.integers(0, 1), settle=st.booleans())
    def give_result(self, chat: Chat, which: int, output: int, *, settle: bool) -> None:
        calls = [(said, call) for said in chat.said for call in said.calls]
        if not calls:
            return
        said, call = calls[-1 - which % len(calls)]
        late = self.desk.now - said.created > TOOL_CALL_TTL
        waits = said is chat.said[-1] and said.complete and not late
        taking = self.desk.results.pending(ANYBODY, str(chat.number), ToolAnswer(call, output))
        if not waits or said.outputs.get(call, output) != output:
            with pytest.raises(GatewayError) as caught:
                self.do(taking)
            assert caught.value.code is ErrorCode.TOOL_CALL_NOT_FOUND
            return
        pending = self.do(taking)
        assert pending.repeated == (call in said.outputs)
        if settle:
            self.do(self.desk.results.settle(pending))
            said.outputs[call] = output
        self.do(self.desk.results.abandon(pending))

    @rule(chat=chats, given=CALLS, late=st.booleans(), end=ENDS, calls=CALLS)
    def go_round(self, chat: Chat, given: int, *, late: bool, end: str, calls: int) -> None:
        """Some of the results, perhaps too late for the others, and on."""
        for which in range(given):
            self.give_result(chat, which, 0, settle=True)
        if late:
            self.desk.now += TOOL_CALL_TTL + 1
        self.go_on_from_results(chat, end, calls, 100)

    @rule(chat=chats, rounds=st.integers(2, 4))
    def go_rounds(self, chat: Chat, rounds: int) -> None:
        for _ in range(rounds):
            self.go_round(chat, 2, late=False, end="commit", calls=1)

    @rule(chat=chats, which=INDEX, given=st.none() | st.sampled_from(Feedback))
    def give_feedback(self, chat: Chat, which: int, given: Feedback | None) -> None:
        said = chat.said[which % len(chat.said)]
        marking = self.desk.access.mark(ANYBODY, str(chat.number), said.name, given)
        if said.role is Role.USER:
            with pytest.raises(GatewayError) as caught:
                self.do(marking)
            assert caught.value.code is ErrorCode.MESSAGE_NOT_ASSISTANT
            return
        assert self.do(marking).feedback is given
        said.feedback = given

    @rule(late=st.sampled_from([1, 1000, TOOL_CALL_TTL + 1]))
    def wait(self, late: int) -> None:
        self.desk.now += late

    @rule()
    def start_again(self) -> None:
        """What is on disk is all there is."""
        if self.backend != "memory":
            self.do(self.store.close())
            self.store = self.desk.access.store = self.made()
            self.do(self.store.open())

    # What there is

    @invariant()
    def messages_are_as_they_were_said(self) -> None:
        for chat in self.known:
            found = self.do(self.store.load(ACME, chat.number, EVERYTHING))
            assert found is not None
            row, messages = found
            assert (row.length, row.updated) == (len(chat.said), chat.updated)
            assert [said.position for said in messages] == [*range(len(chat.said))]
            assert [self.read(said) for said in messages] == chat.said

    @invariant()
    def the_newest_activity_comes_first(self) -> None:
        listed = self.do(self.store.listed(ACME, None, None, 1000))
        expected = sorted(((chat.updated, chat.number) for chat in self.known), reverse=True)

        assert [(each.updated, each.id) for each in listed.conversations] == expected
        assert listed.total == len(expected)

    # How it is done

    def word(self) -> str:
        self.words += 1
        return f"word {self.words}"

    def opened(self, request: ChatRequest, limit: int) -> Opened:
        opened = self.do(self.desk.turns.begin(ANYBODY, request, limit=limit))
        assert isinstance(opened, Opened)
        return opened

    def refused(self, request: ChatRequest) -> ErrorCode:
        with pytest.raises(GatewayError) as caught:
            self.do(self.desk.begin(request))
        return caught.value.code

    def sees(self, chat: Chat, opened: Opened, length: int, limit: int) -> None:
        """The turn begins with the newest of what was said, and its question."""
        before = [self.read(said) for said in opened.messages[:-1]]
        assert before == chat.said[max(0, length - limit) : length]

    def end(self, chat: Chat, opened: Opened, keep: int, how: str, calls: int) -> None:
        if how == "abandon":
            self.do(self.desk.turns.abandon(opened))
            return
        text, names = self.word(), [f"call_{self.words}_{n}" for n in range(calls)]
        asked = [self.read(said) for said in opened.messages if said.position >= keep]
        parts: list[Part] = [TextDelta(text), *(ToolCall(name, "f", {}) for name in names)]
        reply = answer(*parts)
        if how == "break off":
            reply = answer(*parts, finish=None)
        self.do(self.desk.turns.commit(opened, reply))
        name = opened.turn.message_id or ""
        complete = how == "commit"
        said = Said(name, Role.ASSISTANT, text, names, complete=complete, created=self.desk.now)
        chat.said = [*chat.said[:keep], *asked, said]
        chat.updated = self.desk.now

    def read(self, said: StoredMessage) -> Said:
        complete = said.finish is not None or said.role is Role.USER
        outputs = {call: output.output for call, output in said.outputs.items()}
        return Said(
            f"msg_{said.id}",
            said.role,
            said.text,
            [*said.calls],
            {call: output for call, output in outputs.items() if isinstance(output, int)},
            complete,
            said.created,
            said.feedback,
        )


class InMemory(Conversations):
    backend = "memory"


class OnDisk(Conversations):
    backend = "sqlite"


TestInMemory = InMemory.TestCase
TestInMemory.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestOnDisk = OnDisk.TestCase
TestOnDisk.settings = settings(
    deadline=None,
    max_examples=25,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
