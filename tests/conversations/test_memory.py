"""The store in memory: bounded, the least recently used going first."""

import gc
import tracemalloc
from collections import OrderedDict
from collections.abc import Coroutine, Iterator
from typing import TypeVar

import pytest
from msgspec.structs import replace

from gateway.conversations import memory
from gateway.conversations.memory import MemoryStore
from gateway.conversations.store import Change, Conflict, Span
from gateway.core.conversation import Feedback, Owner, Place
from gateway.core.events import Json, TextDelta, ToolCall
from tests.conversations.records import (
    ACME,
    EVERYTHING,
    NOW,
    answer,
    answered,
    dialogue,
    later,
    new,
    question,
    row,
)

T = TypeVar("T")


def done(coroutine: Coroutine[object, object, T]) -> T:
    """The result of a coroutine that has to come to its end in one go."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("it awaits something: two turns could get in each other's way")


def filled(max_size: int, *changes: Change) -> MemoryStore:
    store = MemoryStore(max_size)
    for change in changes:
        done(store.save(change, ()))
    return store


def there(store: MemoryStore, *numbers: int) -> list[int]:
    """Which of them are still there; to look does not count as use."""
    listed = done(store.listed(ACME, None, None, 1000)).conversations
    return [number for number in numbers if number in {each.id for each in listed}]


def large(number: int, size: int) -> Change:
    """A conversation of so many bytes, and some for what every one takes."""
    return new(number, question(0), answer(1, TextDelta("x" * size)))


SIZE = done(filled(1 << 20, new(1)).figures()).size
"""Of a small conversation."""


def test_every_operation_is_done_in_one_go() -> None:
    """Nothing can come between: that is why there is no lock."""
    store = filled(1 << 20, new(1, user_id="user_1"))
    done(store.open())
    done(store.check())
    done(store.ready())
    assert done(store.claim(1))
    done(store.release(1))
    done(store.mark(1, 101, Feedback.POSITIVE))
    assert done(store.load(ACME, 1, EVERYTHING))
    assert done(store.everything(None, 1))
    assert done(store.answered("s", "k", NOW)) is None
    assert done(store.prune(NOW + 1, None, NOW)) == 1
    done(store.close())


@pytest.mark.parametrize("letter", ["q", "語", "🎉"])
@pytest.mark.parametrize("length", [1, 50, 2000])
@pytest.mark.parametrize("user_id", [None, "user_1"])
def test_the_size_is_what_it_takes(letter: str, length: int, user_id: str | None) -> None:
    """Within a quarter: in characters of one byte or more, for long conversations and short."""
    store = MemoryStore(1 << 30)
    gc.collect()  # what is made of the interpreter's own list of free objects is not traced
    tracemalloc.start()
    try:
        for n in range(1 << 51, (1 << 51) + 300):
            said = (question(0, f"{n}" + letter * length, n), answer(1, number=n + 1))
            done(store.save(new(n, *said, user_id=user_id, updated=n), ()))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert done(store.figures()).size == pytest.approx(size, rel=1 / 4)


def test_what_is_kept_is_nothing_to_look_through_for_garbage() -> None:
    """A collection looks at every object that may hold others: a hundred thousand conversations of
    ten such objects each would stop the gateway for a second, again and again."""
    store = MemoryStore(1 << 30)
    gc.collect()
    before = len(gc.get_objects())
    for n in range(1, 1001):
        found = row(n, length=2, upstream_ids={"up/": "theirs"})
        done(store.save(replace(new(n, question(0), answer(1)), conversation=found), ()))
    gc.collect()

    assert len(gc.get_objects()) - before < 500


def test_the_size_is_bounded() -> None:
    """Ten thousand conversations of 1 KiB and more, in a store of 1 MiB: the newest are there."""
    store = MemoryStore(1 << 20)
    tracemalloc.start()
    try:
        for n in range(1, 10_001):
            done(store.save(new(n, question(0, f"{n}" + "q" * 500), answer(1)), ()))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size < 1.25 * (1 << 20)
    assert done(store.figures()).size <= 1 << 20
    assert there(store, 1, 9_700, 10_000) == [9_700, 10_000]


@pytest.mark.parametrize("use", ["load", "save", "mark"])
def test_what_is_used_stays(use: str) -> None:
    """A turn makes a conversation young again, whether it was kept or only begun."""
    first = new(1)
    store = filled(4 * SIZE + 10, first, new(2), new(3))
    if use == "load":
        done(store.load(ACME, 1, Span(limit=0)))
    if use == "save":
        done(store.save(later(first, 2), ()))
    if use == "mark":
        done(store.mark(1, 101, Feedback.POSITIVE))
    done(store.save(large(4, SIZE), ()))

    assert there(store, 1, 2, 3, 4) == [1, 3, 4]


def test_to_look_on_is_not_to_use() -> None:
    """Neither lists, exports, rounds of pruning and figures, nor one who may not see it."""
    store = filled(4 * SIZE, new(1), new(2), new(3))
    stranger = Place(Owner("other"), 123)
    done(store.load(ACME, 1, Span(limit=0)))
    done(store.listed(ACME, None, None, 10))
    done(store.everything(None, 10))
    done(store.prune(1, 5, NOW))
    done(store.figures())
    done(store.load(stranger, 2, Span(limit=0)))
    done(store.save(large(4, SIZE), ()))

    assert there(store, 1, 2, 3, 4) == [1, 3, 4]


def test_only_as_much_goes_as_has_to() -> None:
    """One that grows needs room for what is new, not for itself again."""
    first = large(1, 6 * SIZE)
    store = filled(12 * SIZE, first, new(2), new(3))
    done(store.save(later(first, 2, *dialogue(4)[2:]), ()))

    assert there(store, 1, 2, 3) == [1, 2, 3]


def test_a_turn_of_what_was_pushed_out_is_not_kept() -> None:
    """It would be a conversation that has forgotten all but its last turn."""
    first = new(1)
    store = filled(3 * SIZE, first, new(2), new(3), new(4))
    with pytest.raises(Conflict):
        done(store.save(later(first, 2, *dialogue(4)[2:]), ()))

    assert there(store, 1, 2, 3, 4) == [2, 3, 4]


@pytest.mark.parametrize("known", [False, True])
def test_a_conversation_larger_than_the_store_is_not_kept(known: bool) -> None:
    """It goes as a whole, and no other for it."""
    first = new(1)
    store = filled(4 * SIZE, new(2), *([first] if known else []))
    big = answer(3, TextDelta("x" * 5 * SIZE))
    change = later(first, 2, question(2), big) if known else new(1, question(0), big)
    done(store.save(change, ()))

    assert there(store, 1, 2) == [2]
    assert done(store.figures()).size == SIZE


def test_the_size_follows_every_change() -> None:
    """What is cut, replaced, pruned or marked is counted as it is."""
    first = new(1, *dialogue(6))
    store = filled(1 << 20, first)
    done(store.save(later(first, 2, answer(2, TextDelta("x" * 1000))), ()))
    done(store.mark(1, 102, Feedback.NEGATIVE))
    marked = replace(answer(2, TextDelta("x" * 1000)), feedback=Feedback.NEGATIVE)
    direct = new(1, *dialogue(2), marked)
    assert done(store.figures()).size == done(filled(1 << 20, direct).figures()).size

    done(store.prune(NOW + 1, None, NOW))
    assert done(store.figures()).size == 0


def test_tool_arguments_count() -> None:
    """A call's arguments take memory like any text."""
    arguments: Json = {"items": [{"text": "x" * 100} for _ in range(100)]}
    call = ToolCall("call_1", "look_up", arguments)
    store = filled(10_000, new(1, question(0), answer(1, call)))

    assert there(store, 1) == []


