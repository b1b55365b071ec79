"""The estimate of memory is near the truth."""

import gc
import tracemalloc
from collections.abc import Callable
from itertools import count

import pytest

from gateway.conversations.size import size_of
from gateway.core.conversation import Part, Role, StoredMessage
from gateway.core.events import (
    Citation,
    Citations,
    FinishReason,
    Json,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.wire import json
from tests.conversations.records import NOW

MANY = 200
# The parser keeps the names of fields it has read, so that one read before takes no memory.
UNSEEN = count(1000)


def said(n: int, *parts: Part) -> StoredMessage:
    return StoredMessage(
        id=(1 << 52) + n, position=1000 + n, role=Role.USER, parts=parts, created=NOW + n
    )


def answered(n: int) -> StoredMessage:
    return StoredMessage(
        id=(1 << 52) + n,
        position=1000 + n,
        role=Role.ASSISTANT,
        parts=(TextDelta(f"{n}"),),
        created=NOW + n,
        finish=FinishReason.STOP,
        usage=Usage(1000 + n, 1000 + n, n + 0.5),
        model=f"model-{n}",
        upstream="main",
        upstream_conversation=f"theirs-{n}",
        upstream_message=f"message-{n}",
    )


def arguments(n: int) -> Json:
    return json.loads(b'{"order-%d":[{"lines-%d":[1.5,2.5,3.5]},"blue-%d",null,true]}' % (n, n, n))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: said(n, TextDelta(f"{n}" + "x" * 1000)),
        lambda n: said(n, TextDelta(f"{n}")),
        lambda n: said(n, TextDelta(f"{n}" + "語" * 1000)),
        lambda n: said(n, ReasoningDelta(f"{n}" + "🎉" * 1000)),
        lambda n: said(n, ToolOutput(f"call_{n}", arguments(n))),
        lambda n: said(n, ToolCall(f"call_{n}", f"f{n}", arguments(n))),
        lambda n: said(n, Citations([Citation(f"https://{n}", f"{n}", "s" * 100 + str(n))])),
        answered,
    ],
    ids=["ascii", "short", "cjk", "emoji", "output", "call", "citations", "answer"],
)
def test_it_is_within_a_third_of_what_python_takes(make: Callable[[int], StoredMessage]) -> None:
    """Whatever the script of the text, for characters take one, two or four bytes."""
    make(0)
    # A collection empties the interpreter's lists of free objects: what is made of those is not
    # traced, and how many earlier tests left there is no matter of this one.
    gc.collect()
    tracemalloc.start()
    try:
        messages = tuple(make(next(UNSEEN)) for _ in range(MANY))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size_of(messages) == pytest.approx(taken, rel=1 / 3)


def test_echoes_count() -> None:
    """What an upstream wants back with a call is kept too."""
    plain = said(0, ToolCall("call_1", "f", {}))
    echoing = said(0, ToolCall("call_1", "f", {}, {"thought": "x" * 5000}))

    assert size_of([echoing]) - size_of([plain]) > 5000


def test_deep_arguments_are_no_danger() -> None:
    """Nesting beyond Python's stack is measured all the same."""
    deep: Json = []
    for _ in range(100_000):
        deep = [deep]

    assert size_of([said(0, ToolCall("1", "f", deep))]) > 100_000 * 50
