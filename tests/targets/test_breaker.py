"""The breaker: when it opens, for how long, and who may try in between."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.config.upstreams import Breaker as Rules
from gateway.targets.breaker import Breaker, State
from tests.targets.making import rules

OPEN_FOR = 10.0
RULES = rules(failures=3, open_for=OPEN_FOR)
NEVER_IN_A_ROW = 10**6


def fail(breaker: Breaker, times: int, now: float = 0.0, by: Rules = RULES) -> None:
    """So many turns that are not the one that tries."""
    for _ in range(times):
        breaker.failed(now, by, probe=False)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    fail(breaker, RULES.failures, now)
    assert breaker.state(now) is State.OPEN
    return breaker


def trying(now: float = OPEN_FOR) -> Breaker:
    """Half open, with one turn that tries."""
    breaker = opened()
    assert breaker.enter(now)
    return breaker


def failed_twice() -> Breaker:
    breaker = Breaker()
    fail(breaker, 2)
    return breaker


# From closed with two failures of three, open, half open, and half open with a turn that tries:
# what happens, and what the breaker is at that moment after it.
CASES: dict[str, tuple[Callable[[], Breaker], float, Callable[[Breaker, float], object], State]] = {
    "the last failure": (
        failed_twice,
        0.0,
        lambda b, now: b.failed(now, RULES, probe=False),
        State.OPEN,
    ),
    "a success": (
        failed_twice,
        0.0,
        lambda b, now: b.succeeded(now, RULES),
        State.CLOSED,
    ),
    "a sure sign": (
        Breaker,
        0.0,
        lambda b, now: b.failed(now, RULES, probe=False, for_sure=True),
        State.OPEN,
    ),
    "open, a late failure": (
        opened,
        OPEN_FOR - 1,
        lambda b, now: b.failed(now, RULES, probe=False),
        State.OPEN,
    ),
    "open, a late success": (
        opened,
        OPEN_FOR - 1,
        lambda b, now: b.succeeded(now, RULES),
        State.OPEN,
    ),
    "open, nobody enters": (opened, OPEN_FOR - 0.001, lambda b, now: b.enter(now), State.OPEN),
    "open, its time is up": (opened, OPEN_FOR, lambda b, now: None, State.HALF_OPEN),
    "half open, a late failure": (
        opened,
        OPEN_FOR,
        lambda b, now: b.failed(now, RULES, probe=False, for_sure=True),
        State.HALF_OPEN,
    ),
    "trying": (opened, OPEN_FOR, lambda b, now: b.enter(now), State.HALF_OPEN),
    "tried, and failed": (
        trying,
        OPEN_FOR,
        lambda b, now: b.failed(now, RULES, probe=True),
        State.OPEN,
    ),
    "tried, and answered": (trying, OPEN_FOR, lambda b, now: b.recovered(), State.CLOSED),
    "tried, and left": (trying, OPEN_FOR, lambda b, now: b.let_go(), State.HALF_OPEN),
    "trying, a late failure": (
        trying,
        OPEN_FOR,
        lambda b, now: b.failed(now, RULES, probe=False),
        State.HALF_OPEN,
    ),
    "trying, a late success": (
        trying,
        OPEN_FOR,
        lambda b, now: b.succeeded(now, RULES),
        State.HALF_OPEN,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_transitions(case: str) -> None:
    """From each state, by each thing that can happen."""
    before, now, happens, after = CASES[case]
    breaker = before()

    happens(breaker, now)

    assert breaker.state(now) is after


def test_the_wait_is_what_is_left() -> None:
    """Seconds until a turn may ask: clients are told them."""
    breaker = opened(5.0)

    assert breaker.wait(5.0, RULES) == OPEN_FOR
    assert breaker.wait(14.0, RULES) == 1.0
    assert breaker.wait(15.0, RULES) == 0.0


def test_one_turn_tries_and_the_others_wait() -> None:
    """Whoever comes while it is being tried does not pile on."""
    breaker = opened()

    assert breaker.enter(OPEN_FOR)
    assert not breaker.enter(OPEN_FOR)
    assert breaker.wait(OPEN_FOR, RULES) > 0


def test_a_turn_that_leaves_lets_the_next_one_try() -> None:
    """Its client went; nothing is known, and nothing is in the way."""
    breaker = trying()
    breaker.let_go()

    assert breaker.wait(OPEN_FOR, RULES) == 0.0
    assert breaker.enter(OPEN_FOR)


def test_each_failed_try_is_another_time_open() -> None:
    """From the moment at which it failed, not from the one at which it began."""
    breaker = trying(OPEN_FOR)
    breaker.failed(OPEN_FOR + 4, RULES, probe=True)

    assert breaker.wait(OPEN_FOR + 4, RULES) == OPEN_FOR
    assert not breaker.enter(2 * OPEN_FOR + 3)
    assert breaker.enter(2 * OPEN_FOR + 4)


def test_after_a_recovery_it_takes_as_many_failures_again() -> None:
    """What was before is forgotten."""
    breaker = trying()
    breaker.recovered()
    fail(breaker, RULES.failures - 1, OPEN_FOR)

    assert breaker.state(OPEN_FOR) is State.CLOSED
    fail(breaker, 1, OPEN_FOR)
    assert breaker.state(OPEN_FOR) is State.OPEN


def test_nobody_tries_a_breaker_that_is_closed() -> None:
    """Its turns are all alike, and none of them can close it."""
    assert not Breaker().enter(0.0)


# A share of the last turns.

RATE = rules(failures=NEVER_IN_A_ROW, failure_rate=0.5, min_turns=4, window=10.0)


def turns(breaker: Breaker, said: str, now: float = 0.0, by: Rules = RATE) -> None:
    """`-` is a turn that failed, `+` one that did not."""
    for each in said:
        if each == "-":
            breaker.failed(now, by, probe=False)
        else:
            breaker.succeeded(now, by)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("+++---", State.OPEN),  # exactly the share
        ("++++---", State.CLOSED),
        ("---", State.CLOSED),  # one turn less than enough to say
        ("----", State.OPEN),
        ("+---", State.OPEN),
        ("++-", State.CLOSED),
        ("++--", State.OPEN),
        ("---+", State.CLOSED),  # it is a failure that opens
        ("---+-", State.OPEN),
        ("", State.CLOSED),
    ],
)
def test_the_share_of_failures(said: str, state: State) -> None:
    """Of at least so many turns, at least such a share."""
    breaker = Breaker()
    turns(breaker, said)

    assert breaker.state(0.0) is state


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_share_is_exact(percent: int) -> None:
    """7 of 100 are 0.07, although 0.07 * 100 is more than 7."""
    share = rules(failures=NEVER_IN_A_ROW, failure_rate=percent / 100, min_turns=100, window=10.0)
    enough, too_few = Breaker(), Breaker()

    turns(enough, "+" * (100 - percent) + "-" * percent, by=share)
    turns(too_few, "+" * (101 - percent) + "-" * (percent - 1), by=share)

    assert enough.state(0.0) is State.OPEN
    assert too_few.state(0.0) is State.CLOSED


@pytest.mark.parametrize(
    ("later", "state"), [(0.0, State.OPEN), (10.0, State.OPEN), (10.001, State.CLOSED)]
)
def test_what_is_older_than_the_window_is_over(later: float, state: State) -> None:
    """Three failures, and one more after a while."""
    breaker = Breaker()
    turns(breaker, "---")
    turns(breaker, "-", now=later)

    assert breaker.state(later) is state


def test_the_whole_window_counts() -> None:
    """A failure a second, each in a slot of its own, the first and the last ten seconds apart."""
    by = rules(failures=NEVER_IN_A_ROW, failure_rate=1.0, min_turns=11, window=10.0)
    breaker = Breaker()
    for second in range(10):
        turns(breaker, "-", now=float(second), by=by)
    assert breaker.state(9.0) is State.CLOSED

    turns(breaker, "-", now=10.0, by=by)
    assert breaker.state(10.0) is State.OPEN


def test_many_successes_of_long_ago_do_not_hide_an_outage() -> None:
    """The window goes along, slot by slot."""
    breaker = Breaker()
    for second in range(100):
        turns(breaker, "+" * 50, now=float(second))
    assert breaker.state(100.0) is State.CLOSED
    for tenth in range(1, 100):
        turns(breaker, "-" * 5, now=99.0 + tenth / 10)

    assert breaker.state(109.0) is State.OPEN


ROW_OF_TURNS = st.lists(
    st.tuples(st.floats(0, 0.89), st.sampled_from("+-")), max_size=60, unique_by=lambda t: t[0]
)


@given(ROW_OF_TURNS, ROW_OF_TURNS, st.integers(1, 10), st.integers(1, 20))
def test_the_share_against_a_plain_count(
    before: list[tuple[float, str]],
    after: list[tuple[float, str]],
    tenths: int,
    least: int,
) -> None:
    """Turns of earlier say nothing, those of the last nine tenths of the window all count."""
    window = 10.0
    by = rules(
        failures=NEVER_IN_A_ROW,
        failure_rate=tenths / 10,
        min_turns=least,
        window=window,
        open_for=1.0,
    )
    breaker = Breaker()
    for at, said in sorted(before):
        turns(breaker, said, now=at * window, by=by)
    if breaker.state(2 * window) is not State.CLOSED:
        breaker.enter(2 * window)
        breaker.recovered()

    failures, start = 0, 3 * window
    for count, (at, said) in enumerate(sorted(after), 1):
        turns(breaker, said, now=start + at * window, by=by)
        failures += said == "-"
        if said == "-" and count >= least and failures * 10 >= tenths * count:
            assert breaker.state(start + at * window) is State.OPEN
            return
        assert breaker.state(start + at * window) is State.CLOSED


# Rules that a reload has changed.

OFF = rules(enabled=False, failures=1, open_for=OPEN_FOR)


def test_one_that_is_switched_off_lets_everybody_through() -> None:
    """Whatever happens, and for sure."""
    breaker = Breaker()
    for _ in range(20):
        breaker.failed(0.0, OFF, probe=False, for_sure=True)

    assert breaker.wait(0.0, OFF) == 0.0
    assert breaker.state(0.0) is State.CLOSED


def test_switched_off_while_it_is_open() -> None:
    """It is in nobody's way from then on, nor while a turn tries."""
    breaker = opened()
    assert breaker.wait(1.0, OFF) == 0.0

    breaker = trying()
    assert breaker.wait(OPEN_FOR, OFF) == 0.0


