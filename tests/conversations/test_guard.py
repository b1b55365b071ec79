"""A store that is down or hangs: everybody is told at once, and it is tried again in a while."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.conversations.guard import GuardedStore
from gateway.conversations.memory import MemoryStore
from gateway.conversations.store import Conflict, Span, StoreError
from gateway.core.conversation import Feedback
from gateway.core.errors import ErrorCode, GatewayError
from tests.conversations.faulty import FaultyStore
from tests.conversations.records import ACME, EVERYTHING, NOW, answered, dialogue, later, new

Operation = Callable[[GuardedStore], Awaitable[object]]

REQUESTS: dict[str, Operation] = {
    "claim": lambda store: store.claim(7),
    "load": lambda store: store.load(ACME, 1, EVERYTHING),
    "mark": lambda store: store.mark(1, 101, Feedback.POSITIVE),
    "listed": lambda store: store.listed(ACME, None, None, 10),
    "answered": lambda store: store.answered("s", "k", NOW),
}
ALWAYS: dict[str, Operation] = {
    "check": lambda store: store.check(),
    "save": lambda store: store.save(new(1), ()),
}


class Guarded:
    """A guarded store, with a clock of its own and a list of what failed."""

    def __init__(self, timeout: float) -> None:
        self.now = 100.0
        self.failures: list[tuple[str, Exception]] = []
        self.taken: list[tuple[str, float]] = []
        self.inner = FaultyStore(MemoryStore(1 << 20))
        self.store = GuardedStore(
            self.inner,
            timeout,
            lambda *failure: self.failures.append(failure),
            lambda: self.now,
            lambda *taken: self.taken.append(taken),
        )

    async def fails(self, operation: Operation) -> list[str]:
        """It is unavailable; what of the store was tried."""
        with pytest.raises(GatewayError) as caught:
            await operation(self.store)
        assert caught.value.code is ErrorCode.UNAVAILABLE
        assert caught.value.retry_after == 1.0
        assert "burns" not in caught.value.message
        return self.inner.operations()

    async def works(self, operation: Operation) -> list[str]:
        await operation(self.store)
        return self.inner.operations()


@pytest.fixture
def guarded() -> Guarded:
    return Guarded(timeout=30.0)


def down(guarded: Guarded) -> StoreError:
    guarded.inner.fault = StoreError("host 10.0.0.1 burns")
    return guarded.inner.fault


async def test_it_is_a_store() -> None:
    """Whatever it guards answers through it."""
    store = GuardedStore(MemoryStore(1 << 20), 30.0, lambda *failure: None)
    assert await store.open() == 0
    await store.check()
    await store.ready()
    assert await store.claim(7)
    change = new(1, user_id="user_1", answered=answered())
    await store.save(change, (7,))
    assert await store.claim(7)
    await store.release(7)
    await store.mark(1, 101, Feedback.POSITIVE)

    found = await store.load(ACME, 1, Span(limit=1))
    assert found is not None
    assert (found[0], found[1][0].feedback) == (change.conversation, Feedback.POSITIVE)
    assert (await store.listed(ACME, "user_1", None, 10)).total == 1
    assert await store.answered("s", "k", NOW) == answered()
    assert (await store.figures()).conversations == 1
    assert await store.everything(None, 10) == (change.conversation,)
    assert await store.prune(NOW + 1, None, NOW) == 1
    await store.close()


@pytest.mark.parametrize("name", [*REQUESTS, *ALWAYS])
async def test_a_failure_is_unavailable(guarded: Guarded, name: str) -> None:
    """In our words, not in the database's, which are for who keeps the log."""
    fault = down(guarded)
    assert await guarded.fails((REQUESTS | ALWAYS)[name]) == [name]

    assert guarded.failures == [(name, fault)]


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_operation_is_measured(guarded: Guarded, name: str) -> None:
    """One that fails as well; one that the store is not asked for took nothing."""
    down(guarded)
    await guarded.fails(REQUESTS[name])
    assert [operation for operation, _ in guarded.taken] == [name]
    assert 0 <= guarded.taken[0][1] < 30
    await guarded.fails(REQUESTS[name])
    assert len(guarded.taken) == 1


@pytest.mark.parametrize("name", REQUESTS)
async def test_while_it_is_down_it_is_not_asked(guarded: Guarded, name: str) -> None:
    """Requests fail at once, and nothing more is logged."""
    down(guarded)
    await guarded.fails(REQUESTS["claim"])
    guarded.now += 0.99

    assert await guarded.fails(REQUESTS[name]) == []
    assert len(guarded.failures) == 1


@pytest.mark.parametrize("name", ALWAYS)
async def test_some_things_are_always_tried(guarded: Guarded, name: str) -> None:
    """A turn that has been answered shall be kept if it can; and a check has to know."""
    down(guarded)
    await guarded.fails(REQUESTS["claim"])
    assert await guarded.fails(ALWAYS[name]) == [name]
    guarded.inner.fault = None

    assert await guarded.works(ALWAYS[name]) == [name]
    assert await guarded.works(REQUESTS["load"]) == ["load"]


async def test_after_a_while_it_is_tried_again(guarded: Guarded) -> None:
    """Still down, it is left alone for as long again; back, it serves everybody."""
    down(guarded)
    await guarded.fails(REQUESTS["load"])
    guarded.now += 1.0
    assert await guarded.fails(REQUESTS["load"]) == ["load"]
    assert await guarded.fails(REQUESTS["load"]) == []
    guarded.inner.fault = None
    assert await guarded.fails(REQUESTS["load"]) == []
    guarded.now += 1.0

    assert await guarded.works(REQUESTS["load"]) == ["load"]
    assert await guarded.works(REQUESTS["claim"]) == ["check", "claim"]
    assert await guarded.works(REQUESTS["claim"]) == ["claim"]


