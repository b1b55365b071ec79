"""All of the SQL of the SQLite store: each function is done within one transaction."""

import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import Struct

from gateway.conversations.rows import COLUMNS, conversation_of, here, row_of
from gateway.conversations.sqlite_schema import schema_version
from gateway.conversations.store import Answered, Change, Conflict, Found, Listed, Span
from gateway.conversations.written import (
    read_message,
    write_about,
    write_parts,
)
from gateway.core.conversation import Conversation, Feedback, Place, StoredMessage

_MESSAGE = "position, id, role, created, parts, about, feedback"
_ANSWERED = "subject, key, fingerprint, conversation, message, expires"

# IS, for what a place does not have is NULL.
_HERE = "workspace IS ? AND origin IS ? AND agent = ?"

_INSERT = f"""INSERT INTO conversations ({COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
_UPDATE = """UPDATE conversations SET workspace = ?, origin = ?, agent = ?, user_id = ?, title = ?,
    status = ?, created = ?, updated = ?, length = ?, version = ?, upstream_ids = ?
    WHERE id = ? AND version = ?"""
_TRUNCATE = "DELETE FROM messages WHERE conversation = ? AND position >= ?"
_SAY = f"INSERT INTO messages (conversation, {_MESSAGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ANSWER = f"INSERT OR REPLACE INTO answered ({_ANSWERED}) VALUES (?, ?, ?, ?, ?, ?)"
_MARK = "UPDATE messages SET feedback = ? WHERE conversation = ? AND id = ?"

_FIND = f"SELECT {COLUMNS} FROM conversations WHERE id = ? AND {_HERE}"
_POSITION = "SELECT position FROM messages WHERE conversation = ? AND id = ?"
_NEWEST = f"""SELECT {_MESSAGE} FROM messages WHERE conversation = ? AND position < ?
    ORDER BY position DESC LIMIT ?"""
_COUNT = f"SELECT count(*) FROM conversations WHERE {_HERE}"
_PAGE = "AND (updated, id) < (?, ?) ORDER BY updated DESC, id DESC LIMIT ?"
_LIST = f"SELECT {COLUMNS} FROM conversations WHERE {_HERE}"
_EVERY = f"SELECT {COLUMNS} FROM conversations WHERE id > ? ORDER BY id LIMIT ?"
_KNOWN = f"SELECT {_ANSWERED} FROM answered WHERE subject = ? AND key = ? AND expires > ?"

_OLD = "SELECT id, updated, length FROM conversations WHERE updated < ? ORDER BY updated LIMIT ?"
_CROWDED = """SELECT workspace, origin, agent, user_id FROM conversations WHERE user_id IS NOT NULL
    GROUP BY workspace, origin, agent, user_id HAVING count(*) > ? LIMIT ?"""
_BEYOND = f"""SELECT id, updated, length FROM conversations WHERE {_HERE} AND user_id = ?
    ORDER BY updated DESC, id DESC LIMIT ? OFFSET ?"""
_FORGET = "DELETE FROM conversations WHERE id = ? AND updated = ?"
_EXPIRE = """DELETE FROM answered WHERE (subject, key) IN
    (SELECT subject, key FROM answered WHERE expires <= ? LIMIT ?)"""

# The largest that SQLite can hold, and larger than any time, id or position.
_LAST = (1 << 63) - 1


def write(connection: sqlite3.Connection, change: Change) -> None:
    """Raises `Conflict`, before anything is written."""
    found = change.conversation
    if found.version == 1:
        done = connection.execute(_INSERT, row_of(found))
    else:
        done = connection.execute(_UPDATE, (*row_of(found), found.version - 1))
    if done.rowcount == 0:
        raise Conflict
    if found.version > 1:
        connection.execute(_TRUNCATE, (found.id, change.keep))
    connection.executemany(_SAY, [_said(found.id, said) for said in change.messages])
    if answered := change.answered:
        connection.execute(
            _ANSWER,
            (
                answered.subject,
                answered.key,
                answered.fingerprint,
                answered.conversation,
                answered.message,
                answered.expires,
            ),
        )


def mark(
    connection: sqlite3.Connection, conversation: int, message: int, feedback: Feedback | None
) -> None:
    connection.execute(_MARK, (feedback, conversation, message))


def load(
    connection: sqlite3.Connection, place: Place, conversation: int, span: Span
) -> Found | None:
    found = connection.execute(_FIND, (conversation, *here(place))).fetchone()
    if found is None:
        return None
    end = _end(connection, conversation, span)
    newest = connection.execute(_NEWEST, (conversation, end, span.limit)).fetchall()
    return conversation_of(found), tuple(read_message(*said) for said in reversed(newest))


def listed(
    connection: sqlite3.Connection,
    place: Place,
    user_id: str | None,
    after: tuple[int, int] | None,
    limit: int,
) -> Listed:
    whose, known = ("", ()) if user_id is None else (" AND user_id = ?", (user_id,))
    place_of = (*here(place), *known)
    (total,) = connection.execute(_COUNT + whose, place_of).fetchone()
    updated, number = after or (_LAST, _LAST)
    page = (*place_of, _integer(updated), _integer(number), limit)
    rows = connection.execute(f"{_LIST}{whose} {_PAGE}", page)
    return Listed(tuple(conversation_of(row) for row in rows), total)


def everything(
    connection: sqlite3.Connection, after: int | None, limit: int
) -> tuple[Conversation, ...]:
    rows = connection.execute(_EVERY, (after or 0, limit))
    return tuple(conversation_of(row) for row in rows)


def answered(connection: sqlite3.Connection, subject: str, key: str, now: int) -> Answered | None:
    row = connection.execute(_KNOWN, (subject, key, now)).fetchone()
    if row is None:
        return None
    subject, key, fingerprint, conversation, message, expires = row
    return Answered(
        subject=subject,
        key=key,
        fingerprint=fingerprint,
        conversation=conversation,
        message=message,
        expires=expires,
    )


class Stale(Struct, frozen=True):
    """A conversation that is to be forgotten, if it still has not been updated since."""

    id: int
    updated: int
    length: int


def old(connection: sqlite3.Connection, before: int, limit: int) -> list[Stale]:
    """Those with no activity since `before`."""
    return [Stale(*row) for row in connection.execute(_OLD, (before, limit))]


def beyond(connection: sqlite3.Connection, per_user: int, limit: int) -> list[Stale]:
    """What users have beyond their newest `per_user` of a place: at least `limit`, if there are so
    many."""
    found: list[Stale] = []
    for user in connection.execute(_CROWDED, (per_user, limit)).fetchall():
        if len(found) >= limit:
            break
        rows = connection.execute(_BEYOND, (*user, limit, per_user))
        found += [Stale(*row) for row in rows]
    return found


def forget(connection: sqlite3.Connection, stale: Iterable[Stale]) -> int:
    """How many went."""
    return connection.executemany(_FORGET, [(each.id, each.updated) for each in stale]).rowcount


def expire(connection: sqlite3.Connection, now: int, limit: int) -> int:
    """Forget Idempotency-Keys; how many went."""
    return connection.execute(_EXPIRE, (now, limit)).rowcount


def probe(connection: sqlite3.Connection) -> None:
    """Write something, and change nothing: a full disk can still be read."""
    connection.execute(f"PRAGMA user_version = {schema_version(connection)}")


def counts(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """The schema's version, conversations, messages."""
    (conversations,) = connection.execute("SELECT count(*) FROM conversations").fetchone()
    (messages,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    return schema_version(connection), conversations, messages


def _end(connection: sqlite3.Connection, conversation: int, span: Span) -> int:
    """The position that ends the span."""
    if span.before is not None:
        return _integer(span.before)
    if span.upto is None:
        return _LAST
    found = connection.execute(_POSITION, (conversation, span.upto)).fetchone()
    return found[0] + 1 if found else 0


def _integer(value: int) -> int:
    """The nearest that SQLite can hold: clients' cursors may say anything."""
    return max(-_LAST, min(value, _LAST))


def _said(conversation: int, said: StoredMessage) -> Sequence[int | str | None]:
    return (
        conversation,
        said.position,
        said.id,
        said.role.value,
        said.created,
        write_parts(said.parts),
        write_about(said),
        said.feedback and said.feedback.value,
    )
