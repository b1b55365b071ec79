"""The dashboards' files: what Grafana needs of them, and what an operator does."""

import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from gateway.admin import gauges
from gateway.core.events import Json
from gateway.observe import families, gen_ai
from gateway.wire import json
from gateway.workers import gauges as workers
from tests.operate.panels import DASHBOARDS, Panel, notes, panels, queried, read, variables
from tests.operate.runbook import sections

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

# What Grafana puts in the place of a name itself.
BUILT_IN = {"__rate_interval", "__range"}

WIDTH = 24

# Characters of a description.
LEAST_SAID = 30

# Words in quotation marks that are no panel's title.
ERRORS = {"unavailable"}

# Ids of Grafana's own units.
UNITS = {"short", "percentunit", "s", "bytes", "reqps", "ops", "cps"}


def test_there_are_four() -> None:
    assert [path.stem for path in DASHBOARDS] == [
        "agent",
        "keys-and-limits",
        "overview",
        "upstreams",
    ]


def test_their_ids_differ() -> None:
    """A link to a dashboard is made of its uid, wherever it is imported."""
    uids = [json.text(read(path)["uid"]) for path in DASHBOARDS]

    assert uids == [f"oc-gateway-{path.stem}" for path in DASHBOARDS]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_takes_it(path: Path) -> None:
    """As of Grafana 10: no id of another database, and no two panels of one id."""
    dashboard = read(path)
    ids = [json.mapping(panel)["id"] for panel in json.array(dashboard["panels"])]

    assert dashboard["id"] is None
    assert dashboard["schemaVersion"] == 38
    assert len(set(map(str, ids))) == len(ids)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_any_prometheus_will_do(path: Path) -> None:
    """The data source is a variable, of panels and of variables."""
    dashboard = read(path)
    sources = [variable.get("datasource") for variable in variables(dashboard).values()]

    assert variables(dashboard)["datasource"]["query"] == "prometheus"
    assert {str(panel): panel.source for panel in panels(dashboard) if panel.source != SOURCE} == {}
    assert all(source in (None, SOURCE) for source in sources)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_name_in_a_query_is_a_variable(path: Path) -> None:
    dashboard = read(path)
    known = BUILT_IN | set(variables(dashboard))
    queries = [*_queries(path), *notes(dashboard)]
    queries += [matcher for matcher, _ in queried(dashboard).values()]

    assert {name for each in queries for name in re.findall(r"\$(\w+)", each)} <= known


def test_no_metric_is_forgotten() -> None:
    """Whatever the gateway counts of itself is on a dashboard."""
    names = {
        *(f"oc_gateway_{name}_total" for name in (*families.COUNTERS, *gauges.COUNTERS)),
        *(f"oc_gateway_{name}_total" for name in workers.COUNTERS),
        *(f"oc_gateway_{name}" for name in (*families.HISTOGRAMS, *families.GAUGES)),
        *(f"oc_gateway_{name}" for name in workers.GAUGES),
        *(f"oc_gateway_{name}" for name in (*families.RARE_GAUGES, *gauges.GAUGES)),
        *gen_ai.HISTOGRAMS,
    }
    shown = " ".join(query for path in DASHBOARDS for query in _queries(path))

    assert {name for name in names if name not in shown} == set()


def _queries(path: Path) -> list[str]:
    return [query for panel in panels(read(path)) for query, _ in panel.queries]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_say_what_to_do(path: Path) -> None:
    """In a sentence or more, behind the i in the panel's corner; “By dialect.” would say what is
    seen, and not what to make of it."""
    said = {str(panel): panel.description for panel in panels(read(path))}

    assert [panel for panel, words in said.items() if not words.endswith(".")] == []
    assert [panel for panel, words in said.items() if len(words) < LEAST_SAID] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_that_are_named_are_there(path: Path) -> None:
    """Descriptions lead from one to the next, also to those of other dashboards."""
    titles = {panel.title for each in DASHBOARDS for panel in panels(read(each))}
    named = {
        name for panel in panels(read(path)) for name in re.findall("“([^”]+)”", panel.description)
    }

    assert named - titles - ERRORS == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_alerts_that_are_named_are_there(path: Path) -> None:
    named = {
        name
        for panel in panels(read(path))
        for name in re.findall(r"OcGateway[A-Z]\w+", panel.description)
    }

    assert named <= set(sections())


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_figures_have_a_unit(path: Path) -> None:
    """One that Grafana knows: of any other it would write the id beside the figure."""
    units = {
        str(panel): panel.unit
        for panel in panels(read(path))
        if panel.kind in ("stat", "timeseries")
    }

    assert {panel: unit for panel, unit in units.items() if unit not in UNITS} == {}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_beside_each_other(path: Path) -> None:
    """None over another one, and none over the edge."""
    found = list(panels(read(path)))

    assert [str(panel) for panel in found if panel.place[2] > WIDTH] == []
    assert [(str(a), str(b)) for a, b in combinations(found, 2) if _overlap(a, b)] == []
    assert all(above.place[1] <= below.place[1] for above, below in pairwise(found))


def _overlap(a: Panel, b: Panel) -> bool:
    left, top, right, bottom = a.place
    other_left, other_top, other_right, other_bottom = b.place
    return left < other_right and other_left < right and top < other_bottom and other_top < bottom
