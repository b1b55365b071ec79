"""What tests share: the options of the command line, the golden files, and PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres import Postgres, running
from tests.silence import Overheard, overhearing

# A loaded machine takes its time for an example; what hangs, pytest's own timeout ends.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

Golden = Callable[[Path, bytes], None]
"""Holds bytes against a golden file."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files anew; read the difference before you commit it",
    )
    parser.addoption(
        "--full",
        action="store_true",
        help="run what is long in full: the tests that kill or restart the gateway, and the races",
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


@pytest.fixture(autouse=True)
def silent() -> Iterator[Overheard]:
    """No test passes whose gateways wrote what was said, or a secret, into their logs."""
    with overhearing() as overheard:
        yield overheard
    assert not overheard.leaked(), "in the log"


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether what is long runs in full."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of the tests' own."""
    with running() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of a new and empty database. The server runs again after a test that stopped it."""
    url = postgres.create()
    yield url
    postgres.start()
    postgres.drop(url)
