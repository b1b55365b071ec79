"""What a model is told of a conversation: the newest of it that fits, in messages a model knows."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from gateway.core.conversation import Part, Role, StoredMessage
from gateway.core.events import Json, TextDelta, ToolCall, ToolOutput
from gateway.core.turn import Budget, Message
from gateway.wire import json

# Bytes of UTF-8 for one token, and what a message costs beside its text: near enough for English,
# and for scripts of three bytes a character, of which a token holds about one.
_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4


def spoken(stored: Iterable[StoredMessage]) -> list[Message]:
    """Stored messages as models take them: a tool's result is a message of its own, after the
    assistant's that called the tool. Upstreams are given back their own ids of the calls."""
    said: list[Message] = []
    for each in stored:
        if len(each.parts) == 1 and type(part := each.parts[0]) is TextDelta:
            said.append(Message(each.role, part.text))  # as nearly all of them
        else:
            said += _spoken(each)
    return said


def _spoken(stored: StoredMessage) -> Iterator[Message]:
    if stored.role is Role.USER:
        yield Message(Role.USER, stored.text)
        return
    outputs = stored.outputs
    for step in _steps(stored.parts):
        text = "".join(part.text for part in step if type(part) is TextDelta)
        # A call that was never answered is not told of: models refuse a history with one.
        calls = [part for part in step if type(part) is ToolCall and part.call_id in outputs]
        yield Message(Role.ASSISTANT, text, tuple(map(_as_said, calls)))
        for call in calls:
            output = written(outputs[call.call_id].output)
            yield Message(Role.TOOL, output, call_id=call.said_id or call.call_id)


def _as_said(call: ToolCall) -> ToolCall:
    return replace(call, call_id=call.said_id, said_id=None) if call.said_id else call


def _steps(parts: Iterable[Part]) -> list[list[Part]]:
    """An agent that ran tools itself said its message in steps, each up to the tools' results."""
    steps: list[list[Part]] = [[]]
    for part in parts:
        if type(part) is not ToolOutput and steps[-1] and type(steps[-1][-1]) is ToolOutput:
            steps.append([])
        steps[-1].append(part)
    return steps


def written(output: Json) -> str:
    """A tool's result as models read it."""
    return output if isinstance(output, str) else json.dumps(output).decode()


def fitting(
    instructions: tuple[Message, ...], messages: Sequence[Message], budget: Budget
) -> tuple[Message, ...]:
    """The instructions, and the newest messages that fit beside them."""
    if budget.max_tokens is None and len(messages) <= budget.max_messages:
        return (*instructions, *messages)
    used = sum(map(tokens, instructions))
    return (*instructions, *trimmed(messages, budget, used))


def trimmed(messages: Sequence[Message], budget: Budget, used: int = 0) -> list[Message]:
    """The newest messages that fit; the newest user's and what follows it always.

    A cut is only made before a user's message: models refuse a history that begins in the middle of
    a turn. `used` are tokens that are spent already.
    """
    first = len(messages)
    # Nothing is cut at the beginning: some clients have an assistant greet the user.
    starts = {0, *(i for i, said in enumerate(messages) if said.role is Role.USER)}
    for start in sorted(starts, reverse=True):
        used += sum(map(tokens, messages[start:first]))
        too_long = len(messages) - start > budget.max_messages
        too_large = budget.max_tokens is not None and used > budget.max_tokens
        if first < len(messages) and (too_long or too_large):
            break
        first = start
    return list(messages[first:])


def tokens(message: Message) -> int:
    """About how many a message takes."""
    size = len(message.text.encode())
    for call in message.tool_calls:
        size += len(call.name) + len(json.dumps(call.arguments))
    return _TOKENS_PER_MESSAGE + -(-size // _BYTES_PER_TOKEN)
