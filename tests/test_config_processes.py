"""What several workers cannot share is an error of the file, before anything is counted wrongly."""

import tomllib
from pathlib import Path

import pytest

from gateway.config.load import parse
from gateway.config.problems import ConfigError

FILE = Path("gateway.toml")

CONFIG = """
[server]
workers = {workers}
{server}
[store]
url = "{store}"
[limits.tiers.standard]
requests = "100/10s"
[upstreams.echo]
kind = "echo"
{upstream}
[[agents]]
id = 1
workspace = "acme"
name = "Support"
targets = [{{ upstream = "echo"{target} }}]
{agent}
"""


def problems(workers: str, **parts: str) -> list[str]:
    """What is wrong with the file."""
    empty = dict.fromkeys(("server", "upstream", "target", "agent"), "")
    text = CONFIG.format(workers=workers, **{**empty, "store": "sqlite:///a.db", **parts})
    try:
        parse(tomllib.loads(text), FILE)
    except ConfigError as exc:
        return [str(problem) for problem in exc.problems]
    return []


@pytest.mark.parametrize("workers", ["2", "256", '"auto"'])
def test_what_they_share(workers: str) -> None:
    """A file, a database; and what is off by itself."""
    assert problems(workers) == []
    assert problems(workers, store="postgresql://db.example/oc") == []
    assert problems(workers, server="resume = { on_request = false }") == []
    assert problems(workers, agent='on_disconnect = "drain"') == []


@pytest.mark.parametrize("workers", ["-1", "257", "1.5", "true", '"2"', '"AUTO"'])
def test_how_many(workers: str) -> None:
    (found,) = problems(workers)
    assert found.startswith(
        'server.workers: expected a whole number from 1 to 256, or "auto" for one on each core'
    )


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({"store": "memory://"}, "store.url"),
        ({"server": "resume = { on_request = true }"}, "server.resume.on_request"),
        ({"agent": 'on_disconnect = "keep"'}, 'agents[0].on_disconnect (agent 1 "Support")'),
    ],
)
def test_what_is_in_one_process(parts: dict[str, str], where: str) -> None:
    """Both settings are named, and what to do; "auto" may be several on the next machine."""
    for workers in ("4", '"auto"'):
        (found,) = problems(workers, **parts)
        assert found.startswith(f"{where}: ")
        assert f"server.workers = {workers}" in found
        assert "server.workers = 1" in found.replace(f"server.workers = {workers}", "")
    assert problems("1", **parts) == []


def test_limits_that_are_too_small() -> None:
    """Each has a part of them; with "auto" there are no more workers than that."""
    upstream, target = {"upstream": "max_streams = 3"}, {"target": ", max_streams = 3"}

    assert problems("3", **upstream) == problems("3", **target) == []
    assert problems("4", **upstream) == [
        "upstreams.echo.max_streams: expected 4 or more: server.workers = 4, and each has a part of"
        " it, found 3"
    ]
    assert problems("4", **target)[0].startswith("agents[0].targets[0].max_streams")
    assert problems('"auto"', **upstream) == []
