"""In whose words a path answers."""

import pytest

from gateway.config.clients import Mounts
from gateway.http.paths import RECORDS, Paths
from gateway.observe.exchange import Operation

PATHS = Paths(Mounts().model_dump())


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
    assert PATHS.dialect_of(path).name == name


def test_chats_answer_in_their_own_words() -> None:
    """An error at a chat's path is in the dialect of that chat."""
    for path, dialect in PATHS.chats.items():
        assert PATHS.dialect_of(path) is dialect


def test_records_answer_in_their_own_words() -> None:
    """An error of theirs is in the dialect that has words for conversations."""
    for root, dialect in PATHS.roots.items():
        assert dialect.records is not None
        for _, path, _ in RECORDS:
            assert PATHS.dialect_of(root + path) is dialect


def test_every_operation_has_its_path() -> None:
    """One each; chats and streams have their own tables, and models are no conversations."""
    assert sorted(operation for _, _, operation in RECORDS) == sorted(
        set(Operation) - {Operation.CHAT, Operation.MODELS, Operation.RESUME}
    )


def test_models_answer_in_their_own_words() -> None:
    """An error of theirs is an OpenAI client's."""
    assert PATHS.models == "/v1/models"
    assert PATHS.dialect_of(PATHS.models).name == "openai"
    assert PATHS.dialect_of(PATHS.models + "/1").name == "openai"


def test_no_id_is_taken_for_a_word() -> None:
    """The first path that fits answers: "export" is no conversation."""
    paths = [path for _, path, _ in RECORDS]
    assert paths.index("/conversations/export") < paths.index("/conversations/{conversation}")
