"""An upstream inside the gateway (echo, replay): a script of bytes and pauses, played."""

import asyncio
from collections.abc import Iterator, Mapping

from gateway.core.codec import Pause
from gateway.proxy.answer import Sink


class EmbeddedAnswer:
    """Plays a script to the sink as a remote upstream's bytes would come."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, script: Iterator[bytes | Pause]) -> None:
        self._script = script
        self._sink: Sink | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False

    def relay(self, sink: Sink) -> None:
        self._sink = sink
        self._play()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._timer is None:
            self._play()

    def release(self) -> None:
        self.close()

    def close(self) -> None:
        self._sink = None
        if self._timer is not None:
            self._timer.cancel()

    def _play(self) -> None:
        self._timer = None
        while self._sink is not None and not self._paused:
            step = next(self._script, None)
            if isinstance(step, Pause):
                self._timer = asyncio.get_running_loop().call_later(step.seconds, self._play)
                return
            if step is None:
                sink, self._sink = self._sink, None
                sink.eof(None)
            else:
                self._sink.data(step)
