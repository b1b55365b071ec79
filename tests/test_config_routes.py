"""From an agent's name to the upstreams that answer for it."""

import tomllib
from pathlib import Path

import pytest

from gateway.config.load import ConfigError, parse
from gateway.config.model import Config
from gateway.config.routes import Route, Routes, build_routes, routing_table
from gateway.config.secrets import MissingSecret
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import Tool

CONFIG = """
[limits.tiers.widget]
requests = "20/1m"

[upstreams.llm]
kind = "openai"
base_url = "https://llm.example:8443/v1"
blank_lines = false
max_event = "64KiB"

[upstreams.bookbag]
kind = "bookbag"
base_url = "https://app.bookbag.ai"

[upstreams.bookbag-old]
kind = "bookbag"
api = "v1"
base_url = "https://app.bookbag.ai"

[upstreams.echo]
kind = "echo"

[[agents]]
id = 1
workspace = "acme"
name = "Support"
aliases = ["support", "7"]
allowed_models = ["m2"]
credits_per_turn = 2
identity_secret = { env = "IDENTITY" }
instructions = "Be brief."
targets = [
  { upstream = "llm", model = "m", params = { temperature = 0.5 } },
  { upstream = "bookbag", agent = 77 },
  { upstream = "bookbag-old", agent = "78" },
]
public = { origins = ["https://www.acme.com", "https://shop.acme.com"], tier = "widget" }
tools = [{ name = "order_status", description = "Look it up." }]

[[agents]]
id = 2
workspace = "globex"
name = "Support"
aliases = ["help"]
targets = [{ upstream = "echo" }]
public = { origins = ["https://globex.com"], tier = "widget" }

[[agents]]
id = 3
workspace = "acme"
name = "Christmas"
archived = true
identity_secret = { env = "NOT_SET" }
targets = [{ upstream = "echo" }]
public = { origins = ["https://christmas.acme.com"], tier = "widget" }

[[agents]]
id = 7
workspace = "globex"
name = "Seven"
targets = [{ upstream = "echo" }]
"""

ENVIRON = {"IDENTITY": "s3cret"}


def config(text: str = CONFIG) -> Config:
    return parse(tomllib.loads(text), Path("gateway.toml"))


@pytest.fixture
def routes() -> Routes:
    return build_routes(config(), Path("."), ENVIRON)


def not_found(routes: Routes, agent: str, workspace: str | None) -> bool:
    with pytest.raises(GatewayError) as caught:
        routes.find(agent, workspace)
    return caught.value.code is ErrorCode.AGENT_NOT_FOUND


def test_a_route_is_ready_to_use(routes: Routes) -> None:
    """Everything a turn needs of its agent, the secret included, and no more of the config."""
    route = routes.find("1", "acme")

    assert (route.id, route.workspace, route.name) == (1, "acme", "Support")
    assert route.allowed_models == {"m2"}
    assert route.credits_per_turn == 2
    assert route.identity_secret == "s3cret"
    assert route.instructions == "Be brief."
    assert route.tools == (Tool("order_status", "Look it up.", {"type": "object"}),)
    assert "s3cret" not in repr(route)


def test_targets(routes: Routes) -> None:
    """Targets come in the file's order, each with the codec of its kind and API."""
    targets = routes.find("1", "acme").targets

    assert [t.kind.name for t in targets] == ["openai", "bookbag-v2", "bookbag-v1"]
    assert [t.target.agent for t in targets] == [None, "77", "78"]
    first = targets[0].target
    assert (first.upstream, first.model, first.params) == ("llm", "m", {"temperature": 0.5})
    assert (first.blank_lines, first.max_event) == (False, 65536)


@pytest.mark.parametrize("agent", ["1", "Support", "support", "7"])
def test_by_id_name_and_alias(routes: Routes, agent: str) -> None:
    """All names are text, and count in their workspace."""
    assert routes.find(agent, "acme").id == 1


@pytest.mark.parametrize(
    ("agent", "workspace"),
    [
        ("2", "acme"),
        ("help", "acme"),
        ("3", "acme"),
        ("Christmas", "acme"),
        ("3", None),
        ("SUPPORT", "acme"),
        ("01", "acme"),
        ("", None),
        ("1", "initech"),
    ],
)
def test_what_is_not_there(routes: Routes, agent: str, workspace: str | None) -> None:
    """Unknown, archived, and another workspace's are all the same: not found."""
    assert not_found(routes, agent, workspace)


def test_without_a_workspace(routes: Routes) -> None:
    """A public client has no workspace: an id is unique, a name only if one workspace has it."""
    assert routes.find("2", None).id == 2
    assert routes.find("help", None).id == 2
    assert not_found(routes, "Support", None)
    assert routes.find("7", None).name == "Seven", "an id comes before an alias"


