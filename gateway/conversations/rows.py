"""A conversation as a row: numbers and texts, which is what databases and long lists can hold."""

from typing import Final

from gateway.conversations.written import read_ids, write_ids
from gateway.core.conversation import Conversation, Owner, Place, Status

Row = tuple[str | None, str | None, int, str | None, str | None, str, int, int, int, int, str, int]
"""In the order of `COLUMNS`: first where it is, and whose."""

COLUMNS = (
    "workspace, origin, agent, user_id, title, status, created, updated, length, version,"
    " upstream_ids, id"
)

# Where in a row they are.
USER_ID: Final = 3
UPDATED: Final = 7
LENGTH: Final = 8
VERSION: Final = 9
UPSTREAM_IDS: Final = 10


def here(place: Place) -> tuple[str | None, str | None, int]:
    """The columns that say where."""
    return place.owner.workspace, place.owner.origin, place.agent


def row_of(found: Conversation) -> Row:
    """What is kept of it."""
    owner = found.place.owner
    return (
        owner.workspace,
        owner.origin,
        found.place.agent,
        found.user_id,
        found.title,
        found.status.value,
        found.created,
        found.updated,
        found.length,
        found.version,
        write_ids(found.upstream_ids),
        found.id,
    )


def conversation_of(row: Row) -> Conversation:
    """What `row_of` made a row of."""
    workspace, origin, agent, user_id, title, status, *numbers, upstream_ids, number = row
    created, updated, length, version = numbers
    return Conversation(
        id=number,
        place=Place(Owner(workspace, origin), agent),
        user_id=user_id,
        title=title,
        status=Status(status),
        created=created,
        updated=updated,
        length=length,
        version=version,
        upstream_ids=read_ids(upstream_ids),
    )
