"""The dashboards of deploy/grafana, as far as a test looks at them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.core.events import Json
from gateway.wire import json
from tests.deploy.files import DEPLOY

DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))

# How Grafana writes a list of a variable's values: `label_values(series, label)`.
_LABEL_VALUES = re.compile(r"label_values\((?P<matcher>.+), (?P<label>\w+)\)")


@dataclass(frozen=True, slots=True)
class Panel:
    """What one shows."""

    title: str
    kind: str
    description: str
    queries: tuple[tuple[str, str], ...]
    """Each an expression, and the legend of what it finds."""
    place: tuple[int, int, int, int]
    """Left, top, right and bottom, in the grid."""
    source: Json
    unit: str
    """Of its figures; empty where it has none."""

    def __str__(self) -> str:
        return f"{self.title!r}"


def read(path: Path) -> dict[str, Json]:
    return json.mapping(json.loads(path.read_bytes()))


def panels(dashboard: dict[str, Json]) -> Iterator[Panel]:
    """All of them, without the rows that part them."""
    for panel in map(json.mapping, json.array(dashboard["panels"])):
        if panel["type"] != "row":
            yield _panel(panel)


def _panel(panel: dict[str, Json]) -> Panel:
    grid = json.mapping(panel["gridPos"])
    x, y, w, h = (grid[name] for name in "xywh")
    assert isinstance(x, int)
    assert isinstance(y, int)
    assert isinstance(w, int)
    assert isinstance(h, int)
    targets = map(json.mapping, json.array(panel["targets"]))
    return Panel(
        title=json.text(panel["title"]),
        kind=json.text(panel["type"]),
        description=json.text(panel.get("description")),
        queries=tuple(
            (json.text(target["expr"]), json.text(target["legendFormat"])) for target in targets
        ),
        place=(x, y, x + w, y + h),
        source=panel["datasource"],
        unit=json.text(json.mapping(json.mapping(panel["fieldConfig"])["defaults"]).get("unit")),
    )


def notes(dashboard: dict[str, Json]) -> list[str]:
    """The expressions of what is noted above all panels, as lines in time."""
    noted = map(json.mapping, json.array(json.mapping(dashboard["annotations"])["list"]))
    return [json.text(note["expr"]) for note in noted if "expr" in note]


def variables(dashboard: dict[str, Json]) -> dict[str, dict[str, Json]]:
    """By name."""
    found = map(json.mapping, json.array(json.mapping(dashboard["templating"])["list"]))
    return {json.text(variable["name"]): variable for variable in found}


def queried(dashboard: dict[str, Json]) -> dict[str, tuple[str, str]]:
    """Variables whose values are a label's: the series and the label."""
    queries = {
        name: json.text(json.mapping(variable["query"])["query"])
        for name, variable in variables(dashboard).items()
        if variable["type"] == "query"
    }
    matches = {name: _LABEL_VALUES.fullmatch(query) for name, query in queries.items()}
    return {name: (found["matcher"], found["label"]) for name, found in matches.items() if found}


def filled(expression: str, values: dict[str, str]) -> str:
    """With every variable's value in its place, Grafana's own included."""
    return re.sub(r"\$(\w+)", lambda name: values[name[1]], expression)
