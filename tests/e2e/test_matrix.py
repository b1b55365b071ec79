"""Every client before every upstream: what a client is told, of each story, through real sockets.

What is expected comes from the story. Whatever a protocol has no words for is in a table here, or
in `stories.UNTOLD`, with its reason; all the rest of a story must come through.
"""

import io
from collections.abc import AsyncIterator, Callable
from itertools import count

import aiohttp
import pytest
import pytest_asyncio
from msgspec import Struct
from msgspec.structs import replace

from gateway.app import Gateway
from gateway.config.load import load
from gateway.core.events import Failure, FinishReason, Json, ToolCall, Usage
from gateway.dialects import DIALECTS
from gateway.observe.logs import build_logger
from gateway.upstreams import UPSTREAMS
from gateway.wire import json
from gateway.wire.sse import Parser
from tests.e2e.running import ONCE, Answered, Running, config
from tests.e2e.scripted import END, Close, ScriptedUpstream, Step, chunk, document, head
from tests.e2e.speaking import ASK, HAND_IN, SPELLED, Request, Said, fragments, parted, read, texts
from tests.e2e.stories import FORMS, STORIES, UNTOLD, streamed, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The rows: clients, that ask for a stream or for a whole answer.

STREAMS_ONLY = {
    "bookbag-v1": "its answers are streams",
    "agentsgt": "its chat endpoint only streams",
    "sonzai": "its chat endpoint only streams",
}
CLIENTS = [
    (dialect, way)
    for dialect in ASK
    for way in ("stream", "whole")
    if way == "stream" or dialect not in STREAMS_ONLY
]

# The columns: upstreams that stream, in each of their forms, or answer in one JSON document.

DOCUMENTS = ("openai", "bookbag-v2", "chatbase-c", "agentsgt")
"""Those of whom one is known. Chatbase's has one form."""
UPSTREAM_FORMS = [
    *((form, "streams") for form in FORMS),
    *((form, "answers") for form in DOCUMENTS),
    ("echo", "streams"),
]

_PIECES = "a JSON answer comes in one piece, or breaks off before its first event"
_RESPONSE = "the document holds the text alone"
_ECHO = "it says what it was told, calls the tool that it was told to, and never fails"

UNTOLD_WHOLE: dict[tuple[str, str], str] = {
    **{(form, "late-error"): _PIECES for form in DOCUMENTS},
    **{("agentsgt", story): _RESPONSE for story in ("tool", "citations", "reasoning")},
}
UNTOLD_BY_ECHO = dict.fromkeys(("reasoning", "error", "late-error", "truncated"), _ECHO)

# What a client's protocol has no words for. The rest of the story is told to it.

_NO_CALLS = "v1 has no frame for a call: only its reason to finish tells of it"
_NO_REASONING = "there is no frame or part for it"
_TOKENS = "its usage is in tokens, and is left out where they are unknown"
_CHUNKS = "the schema of a chunk has no place for it"

UNSAID: dict[tuple[str, str, str], str] = {
    ("bookbag-v1", "stream", "calls"): _NO_CALLS,
    ("bookbag-v1", "stream", "reasoning"): _NO_REASONING,
    ("bookbag-v2", "stream", "reasoning"): _NO_REASONING,
    ("bookbag-v2", "whole", "reasoning"): _NO_REASONING,
    ("chatbase", "whole", "reasoning"): "a whole message has parts for the rest, and none for it",
    ("openai", "stream", "credits"): _TOKENS,
    ("openai", "whole", "credits"): _TOKENS,
    ("sonzai", "stream", "reasoning"): _CHUNKS,
    ("sonzai", "stream", "sources"): _CHUNKS,
    ("sonzai", "stream", "tokens"): _CHUNKS,
    ("sonzai", "stream", "credits"): _CHUNKS,
}

NO_ROUND = {
    "bookbag-v1": "it can neither be told of a call nor take a result",
    "sonzai": "a request's messages have no role for a result",
}

_OTHER = ("chatbase", "agentsgt")
"""Those whose words for the end include "other"; to the rest that is "stop"."""

