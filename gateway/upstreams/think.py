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

    __slots__ = ("_held", "_read", "outside")

    def __init__(self) -> None:
        self.outside = False
        """What follows is text, whatever it says."""
        # A function and no bound method: that would be a cycle for the garbage collector.
        self._read: Callable[[ThinkSplitter, str], list[Event]] | None = None
        """None: nothing but blanks and perhaps a part of the tag has come so far."""
        self._held = ""

    def split(self, text: str) -> list[Event]:
        """The events of one more delta."""
        if self.outside:
            return [TextDelta(text)] if text else []
        return self._at_start(text) if self._read is None else self._read(self, text)

    def end(self) -> list[Event]:
        """What was held back, in case it became a tag."""
        held, self._held = self._held, ""
        if not held:
            return []
        inside = self._read is ThinkSplitter._inside
        return [ReasoningDelta(held) if inside else TextDelta(held)]

    def _at_start(self, text: str) -> list[Event]:
        if text and not self._held and text[0] != "<" and not text[0].isspace():
            return self._begin_text(text)  # as nearly every one
        held = self._held + text
        start = held.lstrip()
        if _OPEN.startswith(start) and len(held) - len(start) <= MAX_BLANK and start != _OPEN:
            self._held = held
            return []
        self._held = ""
        if not start.startswith(_OPEN):
            return self._begin_text(held)
        self._read = ThinkSplitter._inside
        return self._inside(start.removeprefix(_OPEN))

    def _inside(self, text: str) -> list[Event]:
        held = self._held + text
        reasoning, tag, rest = held.partition(_CLOSE)
        if tag:
            self._held, self._read = "", ThinkSplitter._after_close
            return [*_reasoning(reasoning), *self._after_close(rest)]
        kept = _possible_tag(held)
        self._held = held[len(held) - kept :]
        return _reasoning(held[: len(held) - kept])

    def _after_close(self, text: str) -> list[Event]:
        # The blank lines between the tag and the answer belong to neither.
        text = text.lstrip()
        return self._begin_text(text) if text else []

    def _begin_text(self, text: str) -> list[Event]:
        self.outside = True
        return [TextDelta(text)]


def _reasoning(text: str) -> list[Event]:
    return [ReasoningDelta(text)] if text else []


def _possible_tag(text: str) -> int:
    """How many characters at the end may be the beginning of the closing tag."""
    for size in range(min(len(_CLOSE) - 1, len(text)), 0, -1):
        if _CLOSE.startswith(text[-size:]):
            return size
    return 0
