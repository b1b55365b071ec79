"""Server-Sent Events, both directions, without I/O.

The parser follows the WHATWG rules ("9.2.6 Interpreting an event stream") with one lenience that
upstreams need: `eof` delivers what was left without its blank line. It is linear in its input,
however that is cut, and holds at most one event.
"""

Frame = tuple[str, bytes]
"""An event's name ("message" unless it has one) and its data, as UTF-8 that nobody has checked.

A plain tuple, for one is made per event.
"""

# An upstream that never ends its event would otherwise grow our buffer for ever.
DEFAULT_MAX_EVENT = 1 << 20

# Digits. A longer wait is none, and Python refuses to read a number of thousands of them.
_LONGEST_RETRY = 15

_BOM = b"\xef\xbb\xbf"

# As numbers: bytes are first looked for as if they were one, at ten times the cost.
_CR, _LF = b"\r\n"


class Parser:
    """Bytes to frames.

    `blank_lines=False` reads streams that leave out the blank line: each data line is an event.
    llama.cpp once put errors in a field `error:` instead of data; it comes out as a frame named
    "error", as if it had been `event: error`.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_max_event",
        "_pending",
        "_separator",
        "between",
        "last_event_id",
        "oversized",
        "retry",
    )

    def __init__(self, *, max_event: int = DEFAULT_MAX_EVENT, blank_lines: bool = True) -> None:
        self.oversized = False
        """An event was larger than `max_event` bytes: it is lost, and so is all that follows."""
        self.between = False
        """What is fed next begins an event, and is no line end's second half."""
        self.last_event_id = ""
        self.retry: int | None = None
        """Milliseconds, the last the stream asked for."""
        self._separator = b"\n\n" if blank_lines else b"\n"
        self._max_event = max_event
        self._pending = bytearray()
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by these bytes; sets `oversized` at an event over the limit."""
        if self._pending or self._at_start or self._after_cr or _CR in data:
            data = self._joined(data)
        if self.oversized:
            return []
        blocks = data.split(self._separator)
        rest = blocks.pop()
        if len(data) > self._max_event:
            blocks = self._small(blocks)
        frames: list[Frame] = []
        for block in blocks:
            # Nearly every event is one data line: no need to take it apart.
            value = block.removeprefix(b"data: ")
            if value is not block and _LF not in value:
                frames.append(("message", value))
            elif block:
                self._read(block, frames)
        if rest and not self.oversized:
            self._keep(rest)
        self.between = not (self._pending or self._at_start or self._after_cr or self.oversized)
        return frames

    def eof(self) -> list[Frame]:
        """What the stream left unfinished, for many upstreams end without the last blank line."""
        last, self._pending = bytes(self._pending).removesuffix(b"\n"), bytearray()
        frames: list[Frame] = []
        for block in self._small([last]):
            self._read(block, frames)
        return frames

    def _joined(self, data: bytes) -> bytes:
        """What is to be divided now: with what was left of the reads before, and LF alone."""
        if self._at_start:
            data = self._without_bom(data)
        if self._after_cr or _CR in data:
            data = self._with_lf(data)
        if self._pending:
            if self._continues(data):
                self._keep(data)
                return b""
            data = bytes(self._pending) + data
            self._pending = bytearray()
        return data

    def _continues(self, data: bytes) -> bool:
        """Whether the pending event goes on beyond `data`; looks at each byte once."""
        if self._separator in data:
            return False
        return not (
            len(self._separator) == 2 and self._pending.endswith(b"\n") and data.startswith(b"\n")
        )

    def _keep(self, data: bytes) -> None:
        self._pending += data if self._pending else data.lstrip(b"\n")
        # One more than the limit: the last byte may be the end of the event's last line.
        if len(self._pending) > self._max_event + 1:
            self.oversized = True
            self._pending = bytearray()

    def _small(self, blocks: list[bytes]) -> list[bytes]:
        """The blocks ahead of the first that is over the limit."""
        for number, block in enumerate(blocks):
            if len(block.lstrip(b"\n")) > self._max_event:
                self.oversized = True
                return blocks[:number]
        return blocks

    def _without_bom(self, data: bytes) -> bytes:
        data = bytes(self._pending) + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._pending = bytearray(data)
            return b""
        self._pending = bytearray()
        self._at_start = False
        return data.removeprefix(_BOM)

    def _with_lf(self, data: bytes) -> bytes:
        """CRLF and CR as LF. A CR ends its line at once; an LF that follows it adds nothing."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, block: bytes, frames: list[Frame]) -> None:
        name, data = b"", []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
            elif field == b"id" and b"\0" not in value:
                self.last_event_id = value.decode("utf-8", "replace")
            elif field == b"retry" and value.isdigit() and len(value) <= _LONGEST_RETRY:
                self.retry = int(value)
            elif field == b"error":
                frames.append(("error", value))
        if data:
            frames.append((name.decode("utf-8", "replace") or "message", b"\n".join(data)))


def frame(data: bytes, name: str | None = None) -> bytes:
    """One event: its data on one line, LF only, the blank line included."""
    if name is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
