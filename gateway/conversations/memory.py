"""Conversations in this process: bounded, and gone with it.

No method awaits anything, so each runs in one go and needs no lock.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gateway.conversations.size import size_of
from gateway.conversations.store import Answered, Change, Conflict, Figures, Found, Listed, Span
from gateway.core.conversation import Conversation, Feedback, Place, StoredMessage
from gateway.core.frozen import frozen

# Bytes that a conversation takes beside its messages: its record and its places in the store.
_OVERHEAD = 1000

# Of requests with an Idempotency-Key, the most that are remembered.
_MAX_ANSWERED = 10_000


_Whose = tuple[str | None, str | None, int, str | None]
"""A place and a user, or None for all, in what Python hashes without being asked."""

_Activity = tuple[int, int]
"""When a conversation was last written to, and its id."""


@frozen
class _Kept:
    conversation: Conversation
    messages: tuple[StoredMessage, ...]
    size: int
    """Of the messages: a turn adds its own, for to count all of them each time is quadratic."""
    whole: int
    lists: tuple[list[_Activity], ...]
    """Those that it is in: its place's first, its user's last."""


class MemoryStore:
    """A `Store`. At most about `max_size` bytes of conversations, the least recently used going
    first."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._size = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        """The least recently used first."""
        self._lists: dict[_Whose, tuple[list[_Activity], ...]] = {}
        """Of each place, and of each of its users, the oldest activity first: to look for them
        among all conversations would keep everybody waiting, for each page of a list. A user's
        comes with that of the place."""
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
        if claims:
            self._claims.difference_update(claims)
        row, messages = change.conversation, change.messages
        kept, size = self._kept.get(row.id), size_of(messages)
        if (kept.conversation.version if kept else 0) != row.version - 1:
            raise Conflict
        if kept is not None:
            size += kept.size - size_of(kept.messages[change.keep :])
            messages = kept.messages[: change.keep] + messages
        self._put(row, messages, size)
        if change.answered is not None:
            self._remember(change.answered)

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        if kept := self._kept.get(conversation):
            messages = tuple(
                replace(said, feedback=feedback) if said.id == message else said
                for said in kept.messages
            )
            self._put(kept.conversation, messages, kept.size)

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        found = self._lists.get(_whose(place, user_id), ([],))[-1]
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
        for (*_, user_id), (*_, found) in self._lists.items():
            if user_id is not None:
                yield from (number for _, number in found[: max(0, len(found) - per_user)])

    def _put(self, row: Conversation, messages: tuple[StoredMessage, ...], size: int) -> None:
        """Have it be so, and what was used last; `size` is that of the messages."""
        if row.id in self._kept:
            self._drop(row.id)
        whole = _OVERHEAD + size
        if row.upstream_ids:
            whole += sum(len(name) + len(known) for name, known in row.upstream_ids.items())
        if whole > self._max_size:
            # It alone is larger than the whole store. What was left of it from before the turn
            # would be a conversation that has forgotten its last answer, so all of it goes.
            return
        lists = self._lists.get(_whose(row.place, row.user_id)) or self._begin_lists(row)
        activity = row.updated, row.id
        for found in lists:
            if found and activity < found[-1]:
                insort(found, activity)
            else:
                found.append(activity)
        self._kept[row.id] = _Kept(row, messages, size, whole, lists)
        self._size += whole
        while self._size > self._max_size:
            self._drop(next(iter(self._kept)))

    def _begin_lists(self, row: Conversation) -> tuple[list[_Activity], ...]:
        lists = self._lists.setdefault(_whose(row.place, None), ([],))
        if row.user_id is not None:
            lists = self._lists[_whose(row.place, row.user_id)] = (*lists, [])
        return lists

    def _drop(self, number: int) -> None:
        kept = self._kept.pop(number, None)
        if kept is None:
            return
        row = kept.conversation
        self._size -= kept.whole
        for found in kept.lists:
            del found[bisect_left(found, (row.updated, number))]
        if not kept.lists[-1]:
            del self._lists[_whose(row.place, row.user_id)]
        if not kept.lists[0]:
            self._lists.pop(_whose(row.place, None), None)

    def _remember(self, answered: Answered) -> None:
        key = answered.subject, answered.key
        self._answered[key] = answered
        self._answered.move_to_end(key)
        if len(self._answered) > _MAX_ANSWERED:
            self._answered.popitem(last=False)


def _whose(place: Place, user_id: str | None) -> _Whose:
    return place.owner.workspace, place.owner.origin, place.agent, user_id


def _end(messages: tuple[StoredMessage, ...], span: Span) -> int:
    """How many of the messages the span may have."""
    if span.before is not None:
        return max(0, span.before)
    if span.upto is None:
        return len(messages)
    return next((said.position + 1 for said in messages if said.id == span.upto), 0)
