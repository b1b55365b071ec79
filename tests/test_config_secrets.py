"""Secrets are read from where the config says they are, and nothing tells what they are."""

from pathlib import Path

import pytest

from gateway.config.load import ConfigError
from gateway.config.secrets import MissingSecret, reveal, reveal_credential
from gateway.config.values import Secret


def test_from_the_environment(tmp_path: Path) -> None:
    """An environment variable's value, as it is."""
    assert reveal(Secret(env="KEY"), tmp_path, {"KEY": " s3cret "}) == " s3cret "


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b"s3cret\n\n", "s3cret\n"),
        (b"-----BEGIN-----\na\n-----END-----\n", "-----BEGIN-----\na\n-----END-----"),
    ],
)
def test_from_a_file(tmp_path: Path, content: bytes, secret: str) -> None:
    """A file's text without the line end that editors put there."""
    (tmp_path / "key").write_bytes(content)

    assert reveal(Secret(file="key"), tmp_path, {}) == secret


def test_an_absolute_path(tmp_path: Path) -> None:
    """Only a relative path starts at the config's folder."""
    (tmp_path / "key").write_text("s3cret")

    assert reveal(Secret(file=str(tmp_path / "key")), Path("elsewhere"), {}) == "s3cret"


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}, {"KEY": " \n"}])
def test_a_variable_that_is_not_set(tmp_path: Path, environ: dict[str, str]) -> None:
    """The error names the variable, and where the config refers to it."""
    with pytest.raises(MissingSecret) as caught:
        reveal(Secret(env="KEY"), tmp_path, environ, "upstreams.llm.credential")

    assert isinstance(caught.value, ConfigError)
    assert str(caught.value) == (
        f"{tmp_path}: upstreams.llm.credential: the environment variable KEY is not set or empty"
    )


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("nope", "the file 'nope' cannot be read: no such file or directory"),
        (".", "the file '.' cannot be read: is a directory"),
        ("empty", "the file 'empty' is empty"),
        ("binary", "the file 'binary' is not a text file"),
        ("a\0b", "the file 'a\\x00b' is not a text file"),
    ],
)
def test_a_file_that_is_no_use(tmp_path: Path, file: str, reason: str) -> None:
    """The error names the file and the reason, never what is in it."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"s3cret\xff")

    with pytest.raises(MissingSecret) as caught:
        reveal(Secret(file=file), tmp_path, {})

    assert str(caught.value) == f"{tmp_path}: {reason}"


@pytest.mark.parametrize("value", ["sk-1\r\nX-Evil: 1", "sk-1\n", "schlüssel"])
def test_a_credential_that_no_header_can_hold(tmp_path: Path, value: str) -> None:
    """It is refused when the config is read, and the message holds nothing of it."""
    with pytest.raises(MissingSecret) as caught:
        reveal_credential(Secret(env="KEY"), tmp_path, {"KEY": value}, "upstreams.llm.credential")

    assert "upstreams.llm.credential" in str(caught.value)
    assert "KEY holds a line break" in str(caught.value)
    assert value not in str(caught.value)