_USAGE = {
    "openai": Usage(3, 2),
    "sonzai": Usage(3, 2),
    "agentsgt": Usage(3, 2),
    "agentsgt-data": Usage(3, 2),
    "bookbag-v1": Usage(credits=2),
    "bookbag-v2": Usage(credits=2),
    "chatbase-a": Usage(credits=2),
    "chatbase-b": Usage(credits=2),
    "chatbase-c": Usage(credits=2),
}
"""What each form says that a turn cost."""

_ARGUED = frozenset(
    (dialect, form)
    for dialect in ("openai", "chatbase", "agentsgt")
    for form in ("openai", "chatbase-a", "chatbase-b", "chatbase-c", "agentsgt")
)
"""Clients and upstreams who both tell a call's arguments as they come."""


def untold(form: str, way: str, story: str) -> str | None:
    """Why an upstream cannot tell the story, if it cannot."""
    if form == "echo":
        return UNTOLD_BY_ECHO.get(story)
    return (UNTOLD_WHOLE if way == "answers" else UNTOLD).get((form, story))


class Cell(Struct, frozen=True):
    """A client, an upstream, and what that tells."""

    dialect: str
    client: str
    """How it wants its answer: `stream` or `whole`."""
    form: str
    way: str
    """How the upstream answers: it `streams`, or `answers` in one document."""
    story: str

    def __str__(self) -> str:
        return f"{self.dialect}-{self.client}-{self.form}-{self.way}-{self.story}"

    @property
    def kind(self) -> str:
        """Of the upstream, which is the name of the agent before it."""
        return next(kind for kind in _KINDS if self.form.startswith(kind))

    @property
    def cut(self) -> bool:
        """Whether only a broken connection can tell that there is no end."""
        unmarked = self.way == "answers" or self.form == "agentsgt-text"
        return unmarked and self.story == "truncated"


COLUMNS = [
    (form, way, story)
    for form, way in UPSTREAM_FORMS
    for story in STORIES
    if untold(form, way, story) is None
]
CELLS = [Cell(*client, *column) for client in CLIENTS for column in COLUMNS]

# The gateway: one agent for each kind of upstream, named as it is.

_KINDS: dict[str, tuple[str, str, str]] = {
    "openai": ("openai", 'model = "m"', ""),
    "bookbag-v1": ("bookbag", "agent = 77", 'api = "v1"'),
    "bookbag-v2": ("bookbag", "agent = 77", ""),
    "chatbase": ("chatbase", 'agent = "5QHA"', ""),
    "sonzai": ("sonzai", 'agent = "luna"', ""),
    "agentsgt": ("agentsgt", 'agent = "luna"', ""),
    "echo": ("echo", "", ""),
}


