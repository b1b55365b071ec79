"""README.md's section on the log: its tables are what the program writes."""

import io
import re
from pathlib import Path

import gateway
from gateway.core.events import Usage
from gateway.observe.exchange import Exchange, Operation
from gateway.observe.logs import build_logger
from gateway.observe.trace import PassedOn
from gateway.observe.trace_context import TraceContext
from gateway.wire import json

ROOT = Path(gateway.__file__).parent
_EVENT = re.compile(
    r"[lL]ogger\.(?:debug|info|warning|error|exception)\(\s*\"(\w+)\"|\"event\": \"(\w+)\""
)


def tables() -> list[set[str]]:
    """The names in the first column of each."""
    text = (ROOT.parent / "README.md").read_text("utf-8")
    section = text.partition("\n### The log\n")[2].partition("\n### ")[0]
    first, second = section.partition("| event |")[::2]
    return [
        {
            name
            for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", cell)
        }
        for table in (first, second)
    ]


def test_the_fields() -> None:
    """A line that has all of them."""
    stream = io.BytesIO()
    exchange = Exchange("r1", "bookbag-v2", 0.0, operation=Operation.CHAT, client="127.0.0.1")
    names = ("agent", "upstream", "target", "workspace", "key_id", "conversation", "drained")
    for name in names:
        setattr(exchange, name, "x")
    exchange.trace = PassedOn(TraceContext("0" * 32, "0" * 16, 0))
    exchange.tried, exchange.first_event, exchange.waited = ("x",), 1.0, 1.0
    exchange.usage = Usage(1, 1, 1.0)
    build_logger("info", stream).request(exchange)
    line = json.mapping(json.loads(stream.getvalue()))

    assert tables()[0] == line.keys() - {"timestamp", "level", "event"}


def test_the_events() -> None:
    """Each that the source names, and no other."""
    found = {
        one or other
        for path in ROOT.rglob("*.py")
        for one, other in _EVENT.findall(path.read_text("utf-8"))
    }
    assert len(found) > 10
    assert tables()[1] == found - {"request"}
