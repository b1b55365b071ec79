"""One line per request, and what else happens, by structlog: JSON, or text for people."""

import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, BinaryIO, Protocol, cast
from zlib import crc32

import orjson
import structlog
from structlog.dev import ConsoleRenderer
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gateway.config.logs import Form
from gateway.observe.exchange import COMPLETE, Exchange
from gateway.observe.faults import FAULTS, Fault
from gateway.observe.log_stream import LogStream


class Logger(FilteringBoundLogger, Protocol):
    """A logger that has a line for each request."""

    def bind(self, **new_values: Any) -> "Logger": ...

    def request(self, exchange: Exchange) -> None: ...


def build_logger(
    level: str = "info",
    stream: BinaryIO | None = None,
    *,
    form: Form = "json",
    sample: float = 1.0,
) -> Logger:
    """A logger of lines on `stream`, standard error unless given. Of the requests that ended well
    it writes the share `sample`: the same ones in every gateway that they pass."""
    stream = stream or sys.stderr.buffer
    if form == "auto":
        form = "text" if stream.isatty() else "json"
    lines, least = LogStream(stream, _lines_lost), logging.getLevelNamesMapping()[level.upper()]
    logger: Logger = structlog.wrap_logger(
        structlog.BytesLogger(cast("BinaryIO", lines)),
        processors=[
            _locate_exception,
            *(_text(colors=stream.isatty()) if form == "text" else [_render]),
        ],
        wrapper_class=_with_requests(least, lines, form, sample),
        cache_logger_on_first_use=True,
    )
    return logger


def _with_requests(least: int, lines: LogStream, form: Form, sample: float) -> type[Logger]:
    """structlog's for this level with a line for each request, which as JSON takes none of its
    steps: they cost four times what the line does."""
    wrapper: type[FilteringBoundLogger] = structlog.make_filtering_bound_logger(least)
    limit = sample * (1 << 32)
    shared = lru_cache(_CALLERS)(_written)

    class Requests(wrapper):  # type: ignore[misc, valid-type]  # it is made for a level
        def request(self, exchange: Exchange) -> None:
            """Those that ended well are left out by a hash of their ids."""
            level = logging.INFO
            if exchange.outcome == COMPLETE:
                if sample < 1 and crc32(exchange.request_id.encode()) >= limit:
                    return
            elif FAULTS.get(exchange.outcome, Fault.CLIENT) is not Fault.CLIENT:
                level = logging.WARNING
            if level < least:
                return
            if form == "text":
                self.log(level, "request", **_for_people(_known(exchange)))
            else:
                bound = _members(self._context) if self._context else b""
                lines.hold(
                    b'{"timestamp":%b%b%b%b%b%b\n'
                    % (
                        orjson.dumps(datetime.now(UTC), option=orjson.OPT_UTC_Z),
                        _STARTS[level],
                        bound,
                        _ids(exchange),
                        shared(_shared(exchange)),
                        orjson.dumps(_own(exchange))[1:],
                    )
                )

    return cast("type[Logger]", Requests)


# What stands between the timestamp and the fields.
_STARTS = {
    logging.INFO: b',"level":"info","event":"request",',
    logging.WARNING: b',"level":"warning","event":"request",',
}

# What many requests have in common, by its name in the line; empty as long as it is unknown.
_SHARED = {
    "dialect": "dialect",
    "operation": "operation",
    "agent": "agent",
    "upstream": "upstream",
    "target": "target",
    "client": "client",
    "workspace": "workspace",
    "key": "key_id",
}
_shared = attrgetter(*_SHARED.values())
_said = itemgetter(1)

# How many callers' are written for the next line.
_CALLERS = 1000


def _known(exchange: Exchange) -> dict[str, object]:
    """What the line of a request says: what is unknown is left out."""
    ids = {"request_id": exchange.request_id, "trace_id": exchange.trace.id}
    known = filter(_said, chain(ids.items(), zip(_SHARED, _shared(exchange), strict=True)))
    return dict(known) | _own(exchange)


def _own(exchange: Exchange) -> dict[str, object]:
    """What each request has for itself, behind its ids and what it shares with others."""
    known: dict[str, object] = {}
    if exchange.conversation:
        known["conversation"] = exchange.conversation
    known["outcome"] = exchange.outcome
    if exchange.drained:
        known["drained"] = exchange.drained
    known["stream"] = exchange.stream
    known["status"] = exchange.status
    known["attempts"] = exchange.attempts
    if exchange.tried:
        known["failed"] = exchange.tried
    known["duration_ms"] = _milliseconds(exchange.duration)
    if exchange.first_event is not None:
        known["first_event_ms"] = _milliseconds(exchange.first_event)
    if exchange.waited:
        known["waited_ms"] = _milliseconds(exchange.waited)
    known["events"] = exchange.events
    known["received_bytes"] = exchange.received
    known["sent_bytes"] = exchange.written
    usage = exchange.usage
    if usage is not None:
        if usage.input_tokens is not None:
            known["input_tokens"] = usage.input_tokens
        if usage.output_tokens is not None:
            known["output_tokens"] = usage.output_tokens
        if usage.credits is not None:
            known["credits"] = usage.credits
    return known


def _milliseconds(seconds: float) -> float:
    # To round to decimals, Python writes the number and reads it again.
    return round(seconds * 1e6) / 1000


def _members(known: Mapping[str, object]) -> bytes:
    """To be written before others in an object."""
    return orjson.dumps(known, default=str)[1:-1] + b"," if known else b""


# What somebody who watches looks for stands in the same place in each line; ids are for later.
_SEEN_FIRST = ("status", "outcome", "duration_ms", "dialect", "operation", "agent", "target")


def _for_people(known: dict[str, object]) -> dict[str, object]:
    first = {name: known[name] for name in _SEEN_FIRST if name in known}
    return first | known


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


def _text(*, colors: bool) -> list[Processor]:
    """For people. Values are written as Python writes them, so that none can steer a terminal."""
    renderer = ConsoleRenderer(colors=colors, sort_keys=False, repr_native_str=True, pad_event_to=0)

    def stamped(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        now = datetime.now(UTC).astimezone()
        stamp = f"{now:%H:%M:%S}.{now.microsecond // 1000:03}"
        told = {name: str(v) if isinstance(v, StrEnum) else v for name, v in event.items()}
        return {"timestamp": stamp, "level": method, **told}

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        return renderer(logger, method, event).encode("utf-8", "backslashreplace")

    return [stamped, rendered]


def _render(_logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    return _line(method, event.pop("event"), event)


def _ids(exchange: Exchange) -> bytes:
    name, trace = orjson.dumps(exchange.request_id), exchange.trace.id
    return b'"request_id":%b,%b' % (name, _members({"trace_id": trace}) if trace else b"")


def _written(shared: tuple[str, ...]) -> bytes:
    return _members(dict(filter(_said, zip(_SHARED, shared, strict=True))))


def _line(level: str, event: str, fields: Mapping[str, object]) -> bytes:
    # orjson writes a date itself, for a tenth of what structlog's stamp and renderer cost.
    line = {"timestamp": datetime.now(UTC), "level": level, "event": event, **fields}
    return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z)


def _lines_lost(count: int) -> bytes:
    """The line for those that nobody took; JSON also among text, as it may be either's reader."""
    line = {"timestamp": datetime.now(UTC), "level": "warning", "event": "log_lines_lost"}
    return orjson.dumps(line | {"lines": count}, option=orjson.OPT_UTC_Z)
