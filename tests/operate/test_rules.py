"""The rule files: sound, tried, and each alert explained."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gateway.core.errors import ErrorCode
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED, COMPLETE
from gateway.observe.families import HISTOGRAMS
from gateway.observe.faults import FAULTS, Fault
from tests.deploy.files import DEPLOY, Document, document
from tests.metrics.test_documented import families
from tests.operate.prometheus import EXAMPLE, FILES, RULES
from tests.operate.runbook import looks, sections

TESTS = sorted((RULES / "tests").glob("*.test.yml"))
SEVERITIES = {"critical", "warning", "info"}

# Codes of upstreams' errors that count as failures, as the rules have them.
FAILING = re.compile(r"upstream_.+|.+_timeout")
NOT_FAILING = re.compile(r"upstream_rejected|upstream_busy")


def rules() -> list[Document]:
    return [rule for path in FILES for group in document(path)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def promtool(*arguments: str | Path) -> None:
    """Raises if it finds fault, with what it says."""
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_finds_nothing_wrong() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", *FILES)
    promtool("check", "config", EXAMPLE)
    promtool("check", "config", "--syntax-only", DEPLOY / "prometheus.yml")


def test_both_configurations_have_the_rules_and_the_job() -> None:
    """Rules and dashboards know the gateways by the name of the job."""
    compose = document(DEPLOY / "prometheus.yml")
    example = document(EXAMPLE)

    assert set(example["rule_files"]) == {path.name for path in FILES}
    for config in (compose, example):
        assert config["scrape_configs"][0]["job_name"] == "oc-gateway"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_alerts_go_off_when_they_should(path: Path) -> None:
    """By Prometheus' own way of testing rules, without the time that it takes."""
    promtool("test", "rules", path)


def _tried() -> Iterator[tuple[str, bool]]:
    """The alert that a test is about, and whether it goes off, at each of the test's times."""
    for path in TESTS:
        for test in document(path)["tests"]:
            about = test["name"].partition(":")[0]
            for each in test["promql_expr_test"]:
                off = {sample["labels"] for sample in each["exp_samples"]}
                yield about, f'{{alertname="{about}"}}' in off


def test_each_alert_is_tried_both_ways() -> None:
    """When it goes off, and when it does not."""
    both = {(alert, goes_off) for alert in ALERTS for goes_off in (True, False)}

    assert set(_tried()) == both


def test_the_series_of_tests_are_a_gateways() -> None:
    """With names and labels that it has: alerts tried with others would be tried with nothing."""
    known = {row.name: set(row.labels) for row in families()}
    given = [
        series["series"]
        for path in TESTS
        for test in document(path)["tests"]
        for series in test["input_series"]
    ]
    ours = [series for series in given if series.startswith("oc_gateway_")]

    assert len(ours) > 50
    for series in ours:
        name, _, labels = series.partition("{")
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        assert set(re.findall(r"(\w+)=", labels)) - {"job", "instance", "le"} <= known[family]


def test_the_runbooks_address_is_put_in(tmp_path: Path) -> None:
    """As the file's head says."""
    path = tmp_path / "alerts.rules.yml"
    text = (RULES / path.name).read_text()
    path.write_text(text)
    (command,) = re.findall(r"^#\s+(sed .+)$", text, re.MULTILINE)
    subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True)
    urls = re.findall(r"^ +runbook_url: (\S+)#", path.read_text(), re.MULTILINE)

    assert urls == ["https://your.own/place/alerts.md"] * len(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do(alert: str) -> None:
    """Its words, how urgent it is, and its section of the runbook."""
    rule = ALERTS[alert]
    said = rule["annotations"]

    assert rule["labels"]["severity"] in SEVERITIES
    assert said["summary"]
    assert said["description"].endswith(".")
    page, _, anchor = said["runbook_url"].rpartition("#")
    assert page.endswith("/alerts.md")
    # A heading's anchor is its text in lower case.
    assert (anchor, alert) in {(title.lower(), title) for title in sections()}


def test_the_runbook_has_a_section_for_each_alert() -> None:
    """And no other; each shows what to look at, and its links lead somewhere."""
    text = sections()
    anchors = {title.lower() for title in text}
    links = {link for part in text.values() for link in re.findall(r"\]\(#([^)]+)\)", part)}

    assert list(text) == list(ALERTS)
    assert {look.section for look in looks()} == set(ALERTS)
    assert links <= anchors


def test_whose_failures_an_upstream_is_charged_with() -> None:
    """Exactly those that are its fault, by the gateway's own table."""
    charged = {
        code for code in ErrorCode if FAILING.fullmatch(code) and not NOT_FAILING.fullmatch(code)
    }
    text = (RULES / "recording.rules.yml").read_text()

    assert charged == {code for code in ErrorCode if FAULTS.get(code) is Fault.UPSTREAM}
    assert f'code=~"{FAILING.pattern}", code!~"{NOT_FAILING.pattern}"' in text
    assert {
        outcome
        for outcome in (COMPLETE, CLIENT_GONE, CLIENT_STALLED, *ErrorCode)
        if re.fullmatch("complete|client_.+", outcome)
    } == {COMPLETE, CLIENT_GONE, CLIENT_STALLED}


def test_what_soon_is_is_a_bucket() -> None:
    """A `le` that no bucket has would find every answer late."""
    text = (RULES / "recording.rules.yml").read_text()
    asked = re.findall(r'oc_gateway_(\w+)_bucket\{le="([^"]+)"\}', text)

    assert {name for name, _ in asked} == {"first_event_seconds", "left_waiting_seconds"}
    assert len({soon for _, soon in asked}) == 1
    for name, soon in asked:
        assert soon in {str(float(each)) for each in HISTOGRAMS[name].buckets}


def test_recording_rules_are_named_alike() -> None:
    """`level:metric:operations`, as Prometheus' own advice has it."""
    names = {rule["record"] for rule in rules() if "record" in rule}

    assert all(re.fullmatch(r"oc_gateway:[a-z_]+:[a-z0-9_]+", name) for name in names)


def test_kubernetes_names_the_job_as_the_rules_do() -> None:
    """An operator would call it <namespace>/<name>."""
    monitor = document(DEPLOY / "kubernetes" / "monitoring" / "podmonitor.yaml")
    label = monitor["spec"]["jobLabel"]
    deployment = yaml.safe_load((DEPLOY / "kubernetes" / "deployment.yaml").read_text())

    assert deployment["spec"]["template"]["metadata"]["labels"][label] == "oc-gateway"
