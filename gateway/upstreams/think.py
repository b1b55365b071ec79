"""Reasoning that a model writes into its answer: `<think>...</think>` ahead of the text.

Only at the very start: a model that speaks of the tag later means the word.
"""

from collections.abc import Callable

from gateway.core.events import Event, ReasoningDelta, TextDelta

_OPEN, _CLOSE = "<think>", "</think>"

# Characters of blank ahead of the tag that are held back. Without a bound, an answer of nothing
# but blanks would be held whole, and looked through again with every delta.
MAX_BLANK = 256


class ThinkSplitter:
    """Text deltas to text and reasoning, wherever the tags are cut."""

    def __init__(self) -> None:
        # Of the class: one that held its own method would be a cycle.
        self._look: Callable[[ThinkSplitter, str], list[Event]] | None = ThinkSplitter._at_start
        """None where no tag can come any more."""
        self._held = ""

    def split(self, text: str) -> list[Event]:
        """The events of one more delta."""
        if self._look is not None:
            return self._look(self, text)
        return [TextDelta(text)] if text else []

    def end(self) -> list[Event]:
        """What was held back, in case it became a tag."""
        held, self._held = self._held, ""
        if not held:
            return []
        thinks = self._look is ThinkSplitter._inside
        return [ReasoningDelta(held) if thinks else TextDelta(held)]

    def _at_start(self, text: str) -> list[Event]:
        held = self._held + text
        start = held.lstrip()
        if _OPEN.startswith(start) and len(held) - len(start) <= MAX_BLANK and start != _OPEN:
            self._held = held
            return []
        self._held = ""
        if not start.startswith(_OPEN):
            self._look = None
            return self.split(held)
        self._look = ThinkSplitter._inside
        return self._inside(start.removeprefix(_OPEN))

    def _inside(self, text: str) -> list[Event]:
        held = self._held + text
        reasoning, tag, rest = held.partition(_CLOSE)
        if tag:
            self._held, self._look = "", ThinkSplitter._after_close
            return [*_reasoning(reasoning), *self._after_close(rest)]
        kept = _possible_tag(held)
        self._held = held[len(held) - kept :]
        return _reasoning(held[: len(held) - kept])

    def _after_close(self, text: str) -> list[Event]:
        # The blank lines between the tag and the answer belong to neither.
        text = text.lstrip()
        if not text:
            return []
        self._look = None
        return self.split(text)


def _reasoning(text: str) -> list[Event]:
    return [ReasoningDelta(text)] if text else []


def _possible_tag(text: str) -> int:
    """How many characters at the end may be the beginning of the closing tag."""
    for size in range(min(len(_CLOSE) - 1, len(text)), 0, -1):
        if _CLOSE.startswith(text[-size:]):
            return size
    return 0
