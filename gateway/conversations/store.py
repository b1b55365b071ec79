"""The interface of a conversation store, and its records.

A turn is begun, then committed or abandoned. Nothing of it can be seen before the commit, which
writes the question and its answers at once: a turn that failed leaves no trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.turn import Message, Turn


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a conversation is: a workspace's, or without a key the agent's and one web origin's.

    With a workspace, the origin says nothing: a key may be used from anywhere.
    """

    workspace: str | None
    origin: str | None = None

    def __post_init__(self) -> None:
        if self.workspace is not None:
            object.__setattr__(self, "origin", None)


@dataclass(slots=True)
class Opened:
    """A turn in progress."""

    turn: Turn
    history: tuple[Message, ...]
    """What was said before, beginning with a user's message."""
    upstream_ids: dict[str, str]
    """What upstreams call this conversation themselves, by the upstream's name."""


class Store(Protocol):
    """Where conversations are kept. One turn at a time in each."""

    async def begin(
        self, owner: Owner, agent: int, conversation_id: str | None, user_id: str | None
    ) -> Opened:
        """Open a turn in a conversation, or in a new one if none is named.

        The user of a conversation is the one it began with; `user_id` is ignored on a later turn.
        Raises `GatewayError`: CONVERSATION_NOT_FOUND, also for one that is another owner's or
        agent's, or CONVERSATION_BUSY while another turn is open in it.
        """
        ...

    async def commit(
        self,
        opened: Opened,
        question: Message,
        answers: Sequence[Message],
        upstream: str,
        upstream_conversation: str | None,
    ) -> None:
        """Keep the turn, in one atomic write, and end it.

        `upstream` answered, and calls the conversation `upstream_conversation` if it says so. What
        other upstreams called it is forgotten: they have missed this turn.
        Raises `ValueError` if the turn has ended already.
        """
        ...

    async def abandon(self, opened: Opened) -> None:
        """End the turn and leave the conversation as it was; nothing if it has ended already."""
        ...
