"""What the chunks of one stream have in common, which is nearly all of them but the text.

Servers write id, model, index and the rest of every chunk byte for byte as in the one before. To
read all of that anew is half of what an event costs.
"""

import re
from collections.abc import Callable
from operator import sub

from gateway.core.events import Event, Json, TextDelta
from gateway.wire import json

# A server may say something else in every chunk (a time, a count). After so many that served for
# nothing or did not last, each chunk is read whole.
MAX_CUTS = 16

# OpenAI's padding, the last member of a chunk, hides from listeners how long its text is.
_PADDING = b',"obfuscation":"'

# A frame of one, as most servers write it.
_FIELD = b"data: "
_END = b"\n\n"
_LF = ord("\n")


class Stencil:
    """A chunk with a hole where its text was, between its quotes."""

    __slots__ = ("_after", "_around", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        """What stands before the hole and after it."""
        self._before, self._after = _FIELD + before, after + _END
        self._around = len(self._before) + len(self._after)

    def events(self, data: bytes) -> tuple[list[Event], bytes]:
        """Those of the frames with such chunks that a read begins with, as far as none is empty,
        and what is left of it to be read as any other."""
        inside = data.removeprefix(self._before).removesuffix(self._after)
        if len(data) - len(inside) != self._around or _LF in inside:
            return self._several(data) if data.startswith(self._before) else ([], data)
        text = json.string(inside)  # one frame, as in most reads
        return ([TextDelta(text)], b"") if text else ([], data)

    def text(self, data: bytes) -> str | None:
        """The text of a chunk that differs in nothing else; None of any other."""
        text = self._text(data)
        return self._text(_unpadded(data)) if text is None else text

    def _text(self, data: bytes) -> str | None:
        frame = b"%b%b%b" % (_FIELD, data, _END)
        inside = frame.removeprefix(self._before).removesuffix(self._after)
        return json.string(inside) if len(frame) - len(inside) == self._around else None

    def _several(self, data: bytes) -> tuple[list[Event], bytes]:
        written = self._written(data.split(_END)[:-1])
        texts = json.strings(written) if written else None
        if not texts or not all(texts):
            return [], data
        read = sum(map(len, written)) + len(written) * self._around
        return list(map(TextDelta, texts)), data[read:]

    def _written(self, frames: list[bytes]) -> list[bytes]:
        """What is in the hole of each frame, up to one that differs in more."""
        # Not by `split`, `find` or the like with what stands around: Python prepares itself for a
        # long word anew at each place where it looks for it.
        before, after = self._before, self._after.removesuffix(_END)
        insides = [frame.removeprefix(before).removesuffix(after) for frame in frames]
        around = len(before) + len(after)
        taken = list(map(sub, map(len, frames), map(len, insides)))
        alike = taken.count(around)
        if taken[:alike] != [around] * alike:  # nearly always, it is the last ones that differ
            alike = next(place for place, size in enumerate(taken) if size != around)
        return insides[:alike]


def hole(key: str) -> re.Pattern[bytes]:
    """Finds a string under this key: all between its quotes."""
    return re.compile(rb'"%b": ?"((?:[^"\\]++|\\.)*+)"' % key.encode())


def cut(
    data: bytes, text: str, where: re.Pattern[bytes], read: Callable[[Json], str | None]
) -> Stencil | None:
    """The stencil of a chunk that says this text and nothing else, as far as `read` reads it."""
    data = _unpadded(data)
    found = where.search(data)
    if found is None or found.end() == len(data):
        return None
    before, after = data[: found.start(1)], data[found.end(1) :]
    # The proof that it is this string which is read, and no other one under such a key.
    other = text + "."
    try:
        same = read(json.loads(before + json.dumps(other)[1:-1] + after)) == other
    except json.InvalidJson:
        return None
    return Stencil(before, after) if same else None


def _unpadded(data: bytes) -> bytes:
    start = data.rfind(_PADDING)
    if start < 0 or not data[start + len(_PADDING) : -2].isalnum() or not data.endswith(b'"}'):
        return data
    return data[:start] + b"}"
