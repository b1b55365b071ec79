"""Log lines: JSON, one each, with what is known; of exceptions, types and places only."""

import asyncio
import errno
import io
import os
import threading
import time
from typing import Literal

import pytest

from gateway.core.events import Json, Usage
from gateway.observe.exchange import Exchange, Operation
from gateway.observe.logs import Logger, build_logger
from gateway.observe.trace import PassedOn
from gateway.observe.trace_context import TraceContext
from gateway.wire import json


@pytest.fixture
def stream() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def logger(stream: io.BytesIO) -> Logger:
    return build_logger("info", stream)


def lines(stream: io.BytesIO) -> list[dict[str, Json]]:
    return [json.mapping(json.loads(line)) for line in stream.getvalue().splitlines()]


def test_what_is_unknown_is_left_out(stream: io.BytesIO, logger: Logger) -> None:
    """No empty field, no null; a count of 0 is known."""
    logger.request(Exchange("r1", "bookbag-v2", time.monotonic()))
    (line,) = lines(stream)
    assert not {"", None} & {value for value in line.values() if not isinstance(value, dict)}
    assert (line["attempts"], line["events"], line["stream"]) == (0, 0, False)
    assert "agent" not in line
    assert "first_event_ms" not in line
    assert "credits" not in line


@pytest.mark.parametrize("form", ["json", "text"])
def test_whose_line_it_is(form: Literal["json", "text"], stream: io.BytesIO) -> None:
    """What is bound to a logger is in the lines of requests as well."""
    logger = build_logger("info", stream, form=form).bind(worker=7)
    logger.request(Exchange("r1", "bookbag-v2", time.monotonic()))
    logger.info("config_reloaded")
    assert stream.getvalue().count(b'"worker":7' if form == "json" else b"worker=7") == 2


def test_what_it_cost(stream: io.BytesIO, logger: Logger) -> None:
    """Each figure that is known, 0 included."""
    exchange = Exchange("r1", "bookbag-v2", 0.0, duration=1.5, first_event=0.25)
    exchange.usage = Usage(input_tokens=0, credits=1.5)
    logger.request(exchange)
    (line,) = lines(stream)
    assert (line["duration_ms"], line["first_event_ms"]) == (1500.0, 250.0)
    assert (line["input_tokens"], line["credits"]) == (0, 1.5)
    assert "output_tokens" not in line


@pytest.mark.parametrize("field", ["dialect", "agent", "target", "client", "workspace", "key_id"])
def test_each_line_is_its_own(field: str, stream: io.BytesIO, logger: Logger) -> None:
    """What requests of one caller have in common is written once, and is nobody else's."""
    for number, value in enumerate(("one", "other", "one")):
        exchange = Exchange(f"r{number}", "bookbag-v2", 0.0, agent="1", client="127.0.0.1")
        setattr(exchange, field, value)
        logger.request(exchange)
    name = "key" if field == "key_id" else field
    told = [(line["request_id"], line[name]) for line in lines(stream)]
    assert told == [("r0", "one"), ("r1", "other"), ("r2", "one")]


def test_where_a_line_is_in_pieces(stream: io.BytesIO) -> None:
    """Its fields are in their order, and each as JSON writes it, whichever of them are known."""
    logger = build_logger("info", stream).bind(worker=7)
    exchange = Exchange("r1", 'a"b', 0.0, agent="\\", conversation="c\n", tried=("a: b",))
    exchange.drained, exchange.waited = "complete", 0.0125
    exchange.trace = PassedOn(TraceContext("0" * 32, "0" * 16, 0))
    logger.request(exchange)
    (line,) = lines(stream)
    assert list(line)[:6] == ["timestamp", "level", "event", "worker", "request_id", "trace_id"]
    assert list(line)[6:] == [
        *("dialect", "agent", "conversation", "outcome", "drained", "stream", "status", "attempts"),
        *("failed", "duration_ms", "waited_ms", "events", "received_bytes", "sent_bytes"),
    ]
    assert (line["dialect"], line["agent"], line["conversation"]) == ('a"b', "\\", "c\n")
    assert (line["waited_ms"], line["failed"]) == (12.5, ["a: b"])


@pytest.mark.parametrize("text", ['a"b\\', "two\nlines", "\u2028\x1b[31m", "注文"])
def test_nothing_makes_a_line_of_its_own(stream: io.BytesIO, logger: Logger, text: str) -> None:
    """Whatever gets into a field stays in it."""
    logger.info("request", field=text)
    assert stream.getvalue().count(b"\n") == 1
    assert b"\x1b" not in stream.getvalue()
    assert lines(stream)[0]["field"] == text


def test_levels(stream: io.BytesIO) -> None:
    """What is below the level is not written."""
    quiet = build_logger("error", stream)
    quiet.info("request")
    quiet.error("internal_error")
    assert [line["level"] for line in lines(stream)] == ["error"]


_WORDS = "canary"


def _fail() -> None:
    try:
        raise KeyError(_WORDS)
    except KeyError as exc:
        raise RuntimeError(_WORDS) from exc


@pytest.mark.parametrize("given", [True, False], ids=["in its handler", "as an object"])
def test_exceptions_without_their_words(stream: io.BytesIO, logger: Logger, given: bool) -> None:
    """Each exception of a chain with its place, the first cause first; of its text, nothing."""
    try:
        _fail()
    except RuntimeError as exc:
        if given:
            logger.exception("internal_error")
        else:
            logger.error("internal_error", exc_info=exc)
    (line,) = lines(stream)
    shown = json.text(line["exception"])
    assert "canary" not in shown
    assert shown.index("builtins.KeyError") < shown.index("builtins.RuntimeError")
    assert "in _fail" in shown
    assert "exc_info" not in line


