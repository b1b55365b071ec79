"""Whatever a test does, its gateways write no key, no credential and no word of what was said into
their logs: what they hear of clients and of upstreams is looked for in what they write."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.http import connection as downstream
from gateway.observe.log_stream import LogStream
from gateway.proxy import connection as upstream

# Bytes that are kept of what one test's gateways hear, so that they hold no more than they would.
_HEARD = 1 << 18

# Where words stand in all of the dialects: what people and models say, and who they are.
_SAID = re.compile(
    rb'"(?:message|content|text|delta|errorText|reasoning_content|instructions|arguments'
    rb'|user|userId|user_id|signature)"\s*:\s*"((?:[^"\\]|\\.)*)"'
)
_CREDENTIALS = re.compile(
    rb"^(?:authorization|proxy-authorization|x-api-key|api-key|cookie)\s*:\s*(?:\w+ )?(\S+)\r?$",
    re.IGNORECASE | re.MULTILINE,
)

# Shorter ones stand in any line by chance; a word alone, in the source that a traceback shows.
_SHORTEST, _SHORTEST_WORD = 6, 12


class Overheard:
    """What the gateways of one test have heard, and what they have written."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.written = bytearray()

    def hear(self, data: bytes) -> None:
        room = _HEARD - len(self.heard)
        if room > 0:
            self.heard += data[:room]

    def leaked(self) -> set[bytes]:
        """What has got into the log."""
        return {word for word in self._secrets() if word in self.written}

    def _secrets(self) -> Iterator[bytes]:
        if not self.written:
            return
        for pattern in (_SAID, _CREDENTIALS):
            for found in set(pattern.findall(self.heard)):
                shortest = _SHORTEST_WORD if found.isalpha() else _SHORTEST
                # What is escaped would be written otherwise.
                if len(found) >= shortest and b"\\" not in found:
                    yield found


@contextmanager
def overhearing() -> Iterator[Overheard]:
    """All gateways of this process, to the end of the block."""
    overheard = Overheard()
    with pytest.MonkeyPatch.context() as patch:
        for connection in (downstream.Connection, upstream.Connection):
            told = _first(overheard.hear, connection.data_received)
            patch.setattr(connection, "data_received", told)
        told = _first(overheard.written.extend, LogStream._write)
        patch.setattr(LogStream, "_write", told)
        yield overheard


def _first(told: Callable[[bytes], None], does: Callable[..., None]) -> Callable[..., None]:
    def method(self: Any, data: bytes, *more: Any) -> None:
        told(data)
        does(self, data, *more)

    return method
