"""A turn's hold on a target: the slot comes back once, and the breaker hears what became of it."""

from enum import Enum, auto

import pytest

from gateway.config.routes import RouteTarget
from gateway.core.errors import ErrorCode
from gateway.targets.breaker import Breaker, State
from gateway.targets.lease import Lease
from gateway.targets.states import Checked, TargetState
from tests.targets.making import rules, target

OPEN_FOR = 10.0
TARGET = target(breaker=rules(failures=2, open_for=OPEN_FOR))


class Told(Enum):
    """What a code says of the target."""

    FAILED = auto()
    FAILED_FOR_SURE = auto()
    ALIVE = auto()
    NOTHING = auto()


# All of them: a new code has to be thought about.
CODES = {
    # The request was to blame, and the target said so.
    ErrorCode.UPSTREAM_REJECTED: Told.ALIVE,
    ErrorCode.AGENT_NOT_FOUND: Told.ALIVE,
    ErrorCode.CONVERSATION_NOT_FOUND: Told.ALIVE,
    ErrorCode.CONVERSATION_BUSY: Told.ALIVE,
    ErrorCode.MESSAGE_NOT_FOUND: Told.ALIVE,
    ErrorCode.MESSAGE_NOT_ASSISTANT: Told.ALIVE,
    ErrorCode.RETRY_MESSAGE_NOT_FOUND: Told.ALIVE,
    ErrorCode.RETRY_NO_USER_MESSAGE: Told.ALIVE,
    ErrorCode.TOOL_CALL_NOT_FOUND: Told.ALIVE,
    # The target was.
    ErrorCode.UPSTREAM_REFUSED: Told.FAILED_FOR_SURE,
    ErrorCode.UPSTREAM_FAILED: Told.FAILED,
    ErrorCode.UPSTREAM_MALFORMED: Told.FAILED,
    ErrorCode.UPSTREAM_OVERSIZED: Told.FAILED,
    ErrorCode.UPSTREAM_TRUNCATED: Told.FAILED,
    ErrorCode.UPSTREAM_UNREACHABLE: Told.FAILED,
    ErrorCode.CONNECT_TIMEOUT: Told.FAILED,
    ErrorCode.FIRST_EVENT_TIMEOUT: Told.FAILED,
    ErrorCode.IDLE_TIMEOUT: Told.FAILED,
    ErrorCode.TOTAL_TIMEOUT: Told.FAILED,
    # It is well, but has enough to do: others are served.
    ErrorCode.UPSTREAM_RATE_LIMITED: Told.NOTHING,
    # Its clients are to hear that, and not that it is left alone.
    ErrorCode.UPSTREAM_CREDITS: Told.NOTHING,
    # Ours.
    ErrorCode.UPSTREAM_DOWN: Told.NOTHING,
    ErrorCode.UPSTREAM_BUSY: Told.NOTHING,
    ErrorCode.UNAVAILABLE: Told.NOTHING,
    ErrorCode.RESTARTING: Told.NOTHING,
    ErrorCode.INTERNAL: Told.NOTHING,
    # Said before any target is asked.
    ErrorCode.INVALID_BODY: Told.NOTHING,
    ErrorCode.INVALID_JSON: Told.NOTHING,
    ErrorCode.BODY_TOO_LARGE: Told.NOTHING,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: Told.NOTHING,
    ErrorCode.KEY_MISSING: Told.NOTHING,
    ErrorCode.KEY_INVALID: Told.NOTHING,
    ErrorCode.KEY_EXPIRED: Told.NOTHING,
    ErrorCode.FORBIDDEN: Told.NOTHING,
    ErrorCode.MODEL_NOT_ALLOWED: Told.NOTHING,
    ErrorCode.REQUEST_RUNNING: Told.NOTHING,
    ErrorCode.PATH_NOT_FOUND: Told.NOTHING,
    ErrorCode.METHOD_NOT_ALLOWED: Told.NOTHING,
    ErrorCode.RATE_LIMITED: Told.NOTHING,
}

