"""Sonzai's large chunks, which come in pieces: `{"__chunk":{"index","total"},"data":"..."}`.

Source: `sse_chunk.py` of its Python SDK 1.8, by which a producer cuts the JSON of a chunk.
"""

from gateway.core.events import Json
from gateway.wire import json

KEY = "__chunk"

# Producers cut at 256 KiB: so many are far more than one event may have.
MAX_PIECES = 4096


class Pieces:
    """The pieces of one chunk at a time, in whatever order they come; all of them are no larger
    than an event may be."""

    def __init__(self, max_event: int) -> None:
        self.oversized = False
        """A chunk was larger: it is lost, and so is all that follows."""
        self._max_event = max_event
        self._pieces: dict[int, bytes] = {}
        self._total = 0
        self._size = 0

    @property
    def incomplete(self) -> bool:
        """Whether a chunk has begun of which something is missing."""
        return bool(self._pieces)

    def add(self, frame: dict[str, Json]) -> bytes | None:
        """The whole chunk, if this completes it. Raises `InvalidJson` for what is no piece."""
        about = json.mapping(frame.get(KEY))
        index, total = json.count(about.get("index")), json.count(about.get("total"))
        data = frame.get("data")
        if index is None or total is None or index >= total or not isinstance(data, str):
            raise json.InvalidJson
        # One that cannot belong to the chunk before begins the next: that one was given up.
        if total != self._total or index in self._pieces:
            self._begin(total)
        self._keep(index, data.encode())
        return self._joined() if len(self._pieces) == total else None

    def _begin(self, total: int) -> None:
        self._pieces, self._total, self._size = {}, total, 0

    def _keep(self, index: int, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_event or self._total > MAX_PIECES:
            self.oversized = True
            self._begin(0)
        else:
            self._pieces[index] = piece

    def _joined(self) -> bytes:
        whole = b"".join(self._pieces[index] for index in range(self._total))
        self._begin(0)
        return whole
