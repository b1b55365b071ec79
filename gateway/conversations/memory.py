"""Conversations in this process: bounded, and gone with it.

No method awaits anything, so each runs in one go and needs no lock.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cachetools import LRUCache

from gateway.conversations.size import size_of
from gateway.conversations.store import Opened, Owner
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import Message, Role, Turn

# JavaScript holds no integer beyond this one exactly, and clients read ids as numbers.
MAX_ID = (1 << 53) - 1

# Bytes that a conversation takes beside its messages: its record and its places in the cache.
_OVERHEAD = 1000


def random_id() -> int:
    """An id that says nothing of the others: 1 to `MAX_ID`."""
    return int.from_bytes(os.urandom(7)) >> 3 or random_id()


@dataclass(frozen=True, slots=True)
class _Conversation:
    owner: Owner
    agent: int
    user_id: str | None
    messages: tuple[Message, ...] = ()
    upstream_ids: dict[str, str] = field(default_factory=dict)


def _size(conversation: _Conversation) -> int:
    theirs = sum(len(name) + len(known) for name, known in conversation.upstream_ids.items())
    return _OVERHEAD + theirs + size_of(conversation.messages)


class MemoryStore:
    """A `Store`. At most about `max_size` bytes of conversations, the least recently used going
    first, with at most `max_messages` messages each, the oldest going first.
    """

    def __init__(
        self, max_size: int, max_messages: int, *, mint: Callable[[], int] = random_id
    ) -> None:
        self._max_messages = max_messages
        self._mint = mint
        self._kept: LRUCache[str, _Conversation] = LRUCache(max_size, getsizeof=_size)
        self._open: dict[str, tuple[str, _Conversation]] = {}
        """By the conversation's id: the id of the turn's answer, and the conversation as it was."""

    async def begin(
        self, owner: Owner, agent: int, conversation_id: str | None, user_id: str | None
    ) -> Opened:
        if conversation_id is None:
            conversation_id, known = self._new_id(), _Conversation(owner, agent, user_id)
        else:
            known = self._known(owner, agent, conversation_id)
        turn = self._turn(conversation_id, known.user_id)
        self._open[conversation_id] = (turn.message_id, known)
        return Opened(turn, known.messages, dict(known.upstream_ids))

    async def commit(
        self,
        opened: Opened,
        question: Message,
        answers: Sequence[Message],
        upstream: str,
        upstream_conversation: str | None,
    ) -> None:
        before = self._end(opened)
        if before is None:
            raise ValueError("this turn has ended: begin another one")
        known = upstream_conversation or before.upstream_ids.get(upstream)
        ids = {upstream: known} if known else {}
        messages = newest((*before.messages, question, *answers), self._max_messages)
        self._keep(
            opened.turn.conversation_id,
            _Conversation(before.owner, before.agent, before.user_id, messages, ids),
        )

    async def abandon(self, opened: Opened) -> None:
        self._end(opened)

    def _known(self, owner: Owner, agent: int, conversation_id: str) -> _Conversation:
        known = self._kept.get(conversation_id)
        if known is None or (known.owner, known.agent) != (owner, agent):
            raise GatewayError(
                ErrorCode.CONVERSATION_NOT_FOUND,
                "no such conversation with this agent: leave out its id to begin a new one",
            )
        if conversation_id in self._open:
            raise GatewayError(
                ErrorCode.CONVERSATION_BUSY,
                "another turn of this conversation is running: wait for it to end",
            )
        return known

    def _turn(self, conversation_id: str, user_id: str | None) -> Turn:
        question, answer = self._mint(), self._mint()
        while answer == question:
            answer = self._mint()
        return Turn(
            conversation_id=conversation_id,
            user_message_id=f"msg_{question}",
            message_id=f"msg_{answer}",
            user_id=user_id,
        )

    def _new_id(self) -> str:
        minted = str(self._mint())
        while minted in self._kept or minted in self._open:
            minted = str(self._mint())
        return minted

    def _end(self, opened: Opened) -> _Conversation | None:
        """The conversation as the turn found it; None if the turn is no longer open.

        A turn is known by its answer's id, lest a late abandon end the next turn.
        """
        message_id, before = self._open.get(opened.turn.conversation_id, ("", None))
        if message_id != opened.turn.message_id:
            return None
        del self._open[opened.turn.conversation_id]
        return before

    def _keep(self, conversation_id: str, conversation: _Conversation) -> None:
        try:
            self._kept[conversation_id] = conversation
        except ValueError:
            # It alone is larger than the whole store. What is left of it from before the turn
            # would be a conversation that has forgotten its last answer, so all of it goes.
            self._kept.pop(conversation_id, None)


def newest(messages: tuple[Message, ...], most: int) -> tuple[Message, ...]:
    """The last `most` messages at most, from a user's on.

    Models refuse a history that begins with an answer, or with a tool's result without its call.
    """
    for first in range(max(0, len(messages) - most), len(messages)):
        if messages[first].role is Role.USER:
            return messages[first:]
    return ()
