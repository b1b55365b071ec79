"""`oc-gateway chat`: talk to an agent of a running gateway from the terminal."""

import argparse
import http.client
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from msgspec import Struct

from gateway.cli.run import DEMO_KEY

if TYPE_CHECKING:
    from gateway.core.events import Event

_EPILOG = """\
examples:
  oc-gateway chat 1 "Where is my order?"        one question
  oc-gateway chat support                       a conversation, line by line; Ctrl-D ends it
  OC_KEY=oc_live_... oc-gateway chat 12 --url https://chat.acme.com

The key is read from the environment variable OC_KEY; without one, the demo key is tried.
"""

# A person waits longer for a model than any proxy does; then it is better to hear of it.
_TIMEOUT = 300.0


def define(parser: argparse.ArgumentParser) -> None:
    parser.description = "Stream an agent's answers to the terminal, continuing the conversation."
    parser.epilog = _EPILOG
    parser.add_argument("agent", help="its id, name or an alias")
    parser.add_argument("message", nargs="?", help="one message; without it, lines of input")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway (%(default)s)")
    parser.add_argument("--conversation", metavar="ID", help="continue this conversation")
    parser.add_argument("--user", metavar="ID", help="your id for the end user")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if a turn failed, 2 if the gateway's address or the key cannot be one."""
    session = _Session(args.url, args.agent, args.conversation, args.user)
    failed = False
    for message in [args.message] if args.message else _lines():
        try:
            failed = not session.say(message) or failed
        except (OSError, http.client.HTTPException) as exc:
            print(f"no answer from {args.url}: {exc}", file=sys.stderr)
            return 1
        except ValueError:  # whose text would show the key
            print("check --url and OC_KEY: they cannot be sent as they are", file=sys.stderr)
            return 2
    if session.conversation:
        print(f"[conversation {session.conversation}]", file=sys.stderr)
    return 1 if failed else 0


def _lines() -> Iterator[str]:
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line


class _Session(Struct):
    url: str
    agent: str
    conversation: str | None
    user: str | None

    def say(self, message: str) -> bool:
        """Send one message and print the answer as it comes; whether it was completed."""
        from gateway.core.codec import Target
        from gateway.upstreams import UPSTREAMS

        connection, response = self._post(message)
        try:
            if response.status != 200:
                print(_complaint(response), file=sys.stderr)
                return False
            # A client of the gateway reads what a gateway in front of Bookbag reads.
            decoder = UPSTREAMS["bookbag-v2"].decoder(Target(upstream="gateway"))
            complete = False
            while data := response.read1(1 << 16):
                complete = self._show(decoder.feed(data)) or complete
            return self._show(decoder.eof()) or complete
        finally:
            connection.close()

    def _post(self, message: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        from gateway.wire import json

        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        body: dict[str, object] = {"message": message}
        if self.conversation:
            body["conversationId"] = self.conversation
        if self.user:
            body["userId"] = self.user
        connection.request(
            "POST",
            f"{parts.path.rstrip('/')}/api/v2/agents/{quote(self.agent, safe='')}/chat",
            json.dumps(body),
            {
                "Authorization": f"Bearer {os.environ.get('OC_KEY', DEMO_KEY)}",
                "Content-Type": "application/json",
            },
        )
        return connection, connection.getresponse()

    def _show(self, events: "list[Event]") -> bool:
        """Print them; whether the turn is complete."""
        from gateway.core.events import Citations, Failure, Finish, Metadata, TextDelta, ToolCall

        for event in events:
            match event:
                case TextDelta(text):
                    print(text, end="", flush=True)
                case ToolCall(_, name, arguments):
                    print(f"[calls {name} with {arguments}]")
                case Citations(items):
                    print("".join(f"\n[{item.title}: {item.url}]" for item in items))
                case Metadata(conversation_id=str(conversation)):
                    self.conversation = conversation
                case Finish():
                    print()
                case Failure(_, message):
                    print(f"\nthe turn failed: {message}", file=sys.stderr)
                case _:
                    pass
        return any(type(event) is Finish for event in events)


def _complaint(response: http.client.HTTPResponse) -> str:
    from gateway.wire import json

    try:
        error = json.mapping(json.mapping(json.loads(response.read())).get("error"))
    except json.InvalidJson:
        error = {}
    return f"{response.status} {json.text(error.get('code'))}: {json.text(error.get('message'))}"