def test_exceptions_in_a_circle(stream: io.BytesIO, logger: Logger) -> None:
    """A chain that leads to itself ends."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    logger.error("internal_error", exc_info=first)
    assert json.text(lines(stream)[0]["exception"]).count("ValueError") == 2


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        ("complete", "info"),
        ("client_gone", "info"),
        ("rate_limited", "info"),
        ("upstream_failed", "warning"),
        ("unavailable", "warning"),
        ("internal", "warning"),
    ],
)
def test_whose_fault_it_is(outcome: str, level: str, stream: io.BytesIO, logger: Logger) -> None:
    """A client's mistakes are no warning to who runs the gateway."""
    logger.request(Exchange("r1", "bookbag-v2", 0.0, outcome=outcome))
    (line,) = lines(stream)
    assert line["level"] == level


def test_a_share_of_what_went_well(stream: io.BytesIO) -> None:
    """One in four here; of what did not go well, every one. Another gateway writes the same."""
    again = io.BytesIO()
    for target in (stream, again):
        logger = build_logger("info", target, sample=0.25)
        for number in range(2000):
            logger.request(Exchange(f"r{number}", "bookbag-v2", 0.0))
            logger.request(Exchange(f"f{number}", "bookbag-v2", 0.0, outcome="client_gone"))
    outcomes = [line["outcome"] for line in lines(stream)]

    assert outcomes.count("client_gone") == 2000
    assert 400 < outcomes.count("complete") < 600
    written = [[line["request_id"] for line in lines(each)] for each in (stream, again)]
    assert written[0] == written[1]


def test_text_for_people() -> None:
    """Nothing in it can steer a terminal, or make a line of its own."""
    stream = io.BytesIO()
    logger = build_logger("info", stream, form="text")
    exchange = Exchange("r1", "bookbag-v2", 0.0, status=200, agent="a\x1b[31m\nb")
    exchange.operation = Operation.CHAT
    logger.request(exchange)
    (line,) = stream.getvalue().decode().splitlines()

    assert "\x1b" not in line
    assert "info" in line
    assert "status=200" in line
    assert "operation='chat'" in line
    assert r"agent='a\x1b[31m\nb'" in line
    assert line.index("status=") < line.index("agent=") < line.index("request_id=")


def test_text_is_for_terminals() -> None:
    """A file or a pipe gets JSON, unless it is told otherwise."""

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    for stream, is_text in ((Terminal(), True), (io.BytesIO(), False)):
        build_logger("info", stream, form="auto").info("request", status=200)
        assert (not stream.getvalue().startswith(b"{")) is is_text


def test_what_failed_for_people(stream: io.BytesIO) -> None:
    """An exception's types and places, and not what it says."""
    logger = build_logger("info", stream, form="text")
    said = "_".join(["oc", "live", "secret"])
    try:
        raise KeyError(said)
    except KeyError as exc:
        logger.error("internal_error", exc_info=exc)

    assert b"KeyError" in stream.getvalue()
    assert b"oc_live_secret" not in stream.getvalue()


class Full(io.BytesIO):
    """A disk that is full for a while."""

    full = False

    def write(self, line: bytes) -> int:  # type: ignore[override]
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().write(line)


class Waiting(io.BytesIO):
    """A disk that keeps its first writer waiting, but not for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def write(self, line: bytes) -> int:  # type: ignore[override]
        written = super().write(line)
        if not self.reached.is_set():
            self.reached.set()
            self.go_on.wait(0.5)
        return written


async def test_lines_of_threads() -> None:
    """A request's line does not get into the middle of another thread's."""
    stream = Waiting()
    logger = build_logger("info", stream)
    writing = asyncio.create_task(asyncio.to_thread(logger.info, "long", text="x" * 6000))
    await asyncio.to_thread(stream.reached.wait, 30)

    logger.request(Exchange("r1", "bookbag-v2", time.monotonic()))
    await asyncio.sleep(0)
    stream.go_on.set()
    await writing

    assert [line["event"] for line in lines(stream)] == ["long", "request"]


def test_what_cannot_be_written() -> None:
    """Nobody who is served hears of it, and what comes later is written again."""
    stream = Full()
    logger = build_logger("info", stream)
    for number, full in enumerate((False, True, False)):
        stream.full = full
        logger.info("counted", number=number)
    assert [line["number"] for line in lines(stream)] == [0, 2]


@pytest.mark.parametrize("size", [10, 6000])
def test_a_reader_that_does_not_keep_up(size: int) -> None:
    """Nothing waits for it; it hears how many lines it has missed, and gets whole ones again."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "wb") as stream:
        logger = build_logger("info", stream)

        def log(first: int) -> None:
            for number in range(first, first + 3000):
                logger.info("counted", number=number, text="x" * size)

        for first in (0, 3000):
            logging = threading.Thread(target=log, args=(first,), daemon=True)
            logging.start()
            logging.join(30)
            assert not logging.is_alive(), "it waits for its reader"
            read = reader.read(1 << 20)
            logger.info("again")
            read += reader.read(1 << 20)
            *whole, lost, again = read.splitlines()
            told = json.mapping(json.loads(lost))
            assert json.mapping(json.loads(again))["event"] == "again"
            assert told["event"] == "log_lines_lost"
            counted = [line for line in whole if line.endswith(b"}")]
            assert len(counted) + (json.count(told["lines"]) or 0) == 3000
            assert len(whole) - len(counted) <= 1, "one may have been torn"
