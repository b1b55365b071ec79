"""That the tests would hear of a gateway that writes down what it should not."""

import io
from collections.abc import Iterator

import pytest

from gateway.observe.logs import build_logger
from tests.e2e.conftest import Start
from tests.e2e.running import config
from tests.e2e.scripted import ScriptedUpstream, openai_text
from tests.e2e.speaking import ASK
from tests.silence import Overheard, overhearing


@pytest.fixture(autouse=True)
def silent() -> Iterator[Overheard]:
    """In the place of the one that every test has: what leaks here is meant to."""
    with overhearing() as overheard:
        yield overheard


@pytest.mark.parametrize("dialect", ASK)
async def test_what_leaks_is_heard(
    start: Start, upstream: ScriptedUpstream, silent: Overheard, dialect: str
) -> None:
    """What a client says, what it is answered, and its key, however it has got into a line."""
    said, told, key = "ripe pineapples", "red pineapples", "oc_live_pineapple"
    upstream.answers(openai_text(told))
    gateway = await start(config(upstream.url))
    path, body = ASK[dialect]("1", said, True)
    assert (await gateway.post(path, body)).status == 200
    assert (await gateway.post(path, body, key)).status == 401
    assert silent.leaked() == set()
    assert len(gateway.log_lines()) == 2

    logger = build_logger("debug", io.BytesIO())
    logger.debug("bug", field={"of": said})
    logger.error("bug", exc_info=False, more=[f"...{told}..."])
    logger.info(key)
    assert silent.leaked() == {said.encode(), told.encode(), key.encode()}