def _agents(url: str) -> str:
    return "\n".join(
        f"""
[upstreams.{name}]
kind = "{kind}"
{f'base_url = "{url}"' if name != "echo" else ""}
{ONCE}
{more}
[[agents]]
id = {number}
workspace = "acme"
name = "{name}"
targets = [ {{ {", ".join(filter(None, [f'upstream = "{name}"', target]))} }} ]
"""
        for number, (name, (kind, target, more)) in enumerate(_KINDS.items(), 2)
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """Every remote upstream: each test says what it answers next."""
    async with ScriptedUpstream() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """One for all of the cells."""
    folder = tmp_path_factory.mktemp("matrix")
    path = folder / "gateway.toml"
    path.write_text(config(upstream.url, upstream=ONCE, more=_agents(upstream.url)))
    log = io.BytesIO()
    built = Gateway(load(path), folder, build_logger("debug", log), {})
    await built.start()
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Running(built, session, log)
    await built.stop()


_numbers = count(1)


def _message(cell: Cell) -> str:
    """What is asked: no two alike, for a thread is known by what was said in it."""
    if cell.form != "echo":
        return f"Where? {next(_numbers)}"
    return '/tool order_status {"order": 7}' if cell.story == "tool" else _text(cell.story)


def _text(story: str) -> str:
    return Said.of(STORIES[story]).text


def _asked(cell: Cell) -> Request:
    return ASK[cell.dialect](cell.kind, _message(cell), cell.client == "stream")


def _script(cell: Cell) -> list[Step]:
    if cell.way == "answers":
        (answer,) = document(whole(cell.form, "text" if cell.cut else cell.story))
        assert isinstance(answer, bytes)
        return [answer[:-20], Close] if cell.cut else [answer]
    pieces = map(chunk, streamed(cell.form, cell.story))
    return [head(), *pieces, Close if cell.cut else END]


# What an upstream says to the gateway alone: its ids, and what went wrong in it.
_OWN = (b'"msg_788"', b'"msg_789"', b'"conv_1"', b'"456"', b":456,", b"sk-canary", b"pod 7")


async def _told(gateway: Running, upstream: ScriptedUpstream, cell: Cell) -> Answered:
    if cell.form != "echo":
        upstream.answers(_script(cell))
    answer = await gateway.post(*_asked(cell))
    assert not [words for words in _OWN if words in answer.body]
    return answer


def _expected(cell: Cell) -> Said:
    """The story, without what cannot be said."""
    said = Said.of(STORIES[cell.story])
    said.usage = _USAGE.get(cell.form)
    if cell.form == "echo":
        _as_echo(said)
    if cell.form == "agentsgt-text" or (cell.form, cell.way) == ("agentsgt", "answers"):
        # Neither says why it ended, or what it cost.
        said.usage, said.reason = None, FinishReason.OTHER
    if said.reason is FinishReason.OTHER and cell.dialect not in _OTHER:
        said.reason = FinishReason.STOP
    for of, by, what in UNSAID:
        if (of, by) == (cell.dialect, cell.client):
            _WITHOUT[what](said)
    return said


def _as_echo(said: Said) -> None:
    """It cites itself, and counts words."""
    if said.text:
        said.sources = [("https://example.com/echo", "What you said")]
        said.usage = Usage(len(said.text.split()), len(said.text.split()))
    else:
        said.calls = [("call_1", *call[1:]) for call in said.calls]
        said.usage = Usage(4, 3)


def _without_reasoning(said: Said) -> None:
    said.reasoning = ""


def _without_tokens(said: Said) -> None:
    credits = said.usage and said.usage.credits
    said.usage = Usage(credits=credits) if credits else None


def _without_credits(said: Said) -> None:
    said.usage = said.usage and (replace(said.usage, credits=None) or None)


_WITHOUT: dict[str, Callable[[Said], None]] = {
    "calls": lambda said: said.calls.clear(),
    "reasoning": _without_reasoning,
    "sources": lambda said: said.sources.clear(),
    "tokens": _without_tokens,
    "credits": _without_credits,
}


def _spelled(cell: Cell, said: Said) -> list[bytes]:
    """What must stand in the answer, to the letter; echo's source is its own."""
    assert said.reason is not None
    there = {"sources": said.sources, "reasoning": said.reasoning, "calls": said.calls}
    if cell.form == "echo":
        del there["sources"]
    known = [what for what, value in there.items() if value]
    words = SPELLED[cell.dialect, cell.client]
    return [words[what] for what in (said.reason.value, *known)]


def of(*stories: str) -> pytest.MarkDecorator:
    """The cells of these stories."""
    cells = [cell for cell in CELLS if cell.story in stories]
    return pytest.mark.parametrize("cell", cells, ids=str)


@of("text", "unicode", "tool", "citations", "reasoning")
async def test_what_is_told(gateway: Running, upstream: ScriptedUpstream, cell: Cell) -> None:
    """A client of any protocol is told all that its protocol can say, whoever the upstream is."""
    answer = await _told(gateway, upstream, cell)
    assert answer.status == 200
    streams = cell.client == "stream"
    kind = "text/event-stream" if streams else "application/json"
    assert answer.headers["content-type"].startswith(kind)
    events = read(cell.dialect, answer.body)
    parted(events)
    expected = _expected(cell)
    assert Said.of(events) == expected
    assert not [word for word in _spelled(cell, expected) if word not in answer.body]
    if streams and cell.way == "streams" and (cell.dialect, cell.form) in _ARGUED:
        assert fragments(events) == (['{"or', 'der":7}'] if cell.story == "tool" else [])
    # The network cuts a text that has no frames.
    if streams and cell.way == "streams" and cell.form not in ("agentsgt-text", "echo"):
        assert texts(events) == texts(STORIES[cell.story]), "pieces are passed on as they come"


# The story that tells it, and what metrics call it.
_PARTS = {
    "calls": ("tool", "ToolCall"),
    "reasoning": ("reasoning", "ReasoningDelta"),
    "sources": ("citations", "Citations"),
    "tokens": ("text", "Metadata"),
}


@pytest.mark.parametrize(
    ("dialect", "way", "what"),
    # What an answer costs is no part of it.
    [said for said in UNSAID if said[2] in _PARTS and said[1:] != ("whole", "tokens")],
)
async def test_what_is_not_said_is_counted(
    gateway: Running, upstream: ScriptedUpstream, dialect: str, way: str, what: str
) -> None:
    """Operators see that a client is not told all of an answer."""
    story, part = _PARTS[what]
    series = f'oc_gateway_dropped_parts_total{{dialect="{dialect}",part="{part}"}}'
    before = (await gateway.metrics()).get(series, 0)
    await _told(gateway, upstream, Cell(dialect, way, "openai", "streams", story))
    await gateway.settled()
    assert (await gateway.metrics())[series] == before + 1


# Errors, in each dialect's words.


def _bookbag_error(message: str) -> Json:
    return {"error": {"code": "UPSTREAM_ERROR", "message": message}}


def _openai_error(message: str) -> Json:
    kind: dict[str, Json] = {"type": "server_error", "param": None, "code": "upstream_error"}
    return {"error": {"message": message, **kind}}


def _problem(message: str) -> Json:
    titled: dict[str, Json] = {"type": "about:blank", "title": "Bad Gateway", "status": 502}
    return {**titled, "detail": message, "message": message, "error": message}


def _v1_error(message: str) -> Json:
    return {"success": False, "error": {"code": "upstream_error", "message": message}}


_BEFORE = {
    "bookbag-v1": _v1_error,
    "bookbag-v2": _bookbag_error,
    "chatbase": _bookbag_error,
    "openai": _openai_error,
    "sonzai": _problem,
}


_FAILED = "the upstream failed"
_ENDED = "the upstream ended the stream early"
_CLOSED = "the upstream closed the connection early"


def check_refused(dialect: str, answer: Answered, message: str) -> None:
    """An error before the stream, because the upstream failed."""
    assert answer.status == 502
    if dialect == "agentsgt":
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.body == b"Upstream error"
        return
    kind = "application/problem+json" if dialect == "sonzai" else "application/json"
    assert answer.headers["content-type"].startswith(kind)
    assert answer.json == _BEFORE[dialect](message)


@of("error")
async def test_an_error_before_the_stream(
    gateway: Running, upstream: ScriptedUpstream, cell: Cell
) -> None:
    """It has a status and a body in the client's own words, whatever the upstream's were."""
    answer = await _told(gateway, upstream, cell)
    check_refused(cell.dialect, answer, _FAILED)


_Frames = list[tuple[str, bytes]]
_DONE = ("message", b"[DONE]")


def _last(dialect: str, message: str) -> _Frames:
    """What ends a stream that failed."""
    text: Json = {"type": "error", "errorText": message}
    said: dict[str, tuple[str, Json]] = {
        "bookbag-v1": ("error", {"code": "upstream_error", "message": message}),
        "openai": ("message", _openai_error(message)),
        "sonzai": ("message", {"error": {"message": message}}),
    }
    name, data = said.get(dialect, ("message", text))
    end = [] if dialect == "bookbag-v1" else [_DONE]
    return [(name, json.dumps(data)), *end]


@of("late-error", "truncated")
async def test_an_answer_that_breaks_off(
    gateway: Running, upstream: ScriptedUpstream, cell: Cell
) -> None:
    """What was said is told, then the error in the stream's own words and its end; an answer that
    is wanted whole is an error instead."""
    answer = await _told(gateway, upstream, cell)
    ended = _CLOSED if cell.cut else _ENDED
    message = ended if cell.story == "truncated" else _FAILED
    if cell.client == "whole" or cell.way == "answers":
        check_refused(cell.dialect, answer, message)
        return
    assert answer.status == 200
    frames: _Frames = Parser(max_event=1 << 30).feed(answer.body)
    last = _last(cell.dialect, message)
    assert frames[-len(last) :] == last
    assert _DONE not in frames[:-1]
    said, end = parted(read(cell.dialect, answer.body))
    assert isinstance(end, Failure)
    assert texts(said) == ["Your "]


_NO_CREDITS: dict[str, tuple[int, str]] = {
    "bookbag-v1": (503, '"code":"upstream_credits_exhausted"'),
    "bookbag-v2": (503, '"code":"UPSTREAM_CREDITS_EXHAUSTED"'),
    "chatbase": (402, '"code":"CHAT_CREDITS_EXHAUSTED"'),
    "openai": (429, '"code":"insufficient_quota"'),
    "agentsgt": (402, "No credits remaining"),
    "sonzai": (402, '"title":"Payment Required"'),
}


@pytest.mark.parametrize("cell", [c for c in CELLS if c.story == "error"], ids=str)
async def test_a_status(gateway: Running, upstream: ScriptedUpstream, cell: Cell) -> None:
    """An upstream's 402 has in each dialect the status and the word of its own."""
    upstream.answers(document({"error": "account 9 of sk-canary is empty"}, 402))
    answer = await gateway.post(*_asked(cell))
    status, word = _NO_CREDITS[cell.dialect]
    assert answer.status == status
    assert word in answer.body.decode()
    assert b"sk-canary" not in answer.body


# A whole tool round.

_CALL = ToolCall("call_1", "order_status", {"order": 7})
_OUTPUT = "it left Oslo"
_HANDED: dict[str, list[Step]] = dict.fromkeys(
    ("bookbag-v2", "chatbase"), document({"data": {"success": True}})
)
"""What the upstreams answer that are handed results in a request of their own."""

ROUNDS = [cell for cell in CELLS if cell.story == "tool" and cell.dialect not in NO_ROUND]


@pytest.mark.parametrize("cell", ROUNDS, ids=str)
async def test_a_tool_round(gateway: Running, upstream: ScriptedUpstream, cell: Cell) -> None:
    """The call reaches the client, its result the upstream, and the answer to that the client."""
    handed = [_HANDED[cell.kind]] if cell.kind in _HANDED else []
    if cell.form != "echo":
        upstream.answers(_script(cell), *handed, _script(replace(cell, story="text")))
    before = len(upstream.requests)
    asked = _asked(cell)
    told = read(cell.dialect, (await gateway.post(*asked)).body)
    assert Said.of(told).calls == [(_CALL.call_id, _CALL.name, _CALL.arguments)]

    answer = await HAND_IN[cell.dialect](gateway, asked, told, _CALL, _OUTPUT)
    assert answer.status == 200
    said = Said.of(read(cell.dialect, answer.body))
    if cell.form == "echo":
        assert said.text == f"The tool answered: {_OUTPUT}"
        return
    assert said.text == _text("text")
    requests = upstream.requests[before + 1 :]
    assert len(requests) == 1 + len(handed)
    assert _OUTPUT.encode() in requests[0].body


# The tables.


async def test_no_cell_is_missing() -> None:
    """Every dialect and every kind of upstream is here, and what is not told has its reason."""
    assert set(ASK) == set(DIALECTS)
    assert {dialect for dialect, made in DIALECTS.items() if made.reply is None} == set(
        STREAMS_ONLY
    )
    assert set(_KINDS) == set(UPSTREAMS) - {"replay"}
    assert {cell.kind for cell in CELLS} == set(_KINDS)
    assert set(HAND_IN) | set(NO_ROUND) == set(DIALECTS)
    untold_cells = len(UNTOLD) + len(UNTOLD_WHOLE) + len(UNTOLD_BY_ECHO)
    assert len(COLUMNS) + untold_cells == len(UPSTREAM_FORMS) * len(STORIES)
    assert {(dialect, client) for dialect, client, _ in UNSAID}.issubset(CLIENTS)
