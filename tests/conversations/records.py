"""Records to write, with all that a test does not care for filled in."""

from collections.abc import Mapping

from gateway.conversations.store import Answered, Change, Span, Store
from gateway.core.conversation import (
    Conversation,
    Owner,
    Part,
    Place,
    Role,
    StoredMessage,
)
from gateway.core.events import FinishReason, TextDelta

ACME = Place(Owner("acme"), 123)
NOW = 1_753_000_000_000
EVERYTHING = Span(limit=1_000_000)
HOUR = 3_600_000


def row(
    number: int = 1,
    *,
    place: Place = ACME,
    user_id: str | None = None,
    updated: int = NOW,
    length: int = 0,
    version: int = 1,
    title: str | None = None,
    upstream_ids: Mapping[str, str] | None = None,
) -> Conversation:
    return Conversation(
        id=number,
        place=place,
        user_id=user_id,
        title=title,
        created=NOW - 1000,
        updated=updated,
        length=length,
        version=version,
        upstream_ids=upstream_ids or {},
    )


def question(position: int, text: str = "q", number: int | None = None) -> StoredMessage:
    """A user's message; messages are called by their positions, if not otherwise."""
    return StoredMessage(
        id=number or 100 + position,
        position=position,
        role=Role.USER,
        parts=(TextDelta(text),),
        created=NOW,
    )


def answer(
    position: int,
    *parts: Part,
    number: int | None = None,
    finish: FinishReason | None = FinishReason.STOP,
) -> StoredMessage:
    return StoredMessage(
        id=number or 100 + position,
        position=position,
        role=Role.ASSISTANT,
        parts=parts or (TextDelta("a"),),
        created=NOW,
        finish=finish,
        upstream="main",
    )


def dialogue(length: int) -> tuple[StoredMessage, ...]:
    """Questions and answers, by turns."""
    return tuple(
        answer(n, TextDelta(f"a{n}")) if n % 2 else question(n, f"q{n}") for n in range(length)
    )


def new(
    number: int = 1,
    *messages: StoredMessage,
    place: Place = ACME,
    user_id: str | None = None,
    updated: int = NOW,
    answered: Answered | None = None,
) -> Change:
    """A new conversation: of one turn, unless its messages are given."""
    messages = messages or dialogue(2)
    found = row(number, place=place, user_id=user_id, updated=updated, length=len(messages))
    return Change(conversation=found, keep=0, messages=messages, answered=answered)


def later(
    change: Change,
    keep: int,
    *messages: StoredMessage,
    version: int | None = None,
    updated: int = NOW,
    answered: Answered | None = None,
) -> Change:
    """The next change of that conversation."""
    before = change.conversation
    found = row(
        before.id,
        place=before.place,
        user_id=before.user_id,
        updated=updated,
        length=keep + len(messages),
        version=version or before.version + 1,
    )
    return Change(conversation=found, keep=keep, messages=messages, answered=answered)


async def kept(store: Store, change: Change) -> tuple[StoredMessage, ...]:
    """All messages of the conversation that was changed."""
    found = await store.load(change.conversation.place, change.conversation.id, EVERYTHING)
    assert found is not None
    return found[1]


async def ids(store: Store, number: int, span: Span) -> list[int]:
    """The positions of the messages that a span has."""
    found = await store.load(ACME, number, span)
    assert found is not None
    return [said.position for said in found[1]]


def answered(
    key: str = "k", *, subject: str = "s", fingerprint: str = "f", expires: int = NOW + HOUR
) -> Answered:
    return Answered(
        subject=subject,
        key=key,
        fingerprint=fingerprint,
        conversation=1,
        message=101,
        expires=expires,
    )
