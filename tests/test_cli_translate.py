"""`oc-gateway translate` for every pair of an upstream kind and a dialect."""

import argparse
import io

import pytest

from gateway.cli.main import build_parser
from gateway.cli.translate import translate
from gateway.core.codec import Dialect
from gateway.core.events import Failure
from gateway.core.turn import Reply, Turn
from gateway.dialects import DIALECTS
from gateway.upstreams.remote import REMOTE
from gateway.wire import json
from tests.golden_cases import Case, cases
from tests.serving import cli

TURN = Turn(conversation_id="1", user_message_id="msg_1", message_id="msg_2")


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
        encoder = DIALECTS[dialect].encoder(TURN)
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
            assert (code, written) == (0, dialect.reply(TURN, reply.folded()) + b"\n"), case.name


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