def test_what_upstreams_call_it_counts() -> None:
    """An upstream that names conversations at length does not get more room than others."""
    found = row(1, length=2, upstream_ids={"up/": "x" * 4000})
    named = replace(new(1), conversation=found)

    assert done(filled(1 << 20, named).figures()).size >= SIZE + 4000


def test_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten first; one that was answered anew is young."""
    monkeypatch.setattr(memory, "_MAX_ANSWERED", 3)
    changes = [
        new(n, answered=answered(key, fingerprint=f"{n}")) for n, key in enumerate("abcade", 1)
    ]
    store = filled(1 << 20, *changes)

    known = {key: done(store.answered("s", key, NOW)) for key in "abcde"}
    assert [key for key, found in known.items() if found] == ["a", "d", "e"]
    assert known["a"] == answered("a", fingerprint="4")


class _NotLookedThrough(OrderedDict[int, object]):
    """What is in it has to be asked for by its key."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("all of them are looked at")

    values = keys = items = __iter__  # type: ignore[assignment]


def test_a_page_is_found_without_a_look_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of a hundred thousand conversations would keep everybody waiting for each page."""
    store = filled(1 << 20, *(new(number, updated=NOW + number) for number in range(1, 8)))
    monkeypatch.setattr(store, "_kept", _NotLookedThrough(vars(store)["_kept"]))
    first = done(store.listed(ACME, None, None, 3))
    then = done(store.listed(ACME, None, (NOW + 5, 5), 3))

    assert [each.id for each in first.conversations] == [7, 6, 5]
    assert [each.id for each in then.conversations] == [4, 3, 2]
    assert first.total == then.total == 7


def test_nothing_is_left_of_what_is_gone() -> None:
    """Also not of its place and its user."""
    store = filled(SIZE * 2, *(new(number, user_id=f"u{number}") for number in range(1, 50)))
    done(store.mark(49, 1, Feedback.POSITIVE))
    assert there(store, *range(1, 50)) != []
    done(store.prune(NOW * 2, None, NOW))

    assert not vars(store)["_lists"]
    assert done(store.figures()).size == 0
