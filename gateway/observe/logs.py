"""One JSON line per request, by structlog."""

import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from gateway.observe.exchange import Exchange

Logger = FilteringBoundLogger


def build_logger(level: str = "info", stream: BinaryIO | None = None) -> Logger:
    """A logger of JSON lines on `stream`, standard error unless given."""
    logger: Logger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stderr.buffer),
        processors=[_locate_exception, _render],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        cache_logger_on_first_use=True,
    )
    return logger


def log_exchange(logger: Logger, exchange: Exchange) -> None:
    """The line of one request: what is unknown is left out."""
    usage = exchange.usage
    fields = {
        "request_id": exchange.request_id,
        "dialect": exchange.dialect,
        "operation": exchange.operation,
        "agent": exchange.agent,
        "upstream": exchange.upstream,
        "key": exchange.key_id,
        "conversation": exchange.conversation,
        "stream": exchange.stream,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "attempts": exchange.attempts,
        "duration_ms": _milliseconds(exchange.duration),
        "first_event_ms": _milliseconds(exchange.first_event),
        "events": exchange.events,
    }
    if usage is not None:
        fields["input_tokens"] = usage.input_tokens
        fields["output_tokens"] = usage.output_tokens
        fields["credits"] = usage.credits
    logger.info("request", **{k: v for k, v in fields.items() if v is not None and v != ""})


def _locate_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The types of an exception and its causes, and where each was raised. What they say is left
    out: a `KeyError` says the key, and that may be a caller's text or a credential."""
    if "exc_info" not in event:
        return event
    given = event.pop("exc_info")
    exc = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if exc is not None:
        event["exception"] = "".join(_places(exc))
    return event


def _places(exc: BaseException) -> Iterator[str]:
    for link in _chain(exc):
        yield from traceback.format_tb(link.__traceback__)
        yield f"{type(link).__module__}.{type(link).__qualname__}\n"


def _chain(exc: BaseException) -> list[BaseException]:
    """The exception behind what led to it."""
    chain = [exc]
    while (link := chain[-1].__cause__ or chain[-1].__context__) and link not in chain:
        chain.append(link)
    return chain[::-1]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _render(_logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    # orjson writes a date itself, for a tenth of what structlog's stamp and renderer cost.
    line = {"timestamp": datetime.now(UTC), "level": method, **event}
    return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z)
