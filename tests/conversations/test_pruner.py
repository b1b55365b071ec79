"""Forgetting in the background: by the config, in rounds, whatever the store does."""

import asyncio
from random import Random

import pytest

from gateway.config.model import StoreConfig
from gateway.conversations.memory import MemoryStore
from gateway.conversations.pruner import Pruner, prunable, prune
from gateway.conversations.store import Store, StoreError
from gateway.core.conversation import Place
from tests.conversations.faulty import FaultyStore
from tests.conversations.records import ACME, NOW, new


def config(*, ttl: float | None = None, per_user: int | None = None) -> StoreConfig:
    return StoreConfig.model_validate({"ttl": ttl and f"{ttl}s", "max_per_user": per_user})


async def left(store: Store) -> list[int]:
    return [each.id for each in (await store.listed(ACME, None, None, 100)).conversations]


async def test_a_round_keeps_what_is_younger_than_the_ttl(store: Store) -> None:
    """Seconds in the config, milliseconds in the records."""
    for n, age in enumerate([0, 1499, 1500, 1501, 90_000]):
        await store.save(new(n + 1, updated=NOW - age), ())

    assert await prune(store, config(ttl=1.5), NOW) == 2
    assert await left(store) == [1, 2, 3]


async def test_a_round_keeps_so_many_of_a_user(store: Store) -> None:
    """The newest."""
    for n in range(1, 5):
        await store.save(new(n, user_id="user_1"), ())

    assert await prune(store, config(per_user=3), NOW) == 1
    assert await left(store) == [4, 3, 2]


async def test_by_default_all_is_kept(store: Store) -> None:
    """Nobody's conversations go without a word in the config."""
    await store.save(new(1, user_id="user_1", updated=1), ())

    assert await prune(store, config(), NOW) == 0
    assert await left(store) == [1]


@pytest.mark.parametrize("ttl", [None, 5, 60])
@pytest.mark.parametrize("per_user", [None, 1, 3])
async def test_what_a_round_would_forget_can_be_told(
    store: Store, ttl: float | None, per_user: int | None
) -> None:
    """As many as it does forget then; nothing goes before."""
    chance = Random(7)
    for n in range(1, 101):
        place = Place(ACME.owner, chance.randint(1, 2))
        user = chance.choice([None, "user_1", "user_2", "user_3"])
        updated = NOW - chance.randint(0, 9) * 1000
        await store.save(new(n, place=place, user_id=user, updated=updated), ())
    expected = await prunable(store, config(ttl=ttl, per_user=per_user), NOW)
    assert (await store.figures()).conversations == 100

    assert await prune(store, config(ttl=ttl, per_user=per_user), NOW) == expected
    assert bool(expected) == (ttl == 5 or per_user is not None)


async def test_it_prunes_at_once_and_again_and_again() -> None:
    """From the start until it is stopped."""
    store = FaultyStore(MemoryStore(1 << 20))
    pruner = Pruner(store, config(), lambda *failure: None, interval=0)
    pruner.start()
    for _ in range(3):
        assert await store.tried.get() == "prune"
    await pruner.stop()
    store.operations()
    for _ in range(5):
        await asyncio.sleep(0)

    assert store.operations() == []


async def test_it_waits_between_rounds() -> None:
    """A minute, if nothing else was said."""
    inner = MemoryStore(1 << 20)
    await inner.save(new(1, updated=1), ())
    store = FaultyStore(inner)
    pruner = Pruner(store, config(ttl=1), lambda *failure: None)
    pruner.start()
    assert await store.tried.get() == "prune"
    for _ in range(5):
        await asyncio.sleep(0)
    await pruner.stop()

    assert store.operations() == []
    assert await left(inner) == []


async def test_a_failure_is_told_and_the_next_round_comes() -> None:
    """A database that is down for a while is pruned later."""
    store = FaultyStore(MemoryStore(1 << 20))
    store.fault = StoreError("down")
    failures: asyncio.Queue[tuple[str, Exception]] = asyncio.Queue()
    pruner = Pruner(store, config(), lambda *failure: failures.put_nowait(failure), interval=0)
    pruner.start()
    for _ in range(2):
        assert await failures.get() == ("prune", store.fault)
    store.fault = None
    store.operations()
    for _ in range(3):
        assert await store.tried.get() == "prune"
    await pruner.stop()


@pytest.mark.parametrize("started", [False, True])
async def test_it_can_be_stopped_at_any_time(started: bool) -> None:
    """Before it was started, and while a store hangs; twice as well."""
    store = FaultyStore(MemoryStore(1 << 20))
    store.working.clear()
    pruner = Pruner(store, config(), lambda *failure: None)
    if started:
        pruner.start()
        assert await store.tried.get() == "prune"
    await pruner.stop()
    await pruner.stop()

    assert store.operations() == []
