"""Conversations in this process: bounded, and gone with it.

No method awaits anything, so each runs in one go and needs no lock.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from sys import getsizeof

from msgspec.structs import replace

from gateway.conversations.rows import (
    LENGTH,
    UPDATED,
    UPSTREAM_IDS,
    USER_ID,
    VERSION,
    Row,
    conversation_of,
    here,
    row_of,
)
from gateway.conversations.store import Answered, Change, Conflict, Figures, Found, Listed, Span
from gateway.conversations.written import is_whole, read_whole, write_whole
from gateway.core.conversation import Conversation, Feedback, Place

# Bytes that a conversation takes beside its messages: its row, and its places in the store.
_OVERHEAD = 550

# Bytes that a message takes beside what is written of it: its object, and its place among others.
_MESSAGE = getsizeof(b"") + 8

# Of requests with an Idempotency-Key, the most that are remembered.
_MAX_ANSWERED = 10_000


_Whose = tuple[str | None, str | None, int, str | None]
"""A place and a user, or None for all, in what Python hashes without being asked."""

_Activity = tuple[int, int]
"""When a conversation was last written to, and its id."""


class MemoryStore:
    """A `Store`. At most about `max_size` bytes of conversations, the least recently used going
    first.

    Of all that is kept there are only tuples of texts and numbers, which Python's collector of
    garbage looks at once: at objects in their places, or at tuples of tuples, it would look again,
    and hold up everybody's turns.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._size = 0
        self._kept: OrderedDict[int, Row] = OrderedDict()
        """The least recently used first."""
        self._said: dict[int, tuple[bytes, ...]] = {}
        """The conversations' messages, as they are written."""
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
        row = self._kept.get(conversation)
        if row is None or row[:3] != here(place):
            return None
        self._kept.move_to_end(conversation)
        written = self._said[conversation]
        end = _end(written, span)
        newest = written[max(0, end - span.limit) : end]
        return conversation_of(row), read_whole(newest)

    async def save(self, change: Change, claims: Sequence[int]) -> None:
        if claims:
            self._claims.difference_update(claims)
        found = change.conversation
        row = self._kept.get(found.id)
        if (row[VERSION] if row else 0) != found.version - 1:
            raise Conflict
        messages = tuple(map(write_whole, change.messages))
        if row is not None:
            messages = self._said[found.id][: change.keep] + messages
        self._put(found.id, row_of(found), messages)
        if change.answered is not None:
            self._remember(change.answered)

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        if row := self._kept.get(conversation):
            messages = tuple(
                _marked(said, feedback) if is_whole(said, message) else said
                for said in self._said[conversation]
            )
            self._put(conversation, row, messages)

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        found = self._lists.get((*here(place), user_id), ([],))[-1]
        end = len(found) if after is None else bisect_left(found, after)
        page = reversed(found[max(0, end - limit) : end])
        rows = (self._kept[number] for _, number in page)
        return Listed(tuple(map(conversation_of, rows)), len(found))

    async def everything(self, after: int | None, limit: int) -> tuple[Conversation, ...]:
        found = sorted(number for number in self._kept if after is None or number > after)
        return tuple([conversation_of(self._kept[number]) for number in found[:limit]])

    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        known = self._answered.get((subject, key))
        return known if known is not None and known.expires > now else None

    async def prune(self, before: int | None, per_user: int | None, now: int) -> int:
        gone = set()
        if before is not None:
            gone = {number for number, row in self._kept.items() if row[UPDATED] < before}
        if per_user is not None:
            gone |= set(self._beyond(per_user))
        for number in gone:
            self._drop(number)
        for asked in [key for key, known in self._answered.items() if known.expires <= now]:
            del self._answered[asked]
        return len(gone)

    async def figures(self) -> Figures:
        messages = sum(row[LENGTH] for row in self._kept.values())
        return Figures(schema=0, conversations=len(self._kept), messages=messages, size=self._size)

    def _beyond(self, per_user: int) -> Iterator[int]:
        """What users have beyond their newest; nobody's conversations are not counted."""
        for (*_, user_id), (*_, found) in self._lists.items():
            if user_id is not None:
                yield from (number for _, number in found[: max(0, len(found) - per_user)])

    def _put(self, number: int, row: Row, messages: tuple[bytes, ...]) -> None:
        """Have it be so, and what was used last."""
        if number in self._kept:
            self._drop(number)
        whole = _whole(row, messages)
        if whole > self._max_size:
            # It alone is larger than the whole store. What was left of it from before the turn
            # would be a conversation that has forgotten its last answer, so all of it goes.
            return
        activity = row[UPDATED], number
        for found in self._lists.get(row[:4]) or self._begin_lists(row[:4]):
            if found and activity < found[-1]:
                insort(found, activity)
            else:
                found.append(activity)
        self._kept[number], self._said[number] = row, messages
        self._size += whole
        while self._size > self._max_size:
            self._drop(next(iter(self._kept)))

    def _begin_lists(self, whose: _Whose) -> tuple[list[_Activity], ...]:
        lists = self._lists.setdefault(_all_of(whose), ([],))
        if whose[3] is not None:
            lists = self._lists[whose] = (*lists, [])
        return lists

    def _drop(self, number: int) -> None:
        row = self._kept.pop(number, None)
        if row is None:
            return
        self._size -= _whole(row, self._said.pop(number))
        whose, activity = row[:4], (row[UPDATED], number)
        lists = self._lists[whose]
        for found in lists:
            del found[bisect_left(found, activity)]
        if not lists[-1]:
            del self._lists[whose]
        if not lists[0]:
            self._lists.pop(_all_of(whose), None)

    def _remember(self, answered: Answered) -> None:
        key = answered.subject, answered.key
        self._answered[key] = answered
        self._answered.move_to_end(key)
        if len(self._answered) > _MAX_ANSWERED:
            self._answered.popitem(last=False)


def _all_of(whose: _Whose) -> _Whose:
    """The place, without the user."""
    return *whose[:3], None


def _marked(written: bytes, feedback: Feedback | None) -> bytes:
    (message,) = read_whole([written])
    return write_whole(replace(message, feedback=feedback))


def _whole(row: Row, messages: Sequence[bytes]) -> int:
    """All the bytes that a conversation takes."""
    texts = len(row[USER_ID] or "") + len(row[UPSTREAM_IDS]) + sum(map(len, messages))
    return _OVERHEAD + texts + _MESSAGE * len(messages)


def _end(messages: Sequence[bytes], span: Span) -> int:
    """How many of the messages the span may have."""
    if span.before is not None:
        return min(max(0, span.before), len(messages))
    if span.upto is None:
        return len(messages)
    ends = enumerate(messages, 1)
    return next((end for end, written in ends if is_whole(written, span.upto)), 0)
