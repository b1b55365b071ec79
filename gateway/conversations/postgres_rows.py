"""Records as PostgreSQL's rows, and back."""

from collections.abc import Sequence

import asyncpg

from gateway.conversations import postgres_statements as sql
from gateway.conversations.store import Answered, Change, Found, Span
from gateway.conversations.written import (
    read_ids,
    read_message,
    write_about,
    write_ids,
    write_parts,
)
from gateway.core.conversation import Conversation, Owner, Place, Status

# A row's columns that are the conversation's; what follows is a message's.
_WIDTH = len(sql.COLUMNS.split())

_BIGGEST = (1 << 63) - 1


def loading(place: Place, conversation: int, span: Span) -> tuple[str, list[object]]:
    """The statement that reads a conversation, with its arguments."""
    args: list[object] = [conversation, _owner(place), place.agent, span.limit]
    if span.upto is not None and span.before is None:
        return sql.LOAD_UPTO, [*args, span.upto]
    return sql.LOAD_BEFORE, [*args, _BIGGEST if span.before is None else bigint(span.before)]


def found(rows: Sequence[asyncpg.Record]) -> Found | None:
    """What it read."""
    if not rows:
        return None
    # A conversation without messages is one row, with nothing in their columns.
    said = (row[_WIDTH:] for row in rows if row[_WIDTH] is not None)
    return conversation(rows[0]), tuple(read_message(*columns) for columns in said)


def conversation(row: asyncpg.Record) -> Conversation:
    """A conversation from its columns."""
    number, owner, agent, user, title, status, created, updated, length, version, ids = row[:_WIDTH]
    return Conversation(
        id=number,
        place=Place(Owner(*owner), agent),
        user_id=user,
        title=title,
        status=Status(status),
        created=created,
        updated=updated,
        length=length,
        version=version,
        upstream_ids=read_ids(ids),
    )


def listing(
    place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
) -> tuple[tuple[str, str], list[object], list[object]]:
    """The statements that count and page a place's conversations, what both say of whose, and
    what the second says besides."""
    whose: list[object] = [_owner(place), place.agent]
    updated, number = after or (_BIGGEST, _BIGGEST)
    page: list[object] = [bigint(updated), bigint(number), limit]
    if user_id is None:
        return sql.OF_PLACE, whose, page
    return sql.OF_USER, [*whose, text(user_id)], page


def saving(change: Change, holder: int, claims: Sequence[int]) -> tuple[str, list[object]]:
    """The statement that writes a change and releases the claims; it returns a row if the
    conversation was found as it has to be."""
    is_new = change.conversation.version == 1
    return (sql.SAVE_NEW if is_new else sql.SAVE_CHANGED), [
        *_conversation(change.conversation),
        *_messages(change),
        *_answered(change.answered),
        list(claims),
        holder,
    ]


def _conversation(row: Conversation) -> list[object]:
    return [
        row.id,
        _owner(row.place),
        row.place.agent,
        text(row.user_id),
        text(row.title),
        row.status,
        row.created,
        row.updated,
        row.length,
        row.version,
        write_ids(row.upstream_ids),
    ]


def _messages(change: Change) -> list[object]:
    """A list for each column."""
    said = change.messages
    return [
        [change.keep + number for number in range(len(said))],
        [each.id for each in said],
        [each.role for each in said],
        [each.created for each in said],
        [write_parts(each.parts) for each in said],
        [write_about(each) for each in said],
        [each.feedback for each in said],
    ]


def _answered(known: Answered | None) -> list[object]:
    if known is None:
        return [None] * 6
    subject, key = text(known.subject), text(known.key)
    return [
        subject,
        key,
        known.fingerprint,
        known.conversation,
        known.message,
        known.expires,
    ]


def _owner(place: Place) -> list[str | None]:
    return [text(place.owner.workspace), text(place.owner.origin)]


def text(value: str | None) -> str | None:
    """As PostgreSQL can hold it: without NUL, and without half surrogate pairs."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def bigint(value: int) -> int:
    """The nearest that PostgreSQL can hold: clients' cursors may say anything."""
    return max(-_BIGGEST, min(value, _BIGGEST))
