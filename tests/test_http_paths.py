"""In whose words a path answers."""

import pytest

from gateway.http.paths import CHAT_PATHS, dialect_of


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/chat", "bookbag-v1"),
        ("/api/v1/", "bookbag-v1"),
        ("/api/v1", "bookbag-v1"),
        ("/api/v1x", "bookbag-v2"),
        ("/api/v10/chat", "bookbag-v2"),
        ("/api/v2/agents/1/chat", "bookbag-v2"),
        ("/x/api/v1/chat", "bookbag-v2"),
        ("", "bookbag-v2"),
        ("*", "bookbag-v2"),
    ],
)
def test_dialect_of(path: str, name: str) -> None:
    """v1 under its prefix, v2 for everything else, also for what is no path."""
    assert dialect_of(path).name == name


def test_chats_answer_in_their_own_words() -> None:
    """An error at a chat's path is in the dialect of that chat."""
    for path, dialect in CHAT_PATHS.items():
        assert dialect_of(path) is dialect
