"""Targets' states by name: what outlives a config, and what goes with it."""

import pytest

from gateway.core.errors import ErrorCode
from gateway.targets.breaker import State
from gateway.targets.lease import Lease
from gateway.targets.states import States
from tests.targets.making import rules, target

MINI, OTHER, ELSEWHERE = target("main/mini"), target("main/other"), target("second/mini")


def names(states: States) -> set[str]:
    return {state.name for state in states}


def test_one_backend_has_one_state() -> None:
    """Whichever agent asks it, and with whatever settings."""
    states = States()

    assert states.of(MINI) is states.of(target("main/mini", retries=3))
    assert states.of(MINI) is not states.of(OTHER)


def test_a_state_outlives_a_reload() -> None:
    """And one that no agent uses any more goes."""
    states = States()
    states.track([MINI, OTHER])
    kept, gone = states.of(MINI), states.of(OTHER)
    states.track([MINI, ELSEWHERE])

    assert states.of(MINI) is kept
    assert names(states) == {"main/mini", "second/mini"}
    states.track([OTHER])
    assert states.of(OTHER) is not gone


def test_a_turn_keeps_the_state_it_began_with() -> None:
    """Its slot goes back to where it was taken."""
    states = States()
    state = states.of(MINI)
    state.slots.take()
    lease = Lease(state, MINI)
    states.track([OTHER])
    states.track([MINI])
    states.of(MINI).slots.take()
    lease.end()

    assert (state.slots.taken, states.of(MINI).slots.taken) == (0, 1)


def test_a_check_that_fails_is_for_all_targets_of_an_upstream() -> None:
    """And for no others, whichever was there first."""
    states = States()
    states.checked("main").down = True
    states.track([MINI, OTHER, ELSEWHERE])

    waits = [states.of(each).wait(0.0, each) > 0 for each in (MINI, OTHER, ELSEWHERE)]
    assert waits == [True, True, False]
    states.checked("main").down = False
    assert [states.of(each).wait(0.0, each) for each in (MINI, OTHER)] == [0.0, 0.0]


def test_what_was_found_of_an_upstream_outlives_a_reload() -> None:
    """As long as an agent uses it."""
    states = States()
    states.track([MINI])
    found = states.checked("main")
    states.track([MINI, OTHER])
    assert states.checked("main") is found
    assert states.of(OTHER).checked is found

    states.track([ELSEWHERE])
    states.track([MINI])
    assert states.of(MINI).checked is states.checked("main") is not found


@pytest.mark.parametrize("failures", [1, 2])
def test_a_retry_needs_a_target_that_is_not_left_alone(failures: int) -> None:
    """The failure that a retry is for may have been the last one before the breaker opened."""
    states, strict = States(), target(breaker=rules(failures=2))
    state = states.of(strict)
    state.slots.take()
    lease = Lease(state, strict)
    for _ in range(failures):
        lease.failed(ErrorCode.UPSTREAM_UNREACHABLE)

    assert state.may_retry(strict) == (failures < 2)
    assert (state.breaker.wait(0.0, strict.upstream.breaker) > 0) == (failures == 2)
    lease.end()


def test_a_retry_needs_room_in_the_budget() -> None:
    """Which goes by the turns that the target has open."""
    state = States().of(MINI)
    for _ in range(3):
        state.budget.__enter__()
    assert not state.may_retry(MINI)

    for _ in range(20):
        state.slots.take()
    assert state.may_retry(MINI)


def test_a_try_is_not_held_up_by_its_own_retry() -> None:
    """A target that is half open and says nothing may be asked once more by the same turn."""
    states, strict = States(), target(breaker=rules(failures=1, open_for=0.0))
    state = states.of(strict)
    state.slots.take()
    lease = Lease(state, strict)
    lease.failed(ErrorCode.UPSTREAM_UNREACHABLE)
    assert state.breaker.state(float("inf")) is State.HALF_OPEN
    lease.ask()
    lease.failed(ErrorCode.UPSTREAM_RATE_LIMITED)

    assert state.may_retry(strict)
    lease.end()
