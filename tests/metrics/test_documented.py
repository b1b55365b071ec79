"""deploy/METRICS.md: its tables are what the program counts, and its queries are queries."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.admin import gauges
from gateway.observe import gen_ai
from gateway.observe.families import ACTIVE_STREAMS, COUNTERS, GAUGES, HISTOGRAMS, RARE_GAUGES
from gateway.observe.faults import FAULTS, Fault
from gateway.workers import gauges as workers
from tests.conftest import Golden
from tests.e2e.conftest import Start
from tests.e2e.scripted import ScriptedUpstream
from tests.e2e.test_operations import mixed_load, scrape, serve

PAGE = Path(__file__).parents[2] / "deploy" / "METRICS.md"


class Row(NamedTuple):
    """One family."""

    name: str
    type: str
    labels: tuple[str, ...]
    says: str


def families() -> Iterator[Row]:
    """All that a gateway may show, but for what is Prometheus's own of any program."""
    yield Row("oc_gateway_build_info", "gauge", ("version",), "The gateway's version.")
    yield Row("oc_gateway_active_streams", "gauge", ACTIVE_STREAMS.labels, ACTIVE_STREAMS.says)
    for counters in (COUNTERS, gauges.COUNTERS):
        for name, (says, labels) in counters.items():
            yield Row(f"oc_gateway_{name}_total", "counter", labels, says)
    for name, (says, labels) in gauges.GAUGES.items():
        yield Row(f"oc_gateway_{name}", "gauge", labels, says)
    yield from of_workers()
    for name, says in (GAUGES | RARE_GAUGES).items():
        yield Row(f"oc_gateway_{name}", "gauge", (), says)
    for name, (says, labels, _) in HISTOGRAMS.items():
        yield Row(f"oc_gateway_{name}", "histogram", labels, says)
    for name, (says, labels, _) in gen_ai.HISTOGRAMS.items():
        yield Row(name, "histogram", labels, says)


def of_workers() -> Iterator[Row]:
    """What only several processes have."""
    for name, (says, labels) in workers.COUNTERS.items():
        yield Row(f"oc_gateway_{name}_total", "counter", labels, says)
    for name, (says, labels) in workers.GAUGES.items():
        yield Row(f"oc_gateway_{name}", "gauge", labels, says)


def metrics_table() -> str:
    """A row for each family."""
    rows = [("metric", "type", "labels", "what it says"), ("---",) * 4]
    rows += [
        (f"`{row.name}`", row.type, " ".join(f"`{label}`" for label in row.labels), row.says)
        for row in sorted(families())
    ]
    return "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows)


def faults_table() -> str:
    """A row for each fault, with its outcomes."""
    rows = [("fault", "outcomes"), ("---",) * 2]
    for fault in Fault:
        outcomes = sorted(outcome for outcome, whose in FAULTS.items() if whose is fault)
        rows.append((f"`{fault}`", ", ".join(f"`{outcome}`" for outcome in outcomes)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


TABLES: Mapping[str, str] = {"metrics": metrics_table(), "faults": faults_table()}


def test_the_tables_are_current(golden: Golden) -> None:
    """`--update-golden` writes them."""
    text = PAGE.read_text("utf-8")
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, _, rest = text.partition(begin)
        text = before + begin + "\n" + table + "\n" + end + rest.partition(end)[2]
    golden(PAGE, text.encode())


async def test_a_gateway_shows_no_other(start: Start, upstream: ScriptedUpstream) -> None:
    """Each family is in the table, under its type, with these labels; and each of the table is
    there, but for the rare ones."""
    gateway = await serve(start, upstream)
    await mixed_load(gateway, upstream)
    documented = {row.name: row for row in families()}
    shown = set()
    for family in await scrape(gateway):
        if family.name.startswith(("process_", "python_")):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        row = documented[name]
        shown.add(name)
        assert (row.type, row.says) == (family.type, family.documentation)
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(row.labels)
    rare = {f"oc_gateway_{name}" for name in RARE_GAUGES}
    assert documented.keys() - shown == rare | {row.name for row in of_workers()}


def queries() -> list[str]:
    return re.findall(r"^```promql\n(.+?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_its_queries_are_queries(tmp_path: Path) -> None:
    """Prometheus reads them, and they ask for what there is."""
    found = queries()
    assert len(found) >= 5
    rules = "".join(
        f"  - record: query:{number}\n    expr: |\n" + "".join(f"      {line}\n" for line in lines)
        for number, lines in enumerate(query.splitlines() for query in found)
    )
    path = tmp_path / "queries.yml"
    path.write_text(f"groups:\n- name: queries\n  rules:\n{rules}")
    done = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    known = {row.name for row in families()}
    asked = set(re.findall(r"\b(?:oc_gateway|gen_ai_client)_\w+", "\n".join(found)))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= known
