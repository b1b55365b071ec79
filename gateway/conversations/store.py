"""The interface of a conversation store: what a database has to do, and no more.

What a turn, a retry or a tool's result means is in `conversations`; a store only finds, and writes
one change at a time, atomically.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.conversation import Conversation, Feedback, Place, StoredMessage


class StoreError(Exception):
    """The store cannot be reached, or cannot do its work: nobody's request is to blame."""


class Conflict(Exception):
    """The conversation is no longer as it was when it was loaded: nothing was written."""


Found = tuple[Conversation, tuple[StoredMessage, ...]]
"""A conversation with some of its messages, in their order."""


class Span(Struct, frozen=True, kw_only=True):
    """The newest `limit` messages; of those before a position, or up to and including a message
    (none, if the conversation has no such message)."""

    limit: int
    before: int | None = None
    upto: int | None = None


class Answered(Struct, frozen=True, kw_only=True):
    """A request with an Idempotency-Key, and the message that answered it."""

    subject: str
    """Whose key it is: two clients' are never the same."""
    key: str
    fingerprint: str
    """Of what was asked: a key is for one request."""
    conversation: int
    message: int
    expires: int
    """Unix milliseconds."""


class Change(Struct, frozen=True):
    """One atomic write.

    `conversation` is what its row shall be: with version 1 it is new, else it has to be found at
    the version before. Of its messages the first `keep` stay, and `messages` follow them.
    """

    conversation: Conversation
    keep: int
    messages: tuple[StoredMessage, ...]
    answered: Answered | None = None


class Listed(Struct, frozen=True):
    """One page of conversations, and how many there are on all pages."""

    conversations: tuple[Conversation, ...]
    total: int


class Figures(Struct, frozen=True, kw_only=True):
    """What `oc-gateway store status` tells."""

    schema: int
    conversations: int
    messages: int
    size: int
    """Bytes on disk, or in memory."""


class Store(Protocol):
    """Where conversations are kept. Every method raises `StoreError`.

    Claims are how two turns are kept apart, also by several processes: a name, any integer from 1
    to 2^62, is held by one of them at a time, and is free at the latest half a minute after its
    holder has died.
    """

    async def open(self) -> int:
        """Connect, and bring the schema up to date; safe when several processes do it at once. The
        version that the schema had before, 0: there was none.

        A schema that is newer than this gateway is a `StoreError`. What fails leaves nothing open;
        its message is for an operator, on one line and without a password.
        """
        ...

    async def close(self) -> None:
        """Finish what is being written, and let go."""
        ...

    async def check(self) -> None:
        """Whether it would work now."""
        ...

    async def ready(self) -> None:
        """The same as far as it is known already, for a turn that has nothing to read: as long as
        all is well this asks nobody."""
        ...

    async def claim(self, name: int) -> bool:
        """Take a claim; False if somebody holds it, this process included."""
        ...

    async def release(self, name: int) -> None:
        """Give a claim back; nothing if it is not held."""
        ...

    async def load(self, place: Place, conversation: int, span: Span) -> Found | None:
        """A conversation, if it is of this place."""
        ...

    async def save(self, change: Change, claims: Sequence[int]) -> None:
        """Write, then release the claims, whether it succeeds or not.

        Runs to its end also if the caller is cancelled. Raises `Conflict`.
        """
        ...

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        """Set the feedback on a message; nothing if it is not there."""
        ...

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        """The conversations of a place, or of one of its users: the newest activity first.

        `after` is `updated` and `id` of the last one of the page before.
        """
        ...

    async def everything(self, after: int | None, limit: int) -> tuple[Conversation, ...]:
        """Some of all conversations, wherever they are, in the order of their ids; `after` is the
        last id of the page before."""
        ...

    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        """What a request with this Idempotency-Key was answered, unless that has expired."""
        ...

    async def prune(self, before: int | None, per_user: int | None, now: int) -> int:
        """Forget conversations with no activity since `before`, what a user has beyond the newest
        `per_user` of a place, and expired keys; how many conversations went. What is being claimed
        may go as well: its turn then ends with a `Conflict`."""
        ...

    async def figures(self) -> Figures: ...


# Of conversations without their messages: some hundred kilobytes.
_PAGE = 500


async def walk(store: Store) -> AsyncIterator[Conversation]:
    """All conversations, wherever they are. Raises `StoreError`."""
    after = None
    while page := await store.everything(after, _PAGE):
        for each in page:
            yield each
        after = page[-1].id
