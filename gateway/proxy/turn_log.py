"""What a stream has said, for clients that lost it: numbered frames, the oldest first out."""

import re
from collections import deque
from collections.abc import Iterable
from itertools import islice

# What a client that catches up is sent at once.
SLICE = 64 << 10

_EVENT_ID = re.compile(r"([!-~]{1,100}):([0-9]{1,15})", re.ASCII)


class TurnLog:
    """The frames of one turn, from number 1 on. The id of each is `<turn>:<number>`: clients that
    know what to do with it get it as an `id:` line.

    Without a `turn`, nobody can come back to it: the frames have no ids, and one number stands for
    whatever was appended at once.
    """

    def __init__(self, turn: str | None = None, max_bytes: int = 0) -> None:
        self.turn = turn
        self.first = 1
        """The number of the oldest frame that is kept."""
        self.next = 1
        self._max_bytes = max_bytes
        self._frames: deque[bytes] = deque()
        self._size = 0

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self._size

    def append(self, data: bytes, *, trim: bool = True) -> None:
        """Take up whole frames. Without `trim` nothing has to go."""
        frames = [data] if self.turn is None else split(data)
        self._frames += frames
        self.next += len(frames)
        self._size += len(data)
        if trim:
            self.trim()

    def trim(self) -> None:
        """Let go of what is too much."""
        while self._size > self._max_bytes:
            self._size -= len(self._frames.popleft())
            self.first += 1

    def since(self, number: int, *, ids: bool) -> tuple[bytes, int] | None:
        """Some of the frames from this number on, and the number of what follows them; None if they
        are gone."""
        if number < self.first:
            return None
        taken: list[bytes] = []
        size = 0
        for frame in islice(self._frames, number - self.first, None):
            if taken and size + len(frame) > SLICE:
                break
            taken.append(frame)
            size += len(frame)
        out = self.numbered(taken, number) if ids else b"".join(taken)
        return out, number + len(taken)

    def after(self, event_id: str) -> int | None:
        """The number of what follows this event; None if it is not one of this turn's, or if what
        follows it is gone."""
        found = _EVENT_ID.fullmatch(event_id)
        if found is None or found[1] != self.turn:
            return None
        number = int(found[2]) + 1
        return number if self.first <= number <= self.next else None

    def numbered(self, frames: Iterable[bytes], first: int) -> bytes:
        """These frames with their ids; `first` is the number of the first."""
        ids = f"id: {self.turn}:".encode()
        return b"".join(b"%b%d\n%b" % (ids, n, frame) for n, frame in enumerate(frames, first))


def split(data: bytes) -> list[bytes]:
    """The frames of a batch: no line of theirs is blank, for JSON has no line ends."""
    return [frame + b"\n\n" for frame in data.removesuffix(b"\n\n").split(b"\n\n")]
