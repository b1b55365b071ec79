"""One answer on its way from the upstream's transport to the client's: the hot loop.

    data_received -> HTTP parser -> Decoder.feed -> Encoder.encode -> transport.write

Per event there are plain calls and nothing else: no await, task, queue, log or metric. The turn's
coroutine sleeps until the first content, until the client is slow, and until the terminal event.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, cast

from gateway.core.codec import Decoder, Encoder
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import CONTENT, TERMINAL, Event, Failure, Finish
from gateway.core.turn import Reply
from gateway.dialects.runs import encode_all
from gateway.proxy.answer import Answer


class Clocks(Protocol):
    """How long an upstream may take, in seconds. `first_event` and `total` run from the start of
    the attempt, `idle` from the last read."""

    @property
    def first_event(self) -> float: ...

    @property
    def idle(self) -> float: ...

    @property
    def total(self) -> float: ...


MESSAGES: dict[ErrorCode, str] = {
    ErrorCode.FIRST_EVENT_TIMEOUT: "the upstream took too long to begin its answer",
    ErrorCode.IDLE_TIMEOUT: "the upstream fell silent in the middle of its answer",
    ErrorCode.TOTAL_TIMEOUT: "the upstream took too long to complete its answer",
}


class Downstream(Protocol):
    """Where a stream goes."""

    def write(self, data: bytes) -> bool:
        """Send one batch of frames; whether the client is now too far behind."""
        ...

    async def drain(self) -> None:
        """Wait for a slow client. Raises `ClientStalled`."""
        ...


class Relay:
    """Takes one answer's body (it is the `Sink`), and gives the turn's events.

    First `opened`, then either `pour` (stream) or `fold` (whole); `close` whatever happens.
    """

    __slots__ = (
        "_answer",
        "_behind",
        "_bug",
        "_clocks",
        "_decoder",
        "_downstream",
        "_encoder",
        "_folding",
        "_held",
        "_last_read",
        "_loop",
        "_started",
        "_timer",
        "_wake",
        "_write",
        "ended",
        "events",
        "first_content",
        "reply",
        "terminal",
    )

    def __init__(self, answer: Answer, decoder: Decoder, clocks: Clocks, started: float) -> None:
        self.reply = Reply()
        self.events = 0
        self.first_content: float | None = None
        """By `time.monotonic`: uvloop's clock only knows milliseconds."""
        self.ended: float | None = None
        """The same of the terminal event."""
        self.terminal: Finish | Failure | None = None
        self._loop = asyncio.get_running_loop()
        self._answer = answer
        self._decoder = decoder
        self._clocks = clocks
        self._started = started
        self._last_read = started
        self._held: list[Event] = []
        self._folding = False
        self._encoder: Encoder
        self._write: Callable[[bytes], bool] | None = None
        self._downstream: Downstream | None = None
        self._behind = False
        self._wake: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._bug: Exception | None = None

    @property
    def times(self) -> tuple[float, float] | None:
        """Seconds from the start of the attempt to the first content, and from there to the last
        read; None before the first content."""
        if self.first_content is None:
            return None
        first, last = self.first_content - self._started, self._last_read - self.first_content
        return max(0.0, first), max(0.0, last)

    async def opened(self) -> None:
        """Wait for the first content, or the end. Raises `GatewayError` if that is a failure:
        until here another target may answer instead.

        A failure behind some content is one in mid-stream, also if a single read brought both:
        what a client sees does not depend on how the network cut the stream.
        """
        self._answer.relay(self)
        if self.terminal is None:  # an answer that has come whole needs no clock
            self._watch()
        while self.first_content is None:
            await self._woken()
        if CONTENT.isdisjoint(map(type, self._held)):
            self._raise_failure()

    async def fold(self) -> Reply:
        """The whole reply. Raises `GatewayError`."""
        self._held, self._folding = [], True
        while self.terminal is None:
            await self._woken()
        self._raise_failure()
        return self.reply.folded()

    def begin(self, encoder: Encoder, downstream: Downstream) -> bytes:
        """The frames of what has come so far; what comes from now on goes to `downstream`."""
        self._encoder, self._write, self._downstream = encoder, downstream.write, downstream
        held, self._held = self._held, []
        return encode_all(encoder, held)

    def discard(self) -> None:
        """The client has left, and the turn goes on for the record: nothing is encoded or written
        any more."""
        self._held, self._folding, self._write = [], True, None

    async def pour(self) -> Finish | Failure:
        """Stream until the terminal event, which is returned and not written. Raises what a bug
        of ours raised in the transport's calls."""
        while True:
            while self._behind:
                await self._wait_for_client()
            if self._bug is not None:
                raise self._bug
            if self.terminal is not None:
                return self.terminal
            await self._woken()

    def close(self) -> None:
        """Give the upstream's connection back if the turn ended well, else end it."""
        if self._timer is not None:
            self._timer.cancel()
        if type(self.terminal) is Finish:
            self._answer.release()
        else:
            self._answer.close()

    # Sink: called from the transport's read.

    def data(self, data: bytes) -> None:
        self._last_read = self._loop.time()
        try:
            events = self._decoder.feed(data)
            if events:
                self._take(events)
        except Exception as exc:  # a bug: it is the turn that fails, not the transport
            self._break(exc)

    def eof(self, error: GatewayError | None) -> None:
        try:
            self._end(error)
        except Exception as exc:
            self._break(exc)

    # Inside.

    def _take(self, events: list[Event]) -> None:
        if self.terminal is not None:
            return
        self.events += len(events)
        self.reply.extend(events)
        last = events[-1]
        if type(last) in TERMINAL:
            self.terminal = cast("Finish | Failure", last)
            self.ended = time.monotonic()
            events.pop()
            self._wake_up()
        write = self._write
        if write is None:
            self._hold(events)
        else:
            encoder = self._encoder
            # Most reads bring one event.
            out = encoder.encode(events[0]) if len(events) == 1 else encode_all(encoder, events)
            if out and write(out):
                self._fall_behind()

    def _hold(self, events: list[Event]) -> None:
        """The client's stream is not open yet, or there is none."""
        if not self._folding:
            self._held += events
        if self.first_content is None and (
            self.terminal is not None or not CONTENT.isdisjoint(map(type, events))
        ):
            self.first_content = time.monotonic()
            self._wake_up()

    def _end(self, error: GatewayError | None) -> None:
        """The body is over, or time is: the decoder knows if the upstream had said its last."""
        events = self._decoder.eof() if error is None else self._decoder.lost()
        if events and error is not None and type(events[-1]) is Failure:
            events[-1] = Failure(error.code, error.message)
        if events:
            self._take(events)

    def _break(self, bug: Exception) -> None:
        self._bug = bug
        self._write, self._held = None, []
        self.terminal = None
        self._take([Failure(ErrorCode.INTERNAL, "the gateway failed to serve this turn")])

    def _raise_failure(self) -> None:
        if self._bug is not None:
            raise self._bug
        if isinstance(self.terminal, Failure):
            raise GatewayError(
                self.terminal.code, self.terminal.message, retry_after=self.terminal.retry_after
            )

    # Waking the turn's coroutine: three times in a turn, not once per event.

    def _woken(self) -> asyncio.Future[None]:
        """To be awaited, by who has just seen that there is nothing to do."""
        self._wake = wake = self._loop.create_future()
        return wake

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # A slow client.

    def _fall_behind(self) -> None:
        if not self._behind:
            self._behind = True
            self._answer.pause()
            self._wake_up()

    async def _wait_for_client(self) -> None:
        assert self._downstream is not None
        await self._downstream.drain()
        self._behind = False
        self._last_read = self._loop.time()
        self._answer.resume()

    # One coarse timer per turn.

    def _watch(self) -> None:
        """Look at the clocks, and look again when the next of them may have run out."""
        now = self._loop.time()
        code, deadline = self._next_deadline(now)
        if now >= deadline:
            self.eof(GatewayError(code, MESSAGES[code]))
        else:
            # The first content may come at any time, and from then on it is the idle clock's turn.
            when = min(deadline, now + self._clocks.idle)
            self._timer = self._loop.call_at(when, self._watch)

    def _next_deadline(self, now: float) -> tuple[ErrorCode, float]:
        total = self._started + self._clocks.total
        if self.first_content is None:
            code, deadline = ErrorCode.FIRST_EVENT_TIMEOUT, self._started + self._clocks.first_event
        else:
            # While the client is the slow one, the upstream is not to blame.
            last = now if self._behind else self._last_read
            code, deadline = ErrorCode.IDLE_TIMEOUT, last + self._clocks.idle
        return (ErrorCode.TOTAL_TIMEOUT, total) if total <= deadline else (code, deadline)
