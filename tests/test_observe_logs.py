"""Log lines: JSON, one each, with what is known; of exceptions, types and places only."""

import io
import time

import pytest

from gateway.core.events import Json, Usage
from gateway.observe.exchange import Exchange
from gateway.observe.logs import Logger, build_logger, log_exchange
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
    log_exchange(logger, Exchange("r1", "bookbag-v2", time.monotonic()))
    (line,) = lines(stream)
    assert not {"", None} & {value for value in line.values() if not isinstance(value, dict)}
    assert (line["attempts"], line["events"], line["stream"]) == (0, 0, False)
    assert "agent" not in line
    assert "first_event_ms" not in line
    assert "credits" not in line


def test_what_it_cost(stream: io.BytesIO, logger: Logger) -> None:
    """Each figure that is known, 0 included."""
    exchange = Exchange("r1", "bookbag-v2", 0.0, duration=1.5, first_event=0.25)
    exchange.usage = Usage(input_tokens=0, credits=1.5)
    log_exchange(logger, exchange)
    (line,) = lines(stream)
    assert (line["duration_ms"], line["first_event_ms"]) == (1500.0, 250.0)
    assert (line["input_tokens"], line["credits"]) == (0, 1.5)
    assert "output_tokens" not in line


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