def test_a_name_that_three_workspaces_know() -> None:
    """Two of a name are ambiguous, and a third does not make it clear again."""
    agents = "".join(
        f'[[agents]]\nid = {i}\nworkspace = "w{i}"\nname = "A"\ntargets = [{{upstream = "echo"}}]\n'
        for i in (1, 2, 3)
    )
    routes = build_routes(config(f'[upstreams.echo]\nkind = "echo"\n{agents}'), Path("."), {})

    assert not_found(routes, "A", None)
    assert routes.find("A", "w3").id == 3


def test_of_a_workspace(routes: Routes) -> None:
    """A workspace's agents, without those that are archived."""
    assert [route.id for route in routes.of_workspace("globex")] == [2, 7]
    assert [route.id for route in routes.of_workspace("acme")] == [1]
    assert routes.of_workspace("initech") == ()


def test_origins(routes: Routes) -> None:
    """A preflight is answered for every public agent's origins; each agent has its own."""
    route = routes.find("1", None)

    assert "https://shop.acme.com" in routes.origins
    assert "https://globex.com" in routes.origins
    assert "https://christmas.acme.com" not in routes.origins
    assert allowed(route, "https://www.acme.com")
    assert not allowed(route, "https://globex.com")
    assert not allowed(route, None)
    assert routes.find("7", None).public is None


def allowed(route: Route, origin: str | None) -> bool:
    assert route.public is not None
    return route.public.allows(origin)


def test_any_origin() -> None:
    """`"*"` lets any page in, and what is no page."""
    text = CONFIG.replace('"https://globex.com"', '"*"')
    routes = build_routes(config(text), Path("."), ENVIRON)

    assert "https://elsewhere.example" in routes.origins
    assert allowed(routes.find("2", None), "https://elsewhere.example")
    assert allowed(routes.find("2", None), None)
    assert not allowed(routes.find("1", None), "https://elsewhere.example")


@pytest.mark.parametrize("origin", ["http://\udcff", "https://münchen.example"])
def test_no_origin(origin: str) -> None:
    """What no browser writes is nobody's origin: databases cannot even hold half a character."""
    routes = build_routes(config(CONFIG.replace('"https://globex.com"', '"*"')), Path("."), ENVIRON)

    assert not allowed(routes.find("2", None), origin)


def test_a_secret_that_is_missing() -> None:
    """The error names the agent and the variable; an archived agent's is not looked for."""
    with pytest.raises(MissingSecret, match=r"identity_secret of agent 1: .* IDENTITY is not set"):
        build_routes(config(), Path("."), {})


REPLAYS = """
[upstreams.recorded]
kind = "replay"
file = "recorded.jsonl"

[upstreams.other]
kind = "replay"
file = "other.jsonl"

[[agents]]
id = 1
workspace = "demo"
name = "Demo"
targets = [{ upstream = "recorded" }, { upstream = "other" }]
"""


def test_transcripts(tmp_path: Path) -> None:
    """A replay's transcript is read from beside the config."""
    (tmp_path / "recorded.jsonl").write_text('{"kind": "openai"}\n{"after": 0.5, "data": "x"}\n')
    (tmp_path / "other.jsonl").write_text('{"kind": "chatbase"}\n')

    first, second = build_routes(config(REPLAYS), tmp_path, {}).find("1", "demo").targets

    assert first.kind.name == "replay"
    assert first.target.transcript is not None
    assert first.target.transcript.steps == ((0.5, b"x"),)
    assert second.target.transcript is not None
    assert second.target.transcript.kind == "chatbase"


def test_transcripts_that_are_no_use(tmp_path: Path) -> None:
    """Every transcript's problem is told at once."""
    (tmp_path / "other.jsonl").write_text("{}")

    with pytest.raises(ConfigError) as caught:
        build_routes(config(REPLAYS), tmp_path, {})

    assert [problem.where for problem in caught.value.problems] == [
        "upstreams.recorded.file",
        "upstreams.other.file",
    ]


def test_the_table(routes: Routes) -> None:
    """What people see of the routes: where each agent leads, and who needs no key."""
    assert routing_table(routes).splitlines() == [
        'agent 1 "Support", workspace acme',
        "  1. llm: openai at llm.example:8443, model m",
        "  2. bookbag: bookbag-v2 at app.bookbag.ai, agent 77",
        "  3. bookbag-old: bookbag-v1 at app.bookbag.ai, agent 78",
        "  public: https://shop.acme.com https://www.acme.com, tier widget",
        'agent 2 "Support", workspace globex',
        "  1. echo: echo",
        "  public: https://globex.com, tier widget",
        'agent 7 "Seven", workspace globex',
        "  1. echo: echo",
    ]