def test_switched_on_again_it_goes_on() -> None:
    """A turn that tried while it was off and failed leaves it half open."""
    breaker = trying()
    breaker.failed(OPEN_FOR, OFF, probe=True)

    assert breaker.wait(OPEN_FOR, RULES) == 0.0
    assert breaker.enter(OPEN_FOR)


def test_another_limit_holds_from_the_next_failure() -> None:
    """What failed in a row before is counted with it."""
    breaker = Breaker()
    fail(breaker, 5, by=rules(failures=10))
    assert breaker.state(0.0) is State.CLOSED

    fail(breaker, 1, by=rules(failures=6))
    assert breaker.state(0.0) is State.OPEN


def test_another_time_holds_from_the_next_opening() -> None:
    """Who was told to come back in ten seconds is let in then."""
    breaker = opened()
    longer = rules(failures=3, open_for=100.0)

    assert breaker.wait(1.0, longer) == OPEN_FOR - 1
    assert breaker.enter(OPEN_FOR)
    breaker.failed(OPEN_FOR, longer, probe=True)
    assert breaker.wait(OPEN_FOR, longer) == 100.0


def test_a_window_that_shrinks_forgets_and_one_that_grows_does_not_invent() -> None:
    """The slots were filled by other rules."""
    short = rules(failures=NEVER_IN_A_ROW, failure_rate=0.5, min_turns=4, window=1.0)
    breaker = Breaker()
    turns(breaker, "---")
    turns(breaker, "-", now=5.0, by=short)
    assert breaker.state(5.0) is State.CLOSED

    turns(breaker, "-", now=5.0)
    assert breaker.state(5.0) is State.OPEN


