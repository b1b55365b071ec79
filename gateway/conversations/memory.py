"""Conversations in this process: bounded, and gone with it.

No method awaits anything, so each runs in one go and needs no lock.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cachetools import LRUCache

from gateway.conversations.size import size_of
from gateway.conversations.store import Answered, Change, Conflict, Figures, Found, Listed, Span
from gateway.core.conversation import Conversation, Feedback, Place, StoredMessage

# Bytes that a conversation takes beside its messages: its record and its places in the cache.
_OVERHEAD = 1000

# Of requests with an Idempotency-Key, the most that are remembered.
_MAX_ANSWERED = 10_000


@dataclass(frozen=True, slots=True)
class _Kept:
    conversation: Conversation
    messages: tuple[StoredMessage, ...]


def _size(kept: _Kept) -> int:
    ids = kept.conversation.upstream_ids
    theirs = sum(len(name) + len(known) for name, known in ids.items())
    return _OVERHEAD + theirs + size_of(kept.messages)


class MemoryStore:
    """A `Store`. At most about `max_size` bytes of conversations, the least recently used going
    first."""

    def __init__(self, max_size: int) -> None:
        self._kept: LRUCache[int, _Kept] = LRUCache(max_size, getsizeof=_size)
        self._answered: LRUCache[tuple[str, str], Answered] = LRUCache(_MAX_ANSWERED)
        self._claims: set[int] = set()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        pass

    async def claim(self, name: int) -> bool:
        if name in self._claims:
            return False
        self._claims.add(name)
        return True

    async def release(self, name: int) -> None:
        self._claims.discard(name)

    async def load(self, place: Place, conversation: int, span: Span) -> Found | None:
        kept = self._kept.get(conversation)
        if kept is None or kept.conversation.place != place:
            return None
        messages = kept.messages[: _end(kept.messages, span)]
        return kept.conversation, messages[max(0, len(messages) - span.limit) :]

    async def save(self, change: Change, claims: Sequence[int]) -> None:
        self._claims.difference_update(claims)
        number, before = change.conversation.id, change.conversation.version - 1
        kept = self._kept.get(number)
        if (kept.conversation.version if kept else 0) != before:
            raise Conflict
        stay = kept.messages[: change.keep] if kept else ()
        self._keep(_Kept(change.conversation, (*stay, *change.messages)))
        if change.answered is not None:
            self._answered[change.answered.subject, change.answered.key] = change.answered

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        if kept := self._kept.get(conversation):
            messages = (
                replace(said, feedback=feedback) if said.id == message else said
                for said in kept.messages
            )
            self._keep(replace(kept, messages=tuple(messages)))

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        found = sorted(self._of(place, user_id), key=_activity, reverse=True)
        page = [each for each in found if after is None or _activity(each) < after]
        return Listed(tuple(page[:limit]), len(found))

    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        known = self._answered.get((subject, key))
        return known if known is not None and known.expires > now else None

    async def prune(self, before: int | None, per_user: int | None, now: int) -> int:
        gone = {each.id for each in self._all() if before is not None and each.updated < before}
        if per_user is not None:
            gone |= {each.id for each in self._beyond(per_user)}
        for number in gone:
            del self._kept[number]
        for asked in [key for key, known in self._answered.items() if known.expires <= now]:
            del self._answered[asked]
        return len(gone)

    async def figures(self) -> Figures:
        messages = sum(each.length for each in self._all())
        size = int(self._kept.currsize)
        return Figures(schema=0, conversations=len(self._kept), messages=messages, size=size)

    def _all(self) -> list[Conversation]:
        # Not by getting them, which would make each the most recently used.
        return [kept.conversation for kept in self._kept.values()]

    def _of(self, place: Place, user_id: str | None) -> Iterator[Conversation]:
        for each in self._all():
            if each.place == place and user_id in (None, each.user_id):
                yield each

    def _beyond(self, per_user: int) -> Iterator[Conversation]:
        """What users have beyond their newest; nobody's conversations are not counted."""
        counts: dict[tuple[Place, str], int] = {}
        for each in sorted(self._all(), key=_activity, reverse=True):
            if each.user_id is not None:
                whose = each.place, each.user_id
                counts[whose] = counts.get(whose, 0) + 1
                if counts[whose] > per_user:
                    yield each

    def _keep(self, kept: _Kept) -> None:
        try:
            self._kept[kept.conversation.id] = kept
        except ValueError:
            # It alone is larger than the whole store. What is left of it from before the turn
            # would be a conversation that has forgotten its last answer, so all of it goes.
            self._kept.pop(kept.conversation.id, None)


def _activity(conversation: Conversation) -> tuple[int, int]:
    return conversation.updated, conversation.id


def _end(messages: tuple[StoredMessage, ...], span: Span) -> int:
    """How many of the messages the span may have."""
    if span.before is not None:
        return max(0, span.before)
    if span.upto is None:
        return len(messages)
    return next((said.position + 1 for said in messages if said.id == span.upto), 0)
