"""What a stateful upstream is sent: one message, for it knows the rest of the conversation."""

from collections.abc import Sequence

from gateway.core.conversation import Role
from gateway.core.events import ToolCall
from gateway.core.turn import Message, Prompt
from gateway.upstreams.tool_calls import arguments_text

HEADING = "The conversation so far:"


def message(prompt: Prompt) -> str | None:
    """The new message; where it opens a conversation that has earlier turns, they precede it.

    None where a known conversation goes on with the results of its tools: the upstream has been
    given them. Instructions are left out: the agent at the other end has its own.
    """
    said = [each for each in prompt.messages if each.role is not Role.SYSTEM]
    if not said:
        return None
    if prompt.conversation_id is None:
        return _folded(said)
    return said[-1].text if said[-1].role is Role.USER else None


def _folded(said: Sequence[Message]) -> str:
    """All that was said. Last, and apart from the rest, is what is to be answered: the user's
    message as it stands, or the results of the last tools."""
    lines, new = _lines(said), len(said) - 1
    if said[new].role is Role.USER:
        lines[new] = said[new].text
    while new and said[new].role is said[new - 1].role is Role.TOOL:
        new -= 1
    earlier = [line for line in lines[:new] if line]
    return "\n".join([HEADING, *earlier, "", *lines[new:]] if earlier else lines[new:])


def _lines(said: Sequence[Message]) -> list[str]:
    """One for each message; `""` for one without text, as an assistant's that only calls a tool:
    the call is told of with its result."""
    lines: list[str] = []
    calls: dict[str | None, ToolCall] = {}
    for each in said:
        # Servers use the ids of one answer again in the next.
        calls |= {call.call_id: call for call in each.tool_calls}
        result = each.role is Role.TOOL
        lines.append(_result(each, calls) if result else _speech(each))
    return lines


def _speech(said: Message) -> str:
    return f"{said.role.value}: {said.text}" if said.text else ""


def _result(said: Message, calls: dict[str | None, ToolCall]) -> str:
    # Its arguments are told once, or many results of one long call were many times what was sent.
    call = calls.pop(said.call_id, None)
    if call is None:
        return f"tool: {said.text}"
    return f"tool {call.name}({arguments_text(call.arguments)}): {said.text}"


def plain(messages: Sequence[Message]) -> list[tuple[Role, str]]:
    """The conversation for an upstream whose messages are text alone: whose each is, and what it
    says. A tool's result is told by the user, for the answer comes after it; results that follow
    each other are one message."""
    told: list[tuple[Role, list[str]]] = []
    results = False
    for said, line in zip(messages, _lines(messages), strict=True):
        if said.role is Role.TOOL and results:
            told[-1][1].append(line)
        elif said.role is Role.TOOL:
            told.append((Role.USER, [line]))
        elif said.text or said.role is not Role.ASSISTANT:
            told.append((said.role, [said.text]))
        results = said.role is Role.TOOL
    return [(role, "\n".join(lines)) for role, lines in told]
