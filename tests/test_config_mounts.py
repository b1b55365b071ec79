"""Which mounts would lead one path to two families."""

import pytest
from msgspec.structs import replace

from gateway.config.clients import Mounts
from gateway.config.mounts import clashes
from gateway.core.codec import Dialect
from gateway.dialects import DIALECTS
from gateway.dialects.bookbag_v1 import BOOKBAG_V1


def dialect(family: str, *chats: str, root: str | None = None, beginning: str = "/x/") -> Dialect:
    return replace(
        BOOKBAG_V1, family=family, chats=chats, root=root, beginning=f"/{family}{beginning}"
    )


def found(one: Dialect, other: Dialect, **prefixes: str) -> list[tuple[str, str, str]]:
    return list(clashes({"a": "", "b": "", **prefixes}, [one, other]))


def test_the_defaults_are_apart() -> None:
    """Every family has paths of its own, and a mount for them."""
    mounts = Mounts().model_dump()

    assert {each.family for each in DIALECTS.values()} <= mounts.keys()
    assert list(clashes(mounts, DIALECTS.values())) == []


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("/chat", "/chat", True),
        ("/chat", "/chats", False),
        ("/chat", "/chat/x", False),
        ("/agents/{agent}/chat", "/agents/chat/{agent}", True),
        ("/agents/{agent}/chat", "/agents/{agent}/talk", False),
        ("/agents/{agent}", "/agents/x", True),
        ("/agents/{agent}", "/agents/x/y", False),
        ("/agents/{agent}", "/agents/{name}", True),
    ],
)
def test_chats(one: str, other: str, both: bool) -> None:
    """An agent's place takes any word, and no more than one."""
    expected = [("a", "b", one)] if both else []

    assert found(dialect("a", one), dialect("b", other)) == expected
    assert len(found(dialect("b", other), dialect("a", one))) == both


def test_what_is_behind_an_agent_is_one_familys() -> None:
    """Its conversations are there."""
    keeps = dialect("a", "/agents/{agent}/chat", root="/agents/{agent}")
    near = replace(dialect("b", "/chat"), beginning="/chat")

    assert found(keeps, near) == []
    assert found(keeps, near, b="/agents") == []
    assert found(keeps, near, b="/agents/7/talk") == [("a", "b", "/agents/{agent}/{...}")]
    assert found(keeps, near, a="/kept", b="/agents/7/talk") == []


def test_errors_are_in_one_familys_words() -> None:
    """Two families cannot begin at the same path, though their chats be apart."""
    one, other = dialect("a", "/v1/chat"), dialect("b", "/v1/talk")
    same = [replace(each, beginning="/v1/") for each in (one, other)]

    assert found(*same) == [("a", "b", "/v1/")]
    assert found(*same, b="/b") == []


def test_dialects_of_one_family_share_its_mount() -> None:
    """They are apart by their own paths."""
    assert found(dialect("a", "/chat"), dialect("a", "/chat")) == []