# With one failure of two in a row behind it: after one turn that ends so, and after another failure
# to tell success from nothing.
CLOSED_BEFORE = {
    Told.FAILED: (State.OPEN, State.OPEN),
    Told.FAILED_FOR_SURE: (State.OPEN, State.OPEN),
    Told.ALIVE: (State.CLOSED, State.CLOSED),
    Told.NOTHING: (State.CLOSED, State.OPEN),
}
AFTER_A_TRY = {
    Told.FAILED: State.OPEN,
    Told.FAILED_FOR_SURE: State.OPEN,
    Told.ALIVE: State.CLOSED,
    Told.NOTHING: State.HALF_OPEN,
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Turns:
    """Leases of one target."""

    def __init__(self, of: RouteTarget = TARGET) -> None:
        self.of, self.clock = of, Clock()
        self.state = TargetState(of.name, of.target.upstream, Checked(), Breaker())

    def breaker(self) -> State:
        return self.state.breaker.state(self.clock.now)

    def begin(self) -> Lease:
        self.state.slots.take()
        return Lease(self.state, self.of, self.clock)

    def asked(self) -> Lease:
        lease = self.begin()
        lease.ask()
        return lease

    def fail(self, code: ErrorCode = ErrorCode.UPSTREAM_FAILED) -> None:
        lease = self.asked()
        lease.failed(code)
        lease.end()

    def half_open(self) -> None:
        self.fail()
        self.fail()
        self.clock.now += OPEN_FOR
        assert self.breaker() is State.HALF_OPEN


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_every_code_has_been_thought_about() -> None:
    """One that is new says nothing of the target until it stands here."""
    assert set(ErrorCode) == CODES.keys()


@pytest.mark.parametrize("code", ErrorCode)
def test_what_a_code_says(code: ErrorCode, turns: Turns) -> None:
    """Of a target that has just failed once."""
    turns.fail()
    turns.fail(code)
    at_once = turns.breaker()
    turns.fail()

    assert (at_once, turns.breaker()) == CLOSED_BEFORE[CODES[code]]


@pytest.mark.parametrize("code", ErrorCode)
def test_what_a_code_says_for_sure(code: ErrorCode, turns: Turns) -> None:
    """The first of its kind opens the breaker if the next turn would only hear the same."""
    turns.fail(code)

    assert (turns.breaker() is State.OPEN) == (CODES[code] is Told.FAILED_FOR_SURE)


@pytest.mark.parametrize("code", ErrorCode)
def test_what_a_code_says_of_a_try(code: ErrorCode, turns: Turns) -> None:
    """And whatever it says, the next turn that may try can."""
    turns.half_open()
    turns.fail(code)

    assert turns.breaker() is AFTER_A_TRY[CODES[code]]
    turns.clock.now += OPEN_FOR
    assert turns.state.wait(turns.clock.now, TARGET) == 0.0
    assert turns.state.slots.taken == 0


def test_the_slot_is_given_back_once(turns: Turns) -> None:
    """However often it is ended."""
    first, second = turns.asked(), turns.asked()
    assert turns.state.slots.taken == 2

    first.end()
    first.end()
    assert turns.state.slots.taken == 1
    second.end()
    assert turns.state.slots.taken == 0


def test_one_that_never_asked_gives_its_slot_back(turns: Turns) -> None:
    """Its client left while it was waiting to be tried again."""
    turns.begin().end()

    assert turns.state.slots.taken == 0


def test_the_first_content_of_a_try_closes_the_breaker(turns: Turns) -> None:
    """Nobody waits for a long answer's end; what breaks off later is a failure like any other."""
    turns.half_open()
    lease = turns.asked()
    lease.answered()
    assert turns.breaker() is State.CLOSED

    lease.failed(ErrorCode.IDLE_TIMEOUT)
    lease.end()
    assert turns.breaker() is State.CLOSED
    turns.fail()
    assert turns.breaker() is State.OPEN


def test_the_first_content_of_another_turn_closes_nothing(turns: Turns) -> None:
    """It was asked before, and an old answer says nothing of how the target is now."""
    old = turns.asked()
    turns.half_open()
    old.answered()
    old.finished()
    old.end()

    assert turns.breaker() is State.HALF_OPEN


def test_a_client_that_leaves_lets_the_next_one_try(turns: Turns) -> None:
    """In whatever state its turn was."""
    turns.half_open()
    lease = turns.asked()
    assert turns.state.wait(turns.clock.now, TARGET) > 0
    lease.end()

    assert turns.state.wait(turns.clock.now, TARGET) == 0.0


def test_asked_twice_it_is_still_the_one_that_tries(turns: Turns) -> None:
    """As for a conversation that the target has forgotten: the second answer counts."""
    turns.half_open()
    lease = turns.asked()
    lease.ask()
    lease.answered()
    lease.end()

    assert turns.breaker() is State.CLOSED


def test_a_retry_may_try_again(turns: Turns) -> None:
    """After a try that said nothing; it is still the only one that does."""
    turns.half_open()
    lease = turns.asked()
    lease.failed(ErrorCode.UPSTREAM_RATE_LIMITED)
    lease.ask()
    assert turns.state.wait(turns.clock.now, TARGET) > 0
    lease.failed(ErrorCode.UPSTREAM_FAILED)

    assert turns.breaker() is State.OPEN
    lease.end()


def test_failures_in_a_row_are_ended_by_an_answer_that_is_complete(turns: Turns) -> None:
    """Not by its first content: a target that breaks off every answer is as bad as none."""
    turns.fail()
    lease = turns.asked()
    lease.answered()
    lease.finished()
    lease.end()
    turns.fail()
    assert turns.breaker() is State.CLOSED

    lease = turns.asked()
    lease.answered()
    lease.failed(ErrorCode.UPSTREAM_TRUNCATED)
    lease.end()
    assert turns.breaker() is State.OPEN


def test_the_rules_are_those_of_the_turn_s_own_config() -> None:
    """Two snapshots may serve at once."""
    turns = Turns()
    strict = target(breaker=rules(failures=1))
    turns.state.slots.take()
    lease = Lease(turns.state, strict, turns.clock)
    lease.ask()
    lease.failed(ErrorCode.UPSTREAM_FAILED)
    lease.end()

    assert turns.breaker() is State.OPEN
