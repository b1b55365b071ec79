"""Who may name a conversation that the upstream keeps."""

import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.auth.principal import Principal
from gateway.config.load import parse
from gateway.config.model import Tier
from gateway.config.routes import Route, build_routes
from gateway.core.conversation import Owner
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import ChatRequest
from gateway.dialects.bookbag_v1 import BOOKBAG_V1
from gateway.dialects.bookbag_v2 import BOOKBAG_V2
from gateway.proxy.admission import Caller
from gateway.proxy.passing import check_family, check_turn

CONFIG = """
[upstreams.bookbag]
kind = "bookbag"
base_url = "https://app.bookbag.ai"
[[agents]]
id = 1
workspace = "acme"
name = "Support"
conversations = "passthrough"
targets = [{ upstream = "bookbag", agent = 7 }]
"""

TIER = Tier.model_validate({"requests": "1/1s"})
ASK = ChatRequest(agent="1", message="hi", stream=True)
KEY = Principal("web", "acme", None, "standard")


@pytest.fixture
def route() -> Route:
    return build_routes(parse(tomllib.loads(CONFIG), Path("gateway.toml")), Path(), {}).find(
        "1", "acme"
    )


def caller(principal: Principal | None) -> Caller:
    return Caller(Owner("acme"), "subject", "standard", TIER.requests, TIER.concurrency, principal)


def test_another_family_s_clients(route: Route) -> None:
    """They know other ids: for them the agent does not exist."""
    with pytest.raises(GatewayError) as caught:
        check_family(replace(BOOKBAG_V2, family="chatbase"), route)

    assert caught.value.code is ErrorCode.AGENT_NOT_FOUND
    check_family(BOOKBAG_V1, route)


@pytest.mark.parametrize(
    ("principal", "may"),
    [(KEY, True), (replace(KEY, user="u1"), False), (None, False)],
    ids=["a workspace's key", "a key for one user", "no key"],
)
def test_who_may_name_one(route: Route, principal: Principal | None, may: bool) -> None:
    """Only who speaks for the whole workspace; anyone may begin one."""
    check_turn(BOOKBAG_V1, caller(principal), route, ASK)
    named = replace(ASK, conversation_id="456")
    if may:
        check_turn(BOOKBAG_V1, caller(principal), route, named)
    else:
        with pytest.raises(GatewayError) as caught:
            check_turn(BOOKBAG_V1, caller(principal), route, named)
        assert caught.value.code is ErrorCode.FORBIDDEN