async def test_what_can_be_read_need_not_be_writable(guarded: Guarded) -> None:
    """A full disk, a file that another program holds: turns are refused, whatever else works, until
    a write does; reads are served."""
    down(guarded)
    await guarded.fails(REQUESTS["mark"])
    guarded.inner.failing = "check"
    guarded.now += 1.0
    assert await guarded.works(REQUESTS["load"]) == ["load"]
    await guarded.store.release(7)
    assert await guarded.works(REQUESTS["listed"]) == ["release", "listed"]
    assert await guarded.fails(REQUESTS["claim"]) == ["check"]
    assert await guarded.fails(REQUESTS["claim"]) == []
    guarded.inner.fault = None
    guarded.now += 1.0

    assert await guarded.works(REQUESTS["claim"]) == ["check", "claim"]
    assert await guarded.works(REQUESTS["mark"]) == ["mark"]


async def test_one_request_tries_it_for_all(guarded: Guarded) -> None:
    """While that one waits the others fail at once; when it succeeds they are served."""
    down(guarded)
    await guarded.fails(REQUESTS["load"])
    guarded.inner.fault = None
    guarded.inner.working.clear()
    guarded.now += 1.0
    probe = asyncio.ensure_future(REQUESTS["listed"](guarded.store))
    assert await guarded.inner.tried.get() == "listed"
    for operation in REQUESTS.values():
        assert await guarded.fails(operation) == []

    guarded.inner.working.set()
    await probe
    assert await guarded.works(REQUESTS["load"]) == ["load"]


async def test_a_turn_that_reads_nothing_learns_what_is_known(guarded: Guarded) -> None:
    """It asks nobody while all is well, and is the one that tries a store that is down."""
    ready: Operation = lambda store: store.ready()
    assert await guarded.works(ready) == []
    down(guarded)
    assert await guarded.works(ready) == []
    await guarded.fails(REQUESTS["load"])
    assert await guarded.fails(ready) == []
    guarded.now += 1.0
    assert await guarded.fails(ready) == ["check"]
    guarded.inner.fault = None
    guarded.now += 1.0

    assert await guarded.works(ready) == ["check"]
    assert await guarded.works(ready) == []


async def test_a_probe_that_was_given_up_is_followed_by_another(guarded: Guarded) -> None:
    """Its client left: the store is tried again after the time that it could have taken."""
    down(guarded)
    await guarded.fails(REQUESTS["load"])
    guarded.inner.fault = None
    guarded.inner.working.clear()
    guarded.now += 1.0
    probe = asyncio.ensure_future(REQUESTS["load"](guarded.store))
    assert await guarded.inner.tried.get() == "load"
    probe.cancel()
    await asyncio.wait([probe])
    guarded.inner.working.set()
    assert await guarded.fails(REQUESTS["load"]) == []
    guarded.now += 31.0

    assert await guarded.works(REQUESTS["load"]) == ["load"]


@pytest.mark.parametrize("name", [*REQUESTS, *ALWAYS])
async def test_nothing_hangs(name: str) -> None:
    """What takes too long has failed, and the store counts as down."""
    guarded = Guarded(timeout=0.02)
    guarded.inner.working.clear()
    assert await guarded.fails((REQUESTS | ALWAYS)[name]) == [name]

    assert [(each, type(exc)) for each, exc in guarded.failures] == [(name, TimeoutError)]
    assert await guarded.fails(REQUESTS["load"]) == []


async def test_a_release_never_fails() -> None:
    """It is tried, also while the store is down, and its failure is only noted."""
    guarded = Guarded(timeout=0.02)
    down(guarded)
    await guarded.store.release(7)
    assert guarded.inner.operations() == ["release"]
    guarded.inner.working.clear()
    await guarded.store.release(7)

    assert guarded.inner.operations() == ["release"]
    assert [name for name, _ in guarded.failures] == ["release", "release"]
    assert await guarded.fails(REQUESTS["load"]) == []


async def test_a_conflict_is_no_failure(guarded: Guarded) -> None:
    """It passes as it is: the store has done its work."""
    await guarded.store.save(new(1), ())
    with pytest.raises(Conflict):
        await guarded.store.save(later(new(1), 2, *dialogue(4)[2:], version=9), ())

    assert guarded.failures == []
    assert await guarded.works(REQUESTS["load"]) == ["save", "save", "load"]


async def test_a_conflict_shows_that_the_store_is_back(guarded: Guarded) -> None:
    """It took a store that works to find it."""
    await guarded.store.save(new(1), ())
    down(guarded)
    await guarded.fails(REQUESTS["load"])
    guarded.inner.fault = None
    with pytest.raises(Conflict):
        await guarded.store.save(new(1), ())

    await guarded.works(REQUESTS["load"])


async def test_what_is_no_failure_of_the_store_passes(guarded: Guarded) -> None:
    """A bug is not hidden behind a 503."""
    guarded.inner.fault = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        await guarded.store.load(ACME, 1, EVERYTHING)

    assert guarded.failures == []


@pytest.mark.parametrize("name", ["open", "close", "everything", "prune", "figures"])
async def test_what_no_request_waits_for_is_not_guarded(guarded: Guarded, name: str) -> None:
    """Starting, stopping, exporting, pruning and the operator's command see the failure itself."""
    fault = down(guarded)
    doing: dict[str, Operation] = {
        "open": lambda store: store.open(),
        "close": lambda store: store.close(),
        "everything": lambda store: store.everything(None, 10),
        "prune": lambda store: store.prune(None, None, NOW),
        "figures": lambda store: store.figures(),
    }
    with pytest.raises(StoreError) as caught:
        await doing[name](guarded.store)

    assert caught.value is fault
    assert guarded.failures == []
