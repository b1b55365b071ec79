"""`oc-gateway translate` for every pair of an upstream kind and a dialect."""

import argparse
import io
from collections.abc import Iterable

import pytest

from gateway.cli.explain import Explainer
from gateway.cli.main import build_parser
from gateway.cli.translate import translate
from gateway.core.codec import Dialect, Target
from gateway.core.events import Failure
from gateway.core.turn import ChatRequest, Reply, Turn
from gateway.dialects import DIALECTS
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.remote import REMOTE
from gateway.wire import json
from tests.golden_cases import Case, cases
from tests.serving import cli

TURN = Turn(conversation_id="1", user_message_id="msg_1", message_id="msg_2")
ASK = ChatRequest(agent="agent", message="", stream=True)


def of(kind: str) -> list[Case]:
    """The kind's transcripts; one needs a setting that the command does not have."""
    return [c for c in cases() if c.kind == kind and c.name != "openai/no-blank-lines"]


def run(source: bytes, *args: str) -> tuple[int, bytes]:
    """The command on these bytes."""
    parsed: argparse.Namespace = build_parser().parse_args(["translate", *args])
    sink = io.BytesIO()
    return translate(parsed, io.BufferedReader(io.BytesIO(source)), sink), sink.getvalue()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", REMOTE)
def test_every_pair(kind: str, dialect: str) -> None:
    """What a client would have received, with made-up ids; exit code 1 for a turn that failed."""
    for case in of(kind):
        events = case.decoded([case.data])
        encoder = DIALECTS[dialect].encoder(TURN, ASK)
        expected = b"".join(encoder.encode(event) for event in events)
        code, written = run(case.data, "--from", kind, "--to", dialect)
        assert written == expected, case.name
        assert code == isinstance(events[-1], Failure), case.name


@pytest.mark.parametrize("kind", REMOTE)
def test_whole(kind: str) -> None:
    """`--whole`: one JSON body, or the error's."""
    dialect: Dialect = DIALECTS["bookbag-v2"]
    assert dialect.reply is not None
    for case in of(kind):
        reply = Reply()
        reply.extend(case.decoded([case.data]))
        code, written = run(case.data, "--from", kind, "--to", dialect.name, "--whole")
        body = json.mapping(json.loads(written))
        if reply.failure is not None:
            assert (code, list(body)) == (1, ["error"]), case.name
        else:
            assert (code, written) == (0, dialect.reply(TURN, ASK, reply.folded()) + b"\n"), (
                case.name
            )


EXPLAINED = """\
< : ping
= (nothing)

< event: message
< data: {"choices":[{"delta":{"content":"Hi","reasoning_content":"Hm"}}]}
= ReasoningDelta {"text":"Hm"}
> (no words for it)
= TextDelta {"text":"Hi"}
> data: {"type":"text-delta","text":"Hi"}

< data: {"usage":{"prompt_tokens":3},"choices":[{"delta":{},"finish_reason":"stop"}]}
= (nothing)

< data: [DONE]
= Metadata {"usage":{"input_tokens":3}}
> (nothing)
= Finish {"reason":"stop"}
> data: {"type":"finish","finishReason":"stop","metadata":{"userMessageId":"msg_1","conversationId":"1","messageId":"msg_2","usage":{"inputTokens":3}}}
> data: [DONE]

"""  # noqa: E501


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_explained(end: str) -> None:
    """`--explain`: each event of the upstream's, what it means, and what became of that; the same
    however the bytes arrive."""
    sent = "\n".join(line[2:] for line in EXPLAINED.splitlines() if line[:1] in ("<", ""))
    data = (sent + "\n").replace("\n", end).encode()
    assert run(data, "--from", "openai", "--to", "bookbag-v2", "--explain")[1] == EXPLAINED.encode()

    for size in (1, 2, 3, 7):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert explained("openai", "bookbag-v2", pieces) == EXPLAINED


def explained(kind: str, dialect: str, pieces: Iterable[bytes]) -> str:
    """What the command explains of a stream that arrives so."""
    decoder = UPSTREAMS[kind].decoder(Target(upstream=kind))
    explainer = Explainer(decoder, DIALECTS[dialect].encoder(TURN, ASK), Reply())
    return "".join(map(explainer.feed, pieces)) + explainer.eof()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", REMOTE)
def test_every_pair_explained(kind: str, dialect: str) -> None:
    """The frames are those of the command without it, and the exit code is the same."""
    for case in of(kind):
        plain = run(case.data, "--from", kind, "--to", dialect)
        code, written = run(case.data, "--from", kind, "--to", dialect, "--explain")
        lines = written.decode().split("\n")
        frames = [line[2:] for line in lines if line.startswith("> ") and line[2] != "("]
        assert frames == [line for line in plain[1].decode().split("\n") if line], case.name
        assert code == plain[0], case.name


def test_explained_to_its_end() -> None:
    """A stream that ends early, with bytes that are no text and none for a terminal."""
    code, written = run(
        b'data: {"a":"\x1b[2J\xff"}', "--from", "chatbase", "--to", "bookbag-v1", "--explain"
    )
    assert code == 1
    assert written.decode().startswith(
        '< data: {"a":"\\x1b[2J\\xff"}\n= (nothing)\n\n< (the end)\n'
    )


def test_whole_is_not_explained() -> None:
    """It is no stream: exit code 2."""
    done = cli("translate", "--from", "openai", "--to", "bookbag-v2", "--whole", "--explain")
    assert done.returncode == 2


def test_as_a_filter() -> None:
    """Standard input to standard output; what was dropped is told beside it."""
    (case,) = (c for c in of("openai") if c.name == "openai/tools")
    done = cli("translate", "--from", "openai", "--to", "bookbag-v1", stdin=case.data)
    assert done.returncode == 0
    assert done.stdout.startswith("event: done\n")
    assert done.stderr == "bookbag-v1 has no words for ToolCall: 1 dropped\n"


@pytest.mark.parametrize("stdin", [b"", b"\n\n", b"data: {", b"<html>", b"\xff" * 100])
def test_nothing_to_read(stdin: bytes) -> None:
    """No answer at all is a turn that failed."""
    code, written = run(stdin, "--from", "openai", "--to", "bookbag-v2")
    assert code == 1
    assert b'{"type":"error"' in written


def test_v1_only_streams() -> None:
    """`--whole` is nothing that v1 has: exit code 2, before anything is read."""
    done = cli("translate", "--from", "openai", "--to", "bookbag-v1", "--whole")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bookbag-v1 only streams: leave out --whole\n"


@pytest.mark.parametrize("args", [["--from", "echo"], ["--from", "nobody"], ["--to", "nobody"], []])
def test_wrong_command_line(args: list[str]) -> None:
    """Exit code 2 and the names that there are; `echo` sends nothing that could be recorded."""
    given = {
        "--from": "openai",
        "--to": "bookbag-v2",
        **dict(zip(args[::2], args[1::2], strict=True)),
    }
    flat = [word for pair in given.items() for word in pair] if args else []
    done = cli("translate", *flat)
    assert done.returncode == 2
    assert "usage: oc-gateway translate" in done.stderr
