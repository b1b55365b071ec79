"""The estimate of memory is near the truth."""

import tracemalloc
from collections.abc import Callable

import pytest

from gateway.conversations.size import size_of
from gateway.core.events import Json, ToolCall
from gateway.core.turn import Message, Role
from gateway.wire import json

MANY = 200


def arguments(n: int) -> Json:
    return json.loads(b'{"order-%d":[{"lines-%d":[1.5,2.5,3.5]},"blue-%d",null,true]}' % (n, n, n))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: Message(Role.USER, f"{n}" + "x" * 1000),
        lambda n: Message(Role.USER, f"{n}"),
        lambda n: Message(Role.USER, f"{n}" + "語" * 1000),
        lambda n: Message(Role.USER, f"{n}" + "🎉" * 1000),
        lambda n: Message(Role.TOOL, f"{n}", call_id=f"call_{n}"),
        lambda n: Message(Role.ASSISTANT, f"{n}", (ToolCall(f"call_{n}", f"f{n}", arguments(n)),)),
    ],
    ids=["ascii", "short", "cjk", "emoji", "tool", "call"],
)
def test_it_is_within_a_third_of_what_python_takes(make: Callable[[int], Message]) -> None:
    """Whatever the script of the text, for characters take one, two or four bytes."""
    make(0)
    tracemalloc.start()
    try:
        messages = tuple(make(n) for n in range(MANY))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size_of(messages) == pytest.approx(taken, rel=1 / 3)


def test_echoes_count() -> None:
    """What an upstream wants back with a call is kept too."""
    plain = Message(Role.ASSISTANT, "", (ToolCall("call_1", "f", {}),))
    echoing = Message(Role.ASSISTANT, "", (ToolCall("call_1", "f", {}, {"thought": "x" * 5000}),))

    assert size_of([echoing]) - size_of([plain]) > 5000


def test_deep_arguments_are_no_danger() -> None:
    """Nesting beyond Python's stack is measured all the same."""
    deep: Json = []
    for _ in range(100_000):
        deep = [deep]

    assert size_of([Message(Role.ASSISTANT, "", (ToolCall("1", "f", deep),))]) > 100_000 * 50
