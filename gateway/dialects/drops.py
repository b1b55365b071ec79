"""What a dialect has no words for, counted."""

from collections.abc import Iterable

from gateway.core.events import Event, StepFinish, StepStart, ToolCallDelta, ToolCallStart

# These say nothing that is lost: a whole `ToolCall` follows its fragments, and steps are only how
# an upstream divides its work.
_SILENT = frozenset({StepStart, StepFinish, ToolCallStart, ToolCallDelta})


def unsaid(parts: Iterable[Event], words: frozenset[type]) -> "Drops":
    """The parts of a whole answer that there are no words for."""
    drops = Drops()
    for part in parts:
        if type(part) not in words:
            drops.count(part)
    return drops


class Drops(dict[str, int]):
    """Dropped events of one turn, by type."""

    __slots__ = ()

    def count(self, event: Event) -> bytes:
        """Counts it, and says nothing."""
        kind = type(event)
        if kind not in _SILENT:
            self[kind.__name__] = self.get(kind.__name__, 0) + 1
        return b""
