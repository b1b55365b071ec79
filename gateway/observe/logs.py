"""One JSON line per request, by structlog."""

import logging
import sys
from typing import BinaryIO

import orjson
import structlog

from gateway.observe.exchange import Exchange

Logger = structlog.typing.FilteringBoundLogger


def build_logger(level: str = "info", stream: BinaryIO | None = None) -> Logger:
    """A logger of JSON lines on `stream`, standard error unless given."""
    logger: Logger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stderr.buffer),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
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
        "duration_ms": round(exchange.duration * 1000, 3),
        "first_event_ms": _milliseconds(exchange.first_event),
        "events": exchange.events,
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "credits": usage and usage.credits,
    }
    logger.info("request", **{k: v for k, v in fields.items() if v not in (None, "")})


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _dumps(value: object, **_: object) -> bytes:
    return orjson.dumps(value, default=str)
