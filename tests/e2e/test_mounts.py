"""Families whose paths begin elsewhere."""

import pytest

from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import config

_MOUNTS = """
[server.mounts]
bookbag = "/bb"
openai = "/llm/openai"
chatbase = ""
agentsgt = "/gt"
"""


async def test_moved(start: Start) -> None:
    """Chats, records and health answer behind the mount, and no longer where they were."""
    gateway = await start(config("", kind="echo", target="", more=_MOUNTS))

    v1 = await gateway.post("/bb/api/v1/chat", {"agentId": 1, "message": "hi"})
    v2 = await gateway.post("/bb/api/v2/agents/1/chat", {"message": "hi"})
    listed = await gateway.request("GET", "/bb/api/v2/agents/1/conversations")
    health = await gateway.request("GET", "/bb/api/v2/health", key=None)

    assert (v1.text, v2.text) == ("hi", "hi")
    assert len(json.array(listed.json["data"])) == 2
    assert health.json["status"] == "ok"
    for path in ("/api/v1/chat", "/api/v2/health", "/v1/models", "/agentsgt/api/v1/agents/chat/1"):
        assert (await gateway.request("GET", path)).status == 404


@pytest.mark.parametrize("path", ["/bb/api/v1/nothing", "/bb/api/v1"])
async def test_unknown_paths_of_v1(start: Start, path: str) -> None:
    """An error behind a mount is in its family's words."""
    gateway = await start(config("", kind="echo", target="", more=_MOUNTS))
    answer = await gateway.request("GET", path)

    assert answer.status == 404
    assert (answer.json["success"], answer.error["code"]) == (False, "not_found")


@pytest.mark.parametrize("path", ["/bb/api/v2/nothing", "/nothing", "/bb", "/llm", "/"])
async def test_unknown_paths_of_v2_and_of_nobody(start: Start, path: str) -> None:
    """What is nobody's is Bookbag v2's."""
    gateway = await start(config("", kind="echo", target="", more=_MOUNTS))
    answer = await gateway.request("GET", path)

    assert (answer.status, list(answer.json)) == (404, ["error"])
    assert answer.error["code"] == "RESOURCE_NOT_FOUND"


async def test_unknown_paths_of_the_others(start: Start) -> None:
    """So are those of every other family, also of one whose mount is within another's beginning."""
    gateway = await start(config("", kind="echo", target="", more=_MOUNTS))

    openai = await gateway.request("GET", "/llm/openai/v1/nothing")
    agentsgt = await gateway.request("GET", "/gt/api/v1/agents/chat/1/nothing")
    chatbase = await gateway.request("GET", "/api/v2/nothing")

    assert openai.error["type"] == "invalid_request_error"
    assert (agentsgt.status, agentsgt.body) == (404, b"Not found")
    assert (chatbase.status, chatbase.error["code"]) == (404, "RESOURCE_NOT_FOUND")
