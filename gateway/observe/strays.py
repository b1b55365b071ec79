"""What Python and libraries say by themselves, as lines of our log: without it, a callback that
fails is a traceback in the middle of the lines, with the words of its exception."""

import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import TextIO

from gateway.observe.logs import Logger

# Seconds between two lines of the same.
_AGAIN = 60.0

# With tracing on, it has lines of its own.
_TOLD_ELSEWHERE = "opentelemetry"


def collect_strays(logger: Logger) -> None:
    """For the rest of the process, which has to be the gateway's own. Places and types only: what
    is said may be a caller's text or a credential."""
    strays = Strays(logger)
    logging.basicConfig(handlers=[strays], level=logging.WARNING, force=True)
    sys.excepthook = lambda _type, exc, _traceback: strays.failed("process", exc)
    threading.excepthook = lambda args: strays.failed("thread", args.exc_value)
    sys.unraisablehook = lambda args: strays.failed("finalizer", args.exc_value)
    warnings.showwarning = strays.warned


class Strays(logging.Handler):
    """Lines for a logger."""

    def __init__(self, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger
        self._clock = clock
        self._again: dict[tuple[str, str], float] = {}
        """When each may be told again."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == _TOLD_ELSEWHERE:
            return
        if record.exc_info and record.exc_info[1] is not None:
            self.failed(record.name, record.exc_info[1])
        else:
            self._told(record.name, f"{record.pathname}:{record.lineno}")

    def failed(self, source: str, exc: BaseException | None) -> None:
        """An exception that nobody has caught. It is a bug, so each is told."""
        self._logger.error("internal_error", source=source, exc_info=exc)

    def warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """As `warnings.showwarning`."""
        self._told(category.__name__, f"{filename}:{lineno}")

    def _told(self, source: str, place: str) -> None:
        """Once in a while: a library may have the same to say of each connection."""
        now, what = self._clock(), (source, place)
        if now >= self._again.get(what, 0.0):
            self._again[what] = now + _AGAIN
            self._logger.warning("library_warning", source=source, place=place)
