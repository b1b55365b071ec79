"""What a stateful upstream is sent: one message, for it knows the rest of the conversation."""

from gateway.core.conversation import Role
from gateway.core.turn import Message, Prompt

HEADING = "The conversation so far:"


def message(prompt: Prompt) -> str:
    """The new message; where it opens a conversation that has earlier turns, they precede it.

    Instructions are left out: the agent at the other end has its own.
    """
    *earlier, last = (said for said in prompt.messages if said.role is not Role.SYSTEM)
    if prompt.conversation_id is not None or not earlier:
        return last.text
    return "\n".join([HEADING, *_lines(earlier), "", last.text])


def _lines(messages: list[Message]) -> list[str]:
    # An assistant's message that only calls a tool has no text.
    return [f"{said.role.value}: {said.text}" for said in messages if said.text]
