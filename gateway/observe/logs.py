"""One JSON line per request, by structlog."""

import logging
import sys
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
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _render,
        ],
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


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    # orjson writes a date itself, for a tenth of what structlog's stamp and renderer cost.
    line = {"timestamp": datetime.now(UTC), **event}
    return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z)
