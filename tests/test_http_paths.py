"""In whose words a path answers."""

import pytest

from gateway.http.paths import CHAT_PATHS, RECORD_PATHS, RECORD_ROOTS, dialect_of
from gateway.observe.exchange import Operation


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


def test_records_answer_in_their_own_words() -> None:
    """An error of theirs is in the dialect that has words for conversations."""
    for root, dialect in RECORD_ROOTS.items():
        assert dialect.records is not None
        for _, path, _ in RECORD_PATHS:
            assert dialect_of(root + path) is dialect


def test_every_operation_has_its_path() -> None:
    """One each; chats have their own table."""
    assert sorted(operation for _, _, operation in RECORD_PATHS) == sorted(
        set(Operation) - {Operation.CHAT}
    )


def test_no_id_is_taken_for_a_word() -> None:
    """The first path that fits answers: "export" is no conversation."""
    paths = [path for _, path, _ in RECORD_PATHS]
    assert paths.index("/conversations/export") < paths.index("/conversations/{conversation}")
