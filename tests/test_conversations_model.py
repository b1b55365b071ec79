"""The store in memory against a model of a few lines, over any sequence of turns."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.conversations.memory import MemoryStore
from gateway.conversations.store import Opened, Owner
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import Message, Role
from tests.test_conversations_memory import done

MOST = 6

OWNERS = st.sampled_from([Owner("acme"), Owner("other"), Owner(None, "https://www.acme.com")])
AGENTS = st.integers(1, 2)
USERS = st.none() | st.sampled_from(["user_1", "user_2"])
UPSTREAMS = st.sampled_from(["a", "b"])
THEIRS = st.none() | st.sampled_from(["x", "y"])
ANSWERS = st.lists(st.sampled_from([Role.ASSISTANT, Role.TOOL]), min_size=1, max_size=4)


@dataclass
class Known:
    owner: Owner
    agent: int
    user_id: str | None
    texts: list[tuple[Role, str]] = field(default_factory=list)
    upstream_ids: dict[str, str] = field(default_factory=dict)
    visible: bool = False
    turn: Opened | None = None

    def add(self, messages: list[tuple[Role, str]]) -> None:
        self.texts = (self.texts + messages)[-MOST:]
        while self.texts and self.texts[0][0] is not Role.USER:
            del self.texts[0]


class Turns(RuleBasedStateMachine):
    """Owners, agents and users at random, in the conversations that there are."""

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(1 << 30, MOST)
        self.known: dict[str, Known] = {}
        self.spoken = 0

    @rule(target=opened, owner=OWNERS, agent=AGENTS, user_id=USERS)
    def open_new(self, owner: Owner, agent: int, user_id: str | None) -> Opened:
        turn = done(self.store.begin(owner, agent, None, user_id))

        assert turn.turn.conversation_id not in self.known
        self.known[turn.turn.conversation_id] = known = Known(owner, agent, user_id, turn=turn)
        self.matches(turn, known)
        return turn

    @rule(target=opened, earlier=opened, owner=OWNERS, agent=AGENTS, user_id=USERS)
    def open_known(self, earlier: Opened, owner: Owner, agent: int, user_id: str | None) -> Opened:
        known = self.known[earlier.turn.conversation_id]
        expected = self.error(known, owner, agent)
        if expected is None:
            known.turn = self.begin(earlier, owner, agent, user_id)
            self.matches(known.turn, known)
            return known.turn
        with pytest.raises(GatewayError) as caught:
            self.begin(earlier, owner, agent, user_id)
        assert caught.value.code is expected
        return earlier

    @rule(turn=opened, upstream=UPSTREAMS, theirs=THEIRS, roles=ANSWERS)
    def commit(self, turn: Opened, upstream: str, theirs: str | None, roles: list[Role]) -> None:
        known = self.known[turn.turn.conversation_id]
        question, *answers = [self.message(role) for role in (Role.USER, *roles)]
        writing = self.store.commit(turn, question, answers, upstream, theirs)
        if known.turn is not turn:
            with pytest.raises(ValueError, match="ended"):
                done(writing)
            return
        done(writing)
        known.turn, known.visible = None, True
        known.add([(message.role, message.text) for message in (question, *answers)])
        kept = theirs or known.upstream_ids.get(upstream)
        known.upstream_ids = {upstream: kept} if kept else {}

    @rule(turn=opened)
    def abandon(self, turn: Opened) -> None:
        done(self.store.abandon(turn))
        known = self.known[turn.turn.conversation_id]
        if known.turn is turn:
            known.turn = None

    @invariant()
    def what_is_free_can_be_read(self) -> None:
        for conversation_id, known in self.known.items():
            if known.visible and known.turn is None:
                turn = done(self.store.begin(known.owner, known.agent, conversation_id, None))
                self.matches(turn, known)
                done(self.store.abandon(turn))

    def begin(self, earlier: Opened, owner: Owner, agent: int, user_id: str | None) -> Opened:
        return done(self.store.begin(owner, agent, earlier.turn.conversation_id, user_id))

    def message(self, role: Role) -> Message:
        self.spoken += 1
        return Message(role, str(self.spoken))

    def error(self, known: Known, owner: Owner, agent: int) -> ErrorCode | None:
        if not known.visible or (known.owner, known.agent) != (owner, agent):
            return ErrorCode.CONVERSATION_NOT_FOUND
        return ErrorCode.CONVERSATION_BUSY if known.turn else None

    def matches(self, turn: Opened, known: Known) -> None:
        assert [(message.role, message.text) for message in turn.history] == known.texts
        assert turn.upstream_ids == known.upstream_ids
        assert turn.turn.user_id == known.user_id


TestTurns = Turns.TestCase
TestTurns.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
