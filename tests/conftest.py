"""What tests share: the options of the command line, and the golden files."""

from collections.abc import Callable
from pathlib import Path

import pytest

Golden = Callable[[Path, bytes], None]
"""Holds bytes against a golden file."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files anew; read the difference before you commit it",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares with the file, or writes it under `--update-golden`."""
    update = request.config.getoption("--update-golden")

    def check(path: Path, actual: bytes) -> None:
        if update:
            path.write_bytes(actual)
        assert path.exists(), f"{path.name} is missing: run pytest --update-golden, and read it"
        assert path.read_bytes() == actual

    return check
