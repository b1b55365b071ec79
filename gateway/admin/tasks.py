"""What the event loop has to do: its tasks, and where each of them waits. Never what is in their
variables, which are clients' texts and keys.

asyncio does not know how old a task is; of two that it named ("Task-12"), the one with the lower
number is.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from gateway.core.events import Json

# Of the tasks that wait at one place, so many are named: the oldest.
_NAMED = 10

# No stack of ours is deeper.
_DEEPEST = 50

_NUMBER = re.compile(r"Task-([0-9]+)")


def described(tasks: Collection[asyncio.Task[Any]]) -> dict[str, Json]:
    """Those that wait at one place as one group, the largest first. It only looks, so that a thread
    may do it where there are many."""
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for task in tasks:
        groups[tuple(_stack(task))].append(task.get_name())
    largest = sorted(groups.items(), key=lambda group: len(group[1]), reverse=True)
    return {"total": len(tasks), "groups": [_group(stack, names) for stack, names in largest]}


def _group(stack: tuple[str, ...], names: list[str]) -> Json:
    return {
        "count": len(names),
        "coroutine": stack[0],
        "at": stack[-1],
        "stack": list(stack[1:]),
        "names": list(sorted(names, key=_age)[:_NAMED]),
    }


def _age(name: str) -> tuple[int, str]:
    numbered = _NUMBER.fullmatch(name)
    return (int(numbered[1]) if numbered else 0, name)


def _stack(task: asyncio.Task[Any]) -> Iterator[str]:
    """The coroutine's name, and from there on who awaits whom."""
    # What an async generator or a future awaits, nobody says.
    awaited: Any = task.get_coro()
    yield getattr(awaited, "__qualname__", type(awaited).__name__)
    for _ in range(_DEEPEST):
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            return
        module = frame.f_globals.get("__name__", "?")
        yield f"{module}:{frame.f_lineno} {frame.f_code.co_qualname}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
