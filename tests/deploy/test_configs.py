"""Each gateway.toml of deploy/ is right, and made for where it runs."""

from pathlib import Path

import pytest

from gateway.config.load import load
from tests.deploy.files import CONFIGS, DEPLOY
from tests.serving import ROOT, cli


def _name(path: Path) -> str:
    return path.parent.name


def test_there_are_configs() -> None:
    """One for compose, one for Kubernetes."""
    assert [_name(path) for path in CONFIGS] == ["config", "kubernetes"]


@pytest.mark.parametrize("path", CONFIGS, ids=_name)
def test_it_is_valid(path: Path) -> None:
    """`oc-gateway check` finds nothing but secrets that are not set here."""
    done = cli("check", str(path))
    warnings = done.stderr.splitlines()

    assert (done.returncode, done.stdout.startswith(f"{path} is valid: ")) == (0, True)
    assert all(" is not set or empty" in line or "cannot be read" in line for line in warnings)


@pytest.mark.parametrize("path", CONFIGS, ids=_name)
def test_it_can_be_reached_in_its_container(path: Path) -> None:
    """Both listeners are at the ports that the image names, on every address; conversations are
    where several gateways find them."""
    config = load(path)

    assert (config.server.host, config.server.port) == ("0.0.0.0", 8080)
    assert (config.admin.host, config.admin.port) == ("0.0.0.0", 9090)
    assert config.store.url.startswith("postgresql://")
    assert config.server.drain_delay > 0


@pytest.mark.parametrize("path", CONFIGS, ids=_name)
def test_editors_find_the_schema(path: Path) -> None:
    """The first line leads to it from where the file is."""
    first = path.read_text("utf-8").splitlines()[0]
    schema = path.parent / first.removeprefix("#:schema ")

    assert schema.resolve() == ROOT / "config" / "oc-gateway.schema.json"


def test_nothing_is_left_out() -> None:
    """Every file of deploy/ is named in its README, or in a folder that is."""
    said = (DEPLOY / "README.md").read_text("utf-8")
    files = {path.relative_to(DEPLOY) for path in DEPLOY.rglob("*") if path.is_file()}
    tops = {path.parts[0] for path in files if path.name not in ("README.md", ".env")}

    assert {top for top in tops if top not in said} == set()
