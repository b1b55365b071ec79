"""A real Prometheus that scrapes a gateway every second, with this project's rules."""

import asyncio
import math
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from gateway.core.events import Json
from gateway.wire import json
from tests.deploy.files import DEPLOY, document

RULES = DEPLOY / "prometheus"
EXAMPLE = RULES / "prometheus.yaml"
FILES = sorted(RULES.glob("*.rules.yml"))

STEP = 1
"""Seconds between two scrapes, and between two evaluations of the rules."""


@dataclass(slots=True)
class Prometheus:
    """Its HTTP API."""

    session: aiohttp.ClientSession
    url: str

    async def get(self, path: str, **parameters: str) -> dict[str, Json]:
        """The `data` of an answer; a question that it cannot answer is a test's failure."""
        url = f"{self.url}/api/v1/{path}"
        async with (
            self.session.post(url, data=parameters)
            if parameters
            else (self.session.get(url)) as response
        ):
            answer = json.mapping(json.loads(await response.read()))
        assert answer["status"] == "success", (parameters, answer.get("error"))
        data = answer["data"]
        return json.mapping(data) if isinstance(data, dict) else {"found": data}

    async def over(self, expression: str, start: float, end: float) -> list["Series"]:
        """What an expression came to in this time."""
        data = await self.get(
            "query_range", query=expression, start=str(start), end=str(end), step=str(STEP)
        )
        return [_series(json.mapping(found)) for found in json.array(data["result"])]

    async def rules(self) -> list[dict[str, Json]]:
        """All rules as they were evaluated last."""
        groups = map(json.mapping, json.array((await self.get("rules"))["groups"]))
        return [json.mapping(rule) for group in groups for rule in json.array(group["rules"])]

    async def label_values(self, matcher: str, label: str) -> list[str]:
        """What a variable of a dashboard would offer."""
        series = await self.get("series", **{"match[]": matcher})
        found = map(json.mapping, json.array(series["found"]))
        return sorted({json.text(each[label]) for each in found if label in each})

    async def scrapes(self, count: int) -> bool:
        """Whether it has been answered by so many: it takes some seconds to begin."""
        try:
            async with self.session.get(f"{self.url}/-/ready") as response:
                if response.status != 200:
                    return False
        except aiohttp.ClientConnectionError:
            return False
        targets = map(json.mapping, json.array((await self.get("targets"))["activeTargets"]))
        return [target["health"] for target in targets] == ["up"] * count


@dataclass(frozen=True, slots=True)
class Series:
    """What one came to, step by step."""

    labels: frozenset[str]
    """Their names."""
    values: tuple[float, ...]
    """Those that a panel can draw."""


def _series(found: dict[str, Json]) -> Series:
    pairs = map(json.array, json.array(found["values"]))
    values = [float(json.text(value)) for _, value in pairs]
    return Series(frozenset(json.mapping(found["metric"])), tuple(filter(math.isfinite, values)))


def _configured(folder: Path, targets: Sequence[str]) -> Path:
    """The example of deploy/, with another pace and other targets."""
    config = document(EXAMPLE)
    config["global"] = {"scrape_interval": f"{STEP}s", "evaluation_interval": f"{STEP}s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [*targets]}]
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def scraping(folder: Path, *targets: str) -> AsyncIterator[Prometheus]:
    """A server that scrapes these, each a `host:port`; nothing is left of it."""
    assert shutil.which("prometheus"), "Prometheus is missing: run tests/install"
    address = f"127.0.0.1:{_free_port()}"
    log = folder / "prometheus.log"
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            # Whatever becomes of the tests, it ends with them.
            *("setpriv", "--pdeathsig=KILL", "prometheus", "--log.level=warn"),
            f"--config.file={_configured(folder, targets)}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            stderr=stream,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Prometheus(session, f"http://{address}")
            async with asyncio.timeout(90):
                while not await server.scrapes(len(targets)):
                    assert process.returncode is None, log.read_text()
                    await asyncio.sleep(0.05)
            yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