# Against a model.


@dataclass
class Model:
    """What a breaker by failures in a row should be."""

    failures: int = 0
    open_until: float | None = None
    trying: bool = False


class Turns(RuleBasedStateMachine):
    """Turns that begin and end in any order, as they do, against the model."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.model = Breaker(), Model()
        self.now = 1000.0
        self.running: list[bool] = []
        """Turns that have been let through; whether each is the one that tries."""

    def open(self) -> None:
        self.model.open_until = self.now + OPEN_FOR

    @rule(seconds=st.sampled_from([0.0, 0.5, 9.5, OPEN_FOR, 25.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_turn_comes(self) -> None:
        until = self.model.open_until
        waits = until is not None and (self.now < until or self.model.trying)
        assert (self.breaker.wait(self.now, RULES) > 0) == waits
        if not waits:
            probe = self.breaker.enter(self.now)
            assert probe == (until is not None)
            self.model.trying = self.model.trying or probe
            self.running.append(probe)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100))
    def a_turn_ends_well(self, which: int) -> None:
        if self.running.pop(which % len(self.running)):
            self.breaker.recovered()
            self.model = Model()
        self.breaker.succeeded(self.now, RULES)
        self.model.failures = 0

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100), for_sure=st.booleans())
    def a_turn_fails(self, which: int, for_sure: bool) -> None:
        probe = self.running.pop(which % len(self.running))
        self.breaker.failed(self.now, RULES, probe=probe, for_sure=for_sure)
        self.model.failures += 1
        if probe:
            self.model.trying = False
            self.open()
        elif self.model.open_until is None and (for_sure or self.model.failures >= RULES.failures):
            self.open()

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100))
    def a_client_leaves(self, which: int) -> None:
        if self.running.pop(which % len(self.running)):
            self.breaker.let_go()
            self.model.trying = False

    @invariant()
    def one_at_most_tries(self) -> None:
        assert sum(self.running) <= 1
        assert self.model.trying == any(self.running)

    @invariant()
    def it_is_what_the_model_is(self) -> None:
        until = self.model.open_until
        if until is None:
            assert self.breaker.state(self.now) is State.CLOSED
        else:
            now_open = self.now < until
            assert self.breaker.state(self.now) is (State.OPEN if now_open else State.HALF_OPEN)

    @invariant()
    def it_is_never_open_for_longer_than_it_may(self) -> None:
        assert self.breaker.wait(self.now, RULES) <= OPEN_FOR
        assert self.breaker.state(self.now + OPEN_FOR) is not State.OPEN


TestAgainstAModel = Turns.TestCase
TestAgainstAModel.settings = settings(deadline=None, max_examples=200, stateful_step_count=40)
