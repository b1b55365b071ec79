"""Pages of a list: which one is asked for, and the cursor that leads to the next."""

import base64
import re
from collections.abc import Mapping
from enum import Enum

from msgspec import Struct

from gateway.core.errors import ErrorCode, GatewayError

MAX_LIMIT = 100
_DEFAULT_LIMIT = 20

_LIMIT = re.compile(r"[0-9]{1,3}", re.ASCII)


class Cursor(Enum):
    """What a cursor says, by the list that it belongs to: no more digits than databases can hold.
    One list's is none of the other's."""

    CONVERSATIONS = re.compile(r"c([0-9]{1,16})\.([0-9]{1,16})", re.ASCII)
    """When the page's last one was updated, and its id."""
    MESSAGES = re.compile(r"m([0-9]{1,9})", re.ASCII)
    """The position of the page's first one."""


class Page(Struct, frozen=True):
    """A page that is asked for; without `after`, the first one."""

    limit: int
    after: tuple[int, ...] | None


def page(query: Mapping[str, str], kind: Cursor) -> Page:
    """What `limit` and `cursor` ask for. Raises `GatewayError(INVALID_BODY)`, naming what is wrong
    with each."""
    problems: dict[str, str] = {}
    limit, after = _DEFAULT_LIMIT, None
    if "limit" in query:
        limit = int(query["limit"]) if _LIMIT.fullmatch(query["limit"]) else 0
        if not 1 <= limit <= MAX_LIMIT:
            problems["limit"] = f"must be a whole number from 1 to {MAX_LIMIT}"
    if "cursor" in query:
        after = _read(query["cursor"], kind)
        if after is None:
            problems["cursor"] = "must be the cursor of a page of this list"
    if problems:
        message = "; ".join(f"{name} {problem}" for name, problem in problems.items())
        raise GatewayError(ErrorCode.INVALID_BODY, message, details=problems)
    return Page(limit, after)


def conversations_cursor(updated: int, number: int) -> str:
    """Leads to the conversations behind this one."""
    return _written(f"c{updated}.{number}")


def messages_cursor(position: int) -> str:
    """Leads to the messages before this one."""
    return _written(f"m{position}")


def _written(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(cursor: str, kind: Cursor) -> tuple[int, ...] | None:
    try:
        text = base64.urlsafe_b64decode(cursor.encode() + b"==").decode()
    except ValueError:  # no base64, or no text
        return None
    found = kind.value.fullmatch(text)
    # Python's base64 skips what is none.
    if found is None or _written(text) != cursor.rstrip("="):
        return None
    return tuple(map(int, found.groups()))
