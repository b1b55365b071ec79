"""What the chunks of one stream have in common, which is nearly all of them but the text.

Servers write id, model, index and the rest of every chunk byte for byte as in the one before. To
read all of that anew is half of what an event costs.
"""

import re
from collections.abc import Callable

from gateway.core.events import Json
from gateway.wire import json

# A server may say something else in every chunk (a time, a count). After so many that served for
# nothing or did not last, each chunk is read whole.
MAX_CUTS = 16

# OpenAI's padding, the last member of a chunk, hides from listeners how long its text is.
_PADDING = b',"obfuscation":"'


class Stencil:
    """A chunk with a hole where its text was: what stands before and what after it."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after
        self._around = len(before) + len(after)

    def text(self, data: bytes) -> str | None:
        """The text of a chunk that differs in nothing else; None of any other."""
        inside = data.removeprefix(self._before).removesuffix(self._after)
        if len(data) - len(inside) != self._around:
            data = _unpadded(data)
            inside = data.removeprefix(self._before).removesuffix(self._after)
            if len(data) - len(inside) != self._around:
                return None
        try:
            # One value and a string is all that the hole can hold, or the whole would be no JSON.
            text = json.loads(inside)
        except json.InvalidJson:
            return None
        return text if type(text) is str else None


def hole(key: str) -> re.Pattern[bytes]:
    """Finds a string under this key: all of it, its quotes included."""
    return re.compile(rb'"%b": ?("(?:[^"\\]++|\\.)*+")' % key.encode())


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
        same = read(json.loads(before + json.dumps(other) + after)) == other
    except json.InvalidJson:
        return None
    return Stencil(before, after) if same else None


def _unpadded(data: bytes) -> bytes:
    start = data.rfind(_PADDING)
    if start < 0 or not data[start + len(_PADDING) : -2].isalnum() or not data.endswith(b'"}'):
        return data
    return data[:start] + b"}"
