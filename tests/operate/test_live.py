"""Dashboards, rules and the runbook before a live gateway under a mixed load with faults, and one
of several workers that has lost one: a real Prometheus scrapes them, and is asked everything that
an operator would see."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.reloading import Following
from tests.operate.crew import Crewed, crewed
from tests.operate.load import AGENTS, mixed, serving
from tests.operate.panels import DASHBOARDS, Panel, filled, notes, panels, queried, read
from tests.operate.prometheus import FILES, Prometheus, Series, scraping
from tests.operate.runbook import Look, looks, stand_ins
from tests.operate.test_rules import rules as written

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Panels that are well at nothing, as this gateway is.
ZEROS = {"Stopping": "it does not stop while it is watched"}

# Alerts that such a load must have set off, or be about to.
RAISED = {
    "OcGatewayAvailabilityBurnFast",
    "OcGatewayConfigReloadFailed",
    "OcGatewayWorkersMissing",
    "OcGatewayWorkersRestarting",
    "OcGatewayUpstreamDown",
    "OcGatewayUpstreamFailing",
    "OcGatewayBreakerOpen",
    "OcGatewayTargetQueueFull",
    "OcGatewayRunningOnFallbacks",
    "OcGatewayLimitsBiting",
    "OcGatewayStoreErrors",
    "OcGatewayCertificateAboutToExpire",
    "OcGatewayCertificateExpiring",
}
# And those that it must not: nothing is the matter with the process itself.
QUIET = {
    "OcGatewayDown",
    "OcGatewayAbsent",
    "OcGatewayRestarting",
    "OcGatewayNoWorker",
    "OcGatewayDrainingTooLong",
}

# Sections of the runbook about gateways of several workers.
OF_WORKERS = {"OcGatewayNoWorker", "OcGatewayWorkersMissing", "OcGatewayWorkersRestarting"}


@dataclass(slots=True)
class Observed:
    """A load that is over, and what has seen it; the gateway still serves."""

    gateway: Following
    crew: Crewed
    prometheus: Prometheus
    began: float
    ended: float
    folder: Path


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def observed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Observed]:
    folder = tmp_path_factory.mktemp("operate")
    async with serving(folder) as gateway, crewed(folder) as crew:
        admins = gateway.gateway.admin.url, crew.gateway.admin
        targets = (url.removeprefix("http://").rstrip("/") for url in admins)
        async with scraping(folder, *targets) as prometheus:
            began, ended = await mixed(gateway, crew)
            await _evaluated(prometheus)
            yield Observed(gateway, crew, prometheus, began, ended, folder)


async def _evaluated(prometheus: Prometheus) -> None:
    """Wait until every rule has been."""
    async with asyncio.timeout(60):
        while any(rule["health"] == "unknown" for rule in await prometheus.rules()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def _values(observed: Observed, agent: str) -> dict[str, str]:
    return {
        "job": "oc-gateway",
        "instance": ".*",
        "upstream": ".*",
        "workspace": ".*",
        "key": ".*",
        "agent": agent,
        "__rate_interval": "5s",
        "__range": f"{observed.ended - observed.began:.0f}s",
    }


async def _drawn(observed: Observed, expression: str) -> list[Series]:
    """What a panel shows of it; of an agent's dashboard, for whichever agent has something."""
    agents = [1, *AGENTS] if "$agent" in expression else [1]
    drawn: list[Series] = []
    for agent in agents:
        query = filled(expression, _values(observed, str(agent)))
        drawn += await observed.prometheus.over(query, observed.began, observed.ended + 1)
    return [series for series in drawn if series.values]


async def _faults(observed: Observed, panel: Panel) -> list[str]:
    """Its queries that show nothing, and legends with labels that nothing has."""
    faults = []
    for expression, legend in panel.queries:
        drawn = await _drawn(observed, expression)
        if not any(any(series.values) or panel.title in ZEROS for series in drawn):
            faults.append(expression)
        told = set(re.findall(r"\{\{(\w+)\}\}", legend))
        if not any(told <= series.labels for series in drawn):
            faults.append(legend)
    return faults


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
async def test_every_panel_shows_something(observed: Observed, path: Path) -> None:
    """Each query of each panel has values, some other than zero, and what its legend tells of."""
    dashboard = read(path)
    found = {str(panel): await _faults(observed, panel) for panel in panels(dashboard)}

    assert {panel: faults for panel, faults in found.items() if faults} == {}
    assert all([await _drawn(observed, note) for note in notes(dashboard)])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
async def test_every_variable_offers_something(observed: Observed, path: Path) -> None:
    for name, (matcher, label) in queried(read(path)).items():
        query = filled(matcher, _values(observed, "1"))
        offered = await observed.prometheus.label_values(query, label)
        assert offered, name


async def test_every_rule_is_evaluated(observed: Observed) -> None:
    """Without an error; and every recording rule records something."""
    rules = await observed.prometheus.rules()
    broken = {json.text(rule["name"]): rule.get("lastError") for rule in rules
              if rule["health"] != "ok"}  # fmt: skip
    recorded = {json.text(rule["name"]) for rule in rules if rule["type"] == "recording"}
    empty = [name for name in recorded if not await _drawn(observed, name)]

    assert len(FILES) == 2
    assert (broken, empty) == ({}, [])


async def test_every_selector_finds_something(observed: Observed) -> None:
    """A rule about a metric or a label that no gateway has would be silent for ever."""
    said = "\n".join(rule["expr"] for rule in written())
    selectors = set(re.findall(r"\b(?:(?:oc_gateway|process)[\w:]+|up)\b(?:\{[^}]*\})?", said))
    found = {selector: await _drawn(observed, selector) for selector in selectors}

    assert len(found) > 30
    assert [selector for selector, drawn in found.items() if not drawn] == []


async def test_alerts_go_off(observed: Observed) -> None:
    """What is wrong is said, and nothing else of the process."""
    rules = await observed.prometheus.rules()
    raised = {json.text(rule["name"]) for rule in rules if rule.get("state") in _RAISED_STATES}
    known = {json.text(rule["name"]) for rule in rules}

    assert RAISED - raised == set()
    assert QUIET & raised == set()
    assert known >= RAISED | QUIET


async def test_what_alerts_say(observed: Observed) -> None:
    """Every label that they name is there."""
    rules = [rule for rule in await observed.prometheus.rules() if rule["type"] == "alerting"]
    raised = [json.mapping(alert) for rule in rules for alert in json.array(rule["alerts"])]
    said = [
        json.text(words)
        for alert in raised
        for words in json.mapping(alert["annotations"]).values()
    ]

    assert said
    assert [words for words in said if "error expanding" in words or "  " in words] == []
    assert [words for words in said if words != words.strip()] == []


_RAISED_STATES: tuple[Json, ...] = ("pending", "firing")


async def test_the_runbook_shows_something(observed: Observed) -> None:
    """Each of its commands that only look runs as it is written, and has something to show."""
    blank = [str(look) for look in looks() if not await _shown(observed, look)]

    assert blank == []


async def _shown(observed: Observed, look: Look) -> str:
    """What a command prints; it and every part of its pipe have to succeed."""
    gateway, crew = observed.gateway, observed.crew
    log = gateway.log.getvalue() + crew.log.encode()
    programs = stand_ins(observed.folder, log, os.getpid())
    of_workers = look.section in OF_WORKERS
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", look.command),
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "ADMIN": crew.gateway.admin if of_workers else gateway.gateway.admin.url,
            "PROMETHEUS": observed.prometheus.url,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b""), f"{look}{err.decode()}"
    return out.decode().strip()
