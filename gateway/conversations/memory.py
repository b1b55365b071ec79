"""Conversations in this process: bounded, and gone with it.

No method awaits anything, so each runs in one go and needs no lock.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.conversations.size import size_of
from gateway.conversations.store import Answered, Change, Conflict, Figures, Found, Listed, Span
from gateway.core.conversation import Conversation, Feedback, Place, StoredMessage

# Bytes that a conversation takes beside its messages: its record and its places in the store.
_OVERHEAD = 1000

# Of requests with an Idempotency-Key, the most that are remembered.
_MAX_ANSWERED = 10_000


@dataclass(frozen=True, slots=True)
class _Kept:
    conversation: Conversation
    messages: tuple[StoredMessage, ...]
    size: int
    """Of the messages: a turn adds its own, for to count all of them each time is quadratic."""

    @property
    def whole(self) -> int:
        ids = self.conversation.upstream_ids
        return _OVERHEAD + sum(len(name) + len(known) for name, known in ids.items()) + self.size


class MemoryStore:
    """A `Store`. At most about `max_size` bytes of conversations, the least recently used going
    first."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._size = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        """The least recently used first."""
        self._lists: dict[tuple[Place, str | None], list[tuple[int, int]]] = {}
        """Of each place, and of each of its users, the oldest activity first: to look for them
        among all conversations would keep everybody waiting, for each page of a list."""
        self._answered: OrderedDict[tuple[str, str], Answered] = OrderedDict()
        """The oldest first."""
        self._claims: set[int] = set()

    async def open(self) -> int:
        return 0

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        pass

    async def ready(self) -> None:
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
        self._kept.move_to_end(conversation)
        messages = kept.messages[: _end(kept.messages, span)]
        return kept.conversation, messages[max(0, len(messages) - span.limit) :]

    async def save(self, change: Change, claims: Sequence[int]) -> None:
        self._claims.difference_update(claims)
        number, before = change.conversation.id, change.conversation.version - 1
        kept = self._kept.get(number)
        if (kept.conversation.version if kept else 0) != before:
            raise Conflict
        messages, size = (kept.messages, kept.size) if kept else ((), 0)
        size += size_of(change.messages) - size_of(messages[change.keep :])
        messages = (*messages[: change.keep], *change.messages)
        self._put(_Kept(change.conversation, messages, size))
        if change.answered is not None:
            self._remember(change.answered)

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        if kept := self._kept.get(conversation):
            messages = (
                replace(said, feedback=feedback) if said.id == message else said
                for said in kept.messages
            )
            self._put(replace(kept, messages=tuple(messages)))

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        found = self._lists.get((place, user_id), [])
        end = len(found) if after is None else bisect_left(found, after)
        page = reversed(found[max(0, end - limit) : end])
        return Listed(tuple(self._kept[number].conversation for _, number in page), len(found))

    async def everything(self, after: int | None, limit: int) -> tuple[Conversation, ...]:
        found = sorted(self._all(), key=lambda each: each.id)
        return tuple([each for each in found if after is None or each.id > after][:limit])

    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        known = self._answered.get((subject, key))
        return known if known is not None and known.expires > now else None

    async def prune(self, before: int | None, per_user: int | None, now: int) -> int:
        gone = {each.id for each in self._all() if before is not None and each.updated < before}
        if per_user is not None:
            gone |= set(self._beyond(per_user))
        for number in gone:
            self._drop(number)
        for asked in [key for key, known in self._answered.items() if known.expires <= now]:
            del self._answered[asked]
        return len(gone)

    async def figures(self) -> Figures:
        messages = sum(each.length for each in self._all())
        return Figures(schema=0, conversations=len(self._kept), messages=messages, size=self._size)

    def _all(self) -> Iterator[Conversation]:
        return (kept.conversation for kept in self._kept.values())

    def _beyond(self, per_user: int) -> Iterator[int]:
        """What users have beyond their newest; nobody's conversations are not counted."""
        for (_, user_id), found in self._lists.items():
            if user_id is not None:
                yield from (number for _, number in found[: max(0, len(found) - per_user)])

    def _put(self, kept: _Kept) -> None:
        number = kept.conversation.id
        self._drop(number)
        if kept.whole > self._max_size:
            # It alone is larger than the whole store. What was left of it from before the turn
            # would be a conversation that has forgotten its last answer, so all of it goes.
            return
        self._kept[number] = kept
        self._size += kept.whole
        for whose in _whose(kept.conversation):
            insort(self._lists.setdefault(whose, []), _activity(kept.conversation))
        while self._size > self._max_size:
            self._drop(next(iter(self._kept)))

    def _drop(self, number: int) -> None:
        if kept := self._kept.pop(number, None):
            self._size -= kept.whole
            for whose in _whose(kept.conversation):
                found = self._lists[whose]
                del found[bisect_left(found, _activity(kept.conversation))]
                if not found:
                    del self._lists[whose]

    def _remember(self, answered: Answered) -> None:
        key = answered.subject, answered.key
        self._answered[key] = answered
        self._answered.move_to_end(key)
        if len(self._answered) > _MAX_ANSWERED:
            self._answered.popitem(last=False)


def _whose(conversation: Conversation) -> set[tuple[Place, str | None]]:
    """The lists that it is in."""
    return {(conversation.place, None), (conversation.place, conversation.user_id)}


def _activity(conversation: Conversation) -> tuple[int, int]:
    return conversation.updated, conversation.id


def _end(messages: tuple[StoredMessage, ...], span: Span) -> int:
    """How many of the messages the span may have."""
    if span.before is not None:
        return max(0, span.before)
    if span.upto is None:
        return len(messages)
    return next((said.position + 1 for said in messages if said.id == span.upto), 0)
