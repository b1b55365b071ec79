"""How much memory messages take: an estimate, so that a store can say when it is full."""

from collections.abc import Iterable
from sys import getsizeof

from gateway.core.conversation import Part, Role, StoredMessage
from gateway.core.events import Citations, Json, TextDelta, ToolCall, ToolOutput, Usage

_ASSISTANT = Role.ASSISTANT
_NUMBER = 32
_PLACE = 8
# A text beside its letters, which take a byte each if they are ASCII, as nearly all are.
_TEXT = getsizeof("")
# A message with three numbers and the tuple of its parts; what an answer has beside that.
_MESSAGE = _PLACE + getsizeof(object.__new__(StoredMessage)) + 3 * _NUMBER + getsizeof(())
_ANSWER = getsizeof(Usage()) + 3 * _NUMBER + 3 * _TEXT
_SAID = _PLACE + getsizeof(TextDelta("")) + _TEXT


def size_of(messages: Iterable[StoredMessage]) -> int:
    """Bytes. What is shared between messages (small numbers, empty strings) counts for each, but
    the upstream's name."""
    total = 0
    for message in messages:
        total += _MESSAGE
        for part in message.parts:
            if type(part) is TextDelta and part.text.isascii():
                total += _SAID + len(part.text)
            else:
                total += _PLACE + _part(part)
        if message.role is _ASSISTANT:
            total += _ANSWER
            if message.model:
                total += len(message.model)
            if message.upstream_conversation or message.upstream_message:
                total += _length(message.upstream_conversation) + _length(message.upstream_message)
    return total


def _length(name: str | None) -> int:
    return len(name) if name else 0


def _part(part: Part) -> int:
    own = getsizeof(part)
    match part:
        case ToolCall():
            names = getsizeof(part.call_id) + getsizeof(part.name) + getsizeof(part.said_id)
            return own + names + _json(part.arguments) + _json(part.echo)
        case ToolOutput():
            return own + getsizeof(part.call_id) + _json(part.output)
        case Citations(items):
            known = (text for item in items for text in (item.url, item.title, item.snippet))
            return own + getsizeof(items) + sum(map(getsizeof, items)) + sum(map(getsizeof, known))
        case _:
            return own + getsizeof(part.text)


def _json(value: Json) -> int:
    # With a list of what is left, not by recursion: a model may nest its arguments deeply.
    total, left = 0, [value]
    while left:
        item = left.pop()
        total += getsizeof(item)
        if isinstance(item, dict):
            total += sum(map(getsizeof, item))
            left += item.values()
        elif isinstance(item, list):
            left += item
    return total
