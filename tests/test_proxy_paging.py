"""Which page of a list is asked for."""

import base64

import pytest

from gateway.core.conversation import MAX_ID
from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.paging import Cursor, Page, conversations_cursor, messages_cursor, page


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def test_the_first_page() -> None:
    """Of 20, unless asked otherwise; other parameters are somebody else's."""
    assert page({"utm": "x"}, Cursor.MESSAGES) == Page(20, None)
    assert page({"limit": "100"}, Cursor.CONVERSATIONS) == Page(100, None)
    assert page({"limit": "1"}, Cursor.CONVERSATIONS) == Page(1, None)


@pytest.mark.parametrize("position", [0, 1, 19, 999_999_999])
def test_a_cursor_into_messages(position: int) -> None:
    """It comes back as it went, in what a URL may hold."""
    cursor = messages_cursor(position)

    assert cursor.isalnum()
    assert page({"cursor": cursor}, Cursor.MESSAGES) == Page(20, (position,))
    padded = cursor + "=" * (-len(cursor) % 4)
    assert page({"cursor": padded}, Cursor.MESSAGES) == Page(20, (position,))


@pytest.mark.parametrize("place", [(0, 1), (1_700_000_000_000, MAX_ID), (9, 123)])
def test_a_cursor_into_conversations(place: tuple[int, int]) -> None:
    """When it was updated, and its id."""
    cursor = conversations_cursor(*place)

    assert cursor.isalnum()
    assert page({"cursor": cursor, "limit": "5"}, Cursor.CONVERSATIONS) == Page(5, place)


@pytest.mark.parametrize("limit", ["", "0", "101", "1000", "-1", "+5", "1.0", " 5", "x", "٥"])
def test_no_limit(limit: str) -> None:
    """1 to 100, in digits."""
    with pytest.raises(GatewayError) as caught:
        page({"limit": limit}, Cursor.MESSAGES)

    assert caught.value.code is ErrorCode.INVALID_BODY
    assert caught.value.details == {"limit": "must be a whole number from 1 to 100"}


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "!!", "bTE!x", "AAAAA", "ü", "\udcff"),
        *map(encoded, ("", "m", "m-1", "m1.0", "m1 ", "m٥", "M1", "m1234567890", "\0")),
        conversations_cursor(1, 2),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_no_cursor_into_messages(cursor: str) -> None:
    """What we have not written, the other list's too, and more digits than a database holds."""
    with pytest.raises(GatewayError) as caught:
        page({"cursor": cursor}, Cursor.MESSAGES)

    assert caught.value.code is ErrorCode.INVALID_BODY
    assert caught.value.details == {"cursor": "must be the cursor of a page of this list"}


@pytest.mark.parametrize(
    "cursor",
    [*map(encoded, ("c1", "c1.", "c1.2.3", "c" + "1" * 17 + ".1", "m1")), messages_cursor(1)],
)
def test_no_cursor_into_conversations(cursor: str) -> None:
    """Likewise."""
    with pytest.raises(GatewayError):
        page({"cursor": cursor}, Cursor.CONVERSATIONS)


def test_every_complaint_at_once() -> None:
    """In the message for a reader, and by name for a program."""
    with pytest.raises(GatewayError) as caught:
        page({"limit": "0", "cursor": "x"}, Cursor.MESSAGES)

    assert caught.value.details is not None
    assert caught.value.details.keys() == {"limit", "cursor"}
    assert "limit must be" in caught.value.message
    assert "; cursor must be" in caught.value.message
