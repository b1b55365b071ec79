"""The image: what is in its Dockerfile agrees with the gateway."""

import asyncio
import re
import subprocess
import sys
import tomllib
from urllib.parse import urlsplit

import pytest

from gateway.cli.main import build_parser
from gateway.cli.run import run
from gateway.wire import json
from tests.deploy.files import DEPLOY, config
from tests.deploy.programs import free_port
from tests.e2e.conftest import Start
from tests.e2e.running import config as written
from tests.serving import ROOT

DOCKERFILE = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text("utf-8"))
INSTRUCTIONS = [
    (word, rest)
    for line in DOCKERFILE.splitlines()
    if line and not line.startswith("#")
    for word, _, rest in [line.partition(" ")]
]
STAGES = [index for index, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM"]
LAST = INSTRUCTIONS[STAGES[-1] :]


def _said(word: str) -> str:
    """The last stage's only instruction of this name."""
    (only,) = (rest for name, rest in LAST if name == word)
    return only


def _words(text: str) -> list[str]:
    return [json.text(word) for word in json.array(json.loads(text.encode()))]


HEALTH = _words(_said("HEALTHCHECK").partition("CMD ")[2])


def test_its_command_line_parses() -> None:
    """What it runs without arguments is the gateway, for clients outside of the container."""
    entry, *arguments = _words(_said("ENTRYPOINT")) + _words(_said("CMD"))
    args = build_parser().parse_args(arguments)

    assert entry == "oc-gateway"
    assert (args.run, args.host) == (run, "0.0.0.0")


def test_it_is_small_and_harmless() -> None:
    """The last stage has what the first has built, nothing of the project's files, and a user that
    is not root."""
    copied = [rest for word, rest in LAST if word in ("COPY", "ADD")]

    assert len(STAGES) == 2
    assert copied == ["--from=build /opt/oc-gateway /opt/oc-gateway"]
    assert _said("USER") == "10001:10001"


def test_its_ports_are_those_of_its_configs() -> None:
    compose = config("config")

    assert _said("EXPOSE").split() == [str(compose.server.port), str(compose.admin.port)]


def test_what_it_is_built_of_is_there() -> None:
    """And .dockerignore lets it through."""
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    first = INSTRUCTIONS[STAGES[0] : STAGES[1]]
    sources = {name for word, rest in first if word == "COPY" for name in rest.split()[:-1]}

    assert sources == let_through
    assert all((ROOT / name).exists() for name in sources)


@pytest.mark.parametrize(("extras", "installed"), [("", "."), ("otel,top", ".[otel,top]")])
def test_what_traces_take_can_be_built_in(extras: str, installed: str) -> None:
    """Nothing installs it later: the image has no installer."""
    (run,) = (
        rest for word, rest in INSTRUCTIONS if word == "RUN" and "/opt/oc-gateway inst" in rest
    )
    what = run.rpartition(" install ")[2]
    shell = subprocess.run(
        ["/bin/sh", "-c", f"printf %s {what}"],
        env={"EXTRAS": extras},
        capture_output=True,
        check=True,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert ("ARG", "EXTRAS=") in INSTRUCTIONS[: STAGES[1]]
    assert shell.stdout.decode() == installed
    assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])


async def test_its_health_check(start: Start) -> None:
    """It finds a gateway that runs healthy, and nothing where none is."""
    gateway = await start(written("", kind="echo", target=""))
    port = urlsplit(gateway.gateway.admin.url).port

    assert await _checked(str(port)) == 0
    assert await _checked(str(free_port())) == 1


async def _checked(port: str) -> int:
    words = [word.replace("9090", port) for word in HEALTH]
    assert words != HEALTH
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words[1:], stderr=subprocess.DEVNULL
    )
    return await asyncio.wait_for(process.wait(), 30)
