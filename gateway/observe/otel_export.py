"""Spans on their way to the collector: in a thread of the SDK's, from a queue that is bounded, so
that no request ever waits for it. When the queue is full, the oldest go."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio, Sampler

from gateway import __version__
from gateway.config.tracing import Tracing
from gateway.observe.logs import Logger

# How long a stop waits for what is still to be sent, in seconds.
FLUSH = 3.0

# How often the same trouble is told of, in seconds: it comes again with every batch.
_TELL_EVERY = 60.0

_SERVICE = "oc-gateway"
# What the SDK calls a service that nobody has given a name.
_UNNAMED = "unknown_service"


class Exporting:
    """The SDK, put together: nothing of it is global but the log of what it has trouble with."""

    def __init__(self, tracing: Tracing, headers: Mapping[str, str], logger: Logger) -> None:
        self._troubles = _Troubles(logger)
        _sdk_log().addHandler(self._troubles)
        _sdk_log().propagate = False  # else it writes lines of its own, with what collectors say
        self._exporter = OTLPSpanExporter(endpoint=_endpoint(tracing), headers=dict(headers))
        self._provider = TracerProvider(
            sampler=_sampler(tracing), resource=_resource(tracing), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer: trace.Tracer = self._provider.get_tracer(_SERVICE, __version__)

    async def close(self) -> None:
        """Send what is left, for `FLUSH` seconds at most."""
        sent = asyncio.Event()
        # The loop would wait for a thread of its own, however long that one takes.
        sending = threading.Thread(
            target=self._send, args=(asyncio.get_running_loop(), sent), daemon=True
        )
        sending.start()
        try:
            async with asyncio.timeout(FLUSH):
                await sent.wait()
        except TimeoutError:
            self._troubles.tell("traces could not be sent in time before the stop")
            # It tries no more, and the thread comes to its end.
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # the SDK has no types here

    def _send(self, loop: asyncio.AbstractEventLoop, sent: asyncio.Event) -> None:
        self._provider.shutdown()
        _sdk_log().removeHandler(self._troubles)
        with suppress(RuntimeError):  # nobody has waited for so long, and the loop is gone
            loop.call_soon_threadsafe(sent.set)


def _sdk_log() -> logging.Logger:
    return logging.getLogger("opentelemetry")


def _endpoint(tracing: Tracing) -> str | None:
    return f"{tracing.endpoint}/v1/traces" if tracing.endpoint is not None else None


def _sampler(tracing: Tracing) -> Sampler | None:
    ratio = tracing.sample_ratio
    return ParentBasedTraceIdRatio(ratio) if ratio is not None else None


def _resource(tracing: Tracing) -> Resource:
    """Named as the file says, else as OpenTelemetry's variables do, else as we are called."""
    known = Resource.create({SERVICE_VERSION: __version__})
    named = str(known.attributes[SERVICE_NAME])
    ours = _SERVICE if named.startswith(_UNNAMED) else named
    return known.merge(Resource({SERVICE_NAME: tracing.service_name or ours}))


class _Troubles(logging.Handler):
    """What the SDK has trouble with, as lines of our log. Of what it puts into its words only the
    numbers: the rest may be an address with a token in it, or a collector's answer."""

    def __init__(self, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger
        self._clock = clock
        self._again: dict[str, float] = {}
        """When each may be told again."""

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and record.args:
            words = str(record.msg)
            self.tell(
                words, *(arg if isinstance(arg, int | float) else "..." for arg in record.args)
            )
        else:  # it may have been put together before
            self.tell(f"in {record.name}")

    def tell(self, words: str, *numbers: float | str) -> None:
        now = self._clock()
        if now >= self._again.get(words, 0.0):
            self._again[words] = now + _TELL_EVERY
            with suppress(TypeError, ValueError):  # a number was wanted, and there was none
                words %= numbers
            self._logger.warning("tracing", trouble=words)
