"""`oc-gateway translate`: the codecs as a filter."""

import argparse
import sys
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

    from gateway.core.codec import Decoder, Dialect, Encoder
    from gateway.core.turn import ChatRequest, Reply, Turn

# Whoever compares two runs wants the same bytes.
_AGENT, _CONVERSATION, _QUESTION, _ANSWER = "agent", "1", "msg_1", "msg_2"

_DESCRIPTION = """\
Read what an upstream sent, from standard input, and write what a client of a dialect would have
received. Ids are made up; the exit code is 1 if the turn failed.

With --explain, each event of the upstream's ("<") is followed by what it means ("=") and by the
frames that this becomes (">").
"""

_EPILOG = """\
examples:
  oc-gateway translate --from openai --to bookbag-v2 < recorded.sse
  curl -sN https://llm.example/v1/chat/completions ... \\
    | oc-gateway translate --from openai --to bookbag-v1
  oc-gateway translate --from chatbase --to bookbag-v2 --whole < recorded.json
  oc-gateway translate --from chatbase --to openai --explain < recorded.sse
"""


def define(parser: argparse.ArgumentParser) -> None:
    from gateway.dialects import DIALECTS
    from gateway.upstreams import UPSTREAMS

    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    remote = [name for name, kind in UPSTREAMS.items() if kind.request is not None]
    parser.add_argument("--from", dest="source", choices=remote, required=True)
    parser.add_argument("--to", dest="dialect", choices=list(DIALECTS), required=True)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--whole", action="store_true", help="the answer to a client that asked for no stream"
    )
    form.add_argument("--explain", action="store_true", help="event by event, what became of it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if the upstream's turn failed, 2 if the dialect has no such answer."""
    from gateway.dialects import DIALECTS

    if args.whole and DIALECTS[args.dialect].reply is None:
        print(f"{args.dialect} only streams: leave out --whole", file=sys.stderr)
        return 2
    if sys.stdin is None:
        print("there is nothing to read: give the recording on standard input", file=sys.stderr)
        return 2
    return translate(args, cast("BufferedReader", sys.stdin.buffer), sys.stdout.buffer)


def translate(args: argparse.Namespace, source: "BufferedReader", sink: BinaryIO) -> int:
    """Piece by piece, as it arrives; how many events were dropped goes to standard error."""
    from gateway.core.codec import Target
    from gateway.core.turn import ChatRequest, Reply, Turn
    from gateway.dialects import DIALECTS
    from gateway.upstreams import UPSTREAMS

    decoder = UPSTREAMS[args.source].decoder(Target(upstream=args.source))
    dialect = DIALECTS[args.dialect]
    turn = Turn(conversation_id=_CONVERSATION, user_message_id=_QUESTION, message_id=_ANSWER)
    ask = ChatRequest(agent=_AGENT, message="", stream=not args.whole)
    encoder, reply = dialect.encoder(turn, ask), Reply()
    write = _explained if args.explain else _written
    for piece in write(source, decoder, encoder, reply):
        if not args.whole:
            sink.write(piece)
            sink.flush()
    if args.whole:
        sink.write(_whole(dialect, turn, ask, reply) + b"\n")
    for part, count in encoder.dropped.items():
        print(f"{args.dialect} has no words for {part}: {count} dropped", file=sys.stderr)
    return 1 if reply.failure else 0


def _written(
    source: "BufferedReader", decoder: "Decoder", encoder: "Encoder", reply: "Reply"
) -> "Iterator[bytes]":
    """The frames."""
    for data in _pieces(source):
        events = decoder.feed(data) if data else decoder.eof()
        reply.extend(events)
        yield b"".join(encoder.encode(event) for event in events)


def _explained(
    source: "BufferedReader", decoder: "Decoder", encoder: "Encoder", reply: "Reply"
) -> "Iterator[bytes]":
    """Event by event, with the frames."""
    from gateway.cli.explain import Explainer

    explainer = Explainer(decoder, encoder, reply)
    for data in _pieces(source):
        yield (explainer.feed(data) if data else explainer.eof()).encode()


def _pieces(source: "BufferedReader") -> "Iterator[bytes]":
    """As they arrive; at the end an empty one."""
    while data := source.read1(1 << 16):
        yield data
    yield b""


def _whole(dialect: "Dialect", turn: "Turn", ask: "ChatRequest", reply: "Reply") -> bytes:
    from gateway.core.errors import GatewayError

    if reply.failure is not None:
        return dialect.error(GatewayError(reply.failure.code, reply.failure.message)).body
    assert dialect.reply is not None, "asked before anything was read"
    return dialect.reply(turn, ask, reply.folded())
