"""All faults before the clients of all dialects: each is told how it went, and nothing is left."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.dialects import DIALECTS
from tests.faults.judging import CLIENTS
from tests.faults.table import CONTENT, FAULTS, TRANSPORT
from tests.faults.trying import Trial, trial


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trials(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trial]:
    """One gateway for all of them."""
    async with trial(FAULTS.values(), tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", TRANSPORT)
async def test_a_fault_of_the_transport(name: str, trials: Trial) -> None:
    """Every client gets a status and a body of its dialect's, or a stream that ends as it says."""
    await _meet(name, trials)


@pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])
@pytest.mark.parametrize("name", CONTENT)
async def test_a_fault_of_the_content(name: str, trials: Trial) -> None:
    """The same for what is said over a connection that holds."""
    await _meet(name, trials)


async def _meet(name: str, trials: Trial) -> None:
    cells = await trials.of(FAULTS[name])
    wrong = [f"{cell.client}: {cell.wrong}" for cell in cells if cell.wrong]
    assert not wrong, "\n".join(wrong)
    assert not await trials.left()


def test_every_dialect_is_here() -> None:
    """A new one has to show how it bears all this."""
    assert {client.dialect for client in CLIENTS} == set(DIALECTS)
