"""The files that operators begin with are right, and so is what is switched off in them."""

import re
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.config.load import load, parse
from gateway.config.routes import build_routes
from gateway.config.secrets import missing

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "gateway.toml"
EXAMPLES = sorted((ROOT / "config").glob("*.toml"))

# By whom each file says that its secrets come from the environment.
ENVIRON = {
    "AGENTSGT_API_KEY": "pk_a:sk_b",
    "BOOKBAG_API_KEY": "a",
    "GLOBEX_OPENAI_API_KEY": "b",
    "OC_GATEWAY_DB_PASSWORD": "f",
    "OPENAI_API_KEY": "c",
    "SHARED_SIGNING_SECRET": "d" * 32,
    "SONZAI_API_KEY": "sk_g",
    "SUPPORT_IDENTITY_SECRET": "e",
}

# Configuration that is switched off has no space after its "#", but where a list goes on.
_SWITCHED_OFF = re.compile(r"^#(?=[\[\]a-z]|  \{)", re.MULTILINE)


def test_the_demo_needs_nothing() -> None:
    """gateway.toml serves as it is: an agent, a key that it names, a page that may speak to it."""
    config = load(DEMO)
    routes = build_routes(config, ROOT, {})

    assert routes.find("Echo", "demo").id == 1
    assert "http://localhost:3000" in routes.origins
    assert config.keys[0].hash == f"sha256:{sha256(b'oc_test_demo').hexdigest()}"
    assert missing(config, ROOT, {}) == []


def test_what_the_demo_has_switched_off() -> None:
    """Every "#" in front of configuration can be removed."""
    text = _SWITCHED_OFF.sub("", DEMO.read_text("utf-8"))
    config = parse(tomllib.loads(text), DEMO)

    assert set(config.upstreams) == {
        *("echo", "openai", "bookbag", "chatbase", "sonzai", "agentsgt", "azure", "recorded")
    }
    assert config.server.mounts.bookbag == "/bookbag"
    assert [agent.conversations for agent in config.agents] == ["stored", "stored", "passthrough"]
    assert len(config.agents[1].targets) == 4
    assert config.agents[1].tools[0].name == "order_status"
    assert build_routes(config, ROOT, {}).find("Support", "demo").targets[3].target.transcript


def test_there_are_examples() -> None:
    """One file for each kind of deployment."""
    assert [path.stem for path in EXAMPLES] == [
        "in-front-of-agentsgt",
        "in-front-of-bookbag",
        "in-front-of-chatbase",
        "in-front-of-sonzai",
        "openai-compatible",
        "several-gateways",
        "several-workspaces",
        "signed-keys",
        "tls",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example(path: Path, tmp_path: Path) -> None:
    """An example is right, once what it says must be there is there."""
    config = load(path)
    for name in ("chatbase.key", "site.pem", "site.key"):
        (tmp_path / name).write_text("a")

    assert missing(config, tmp_path, ENVIRON) == []
    assert list(build_routes(config, tmp_path, ENVIRON))


@pytest.mark.parametrize("path", [DEMO, *EXAMPLES], ids=lambda path: path.stem)
def test_editors_find_the_schema(path: Path) -> None:
    """The first line leads an editor to the schema, from where the file is."""
    first = path.read_text("utf-8").splitlines()[0]

    assert (path.parent / first.removeprefix("#:schema ")).resolve() == (
        ROOT / "config" / "oc-gateway.schema.json"
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_an_example_needs_is_said(path: Path) -> None:
    """The comment at the top names every variable and file that the example refers to."""
    text = path.read_text("utf-8")
    head = text[: text.index("\n[")]
    named = re.findall(r'(?:env|file) = "([^"]+)"', text)

    assert [name for name in named if name not in head] == []
