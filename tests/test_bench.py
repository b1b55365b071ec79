"""The benchmark: that its answers are right and that it would see if they were not. Never speed."""

import dataclasses
import os
import subprocess
import sys

import pytest

from gateway.wire import json
from tests.bench import __main__ as command
from tests.bench import calls, compare, nginx, rounds
from tests.bench.growth import AXES
from tests.bench.load import Job, Outcome, fault
from tests.bench.process import Cpus
from tests.bench.report import FIGURES, table
from tests.bench.rounds import Measured, Round
from tests.bench.workloads import NAMES, Workload, job
from tests.serving import ROOT, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads Linux's /proc")


@pytest.fixture(autouse=True)
def silent() -> None:
    """Nobody listens: calls are counted here, and those would be some."""


STREAMED = Job(0, "/", b"", "", stream=True, tokens=3, connections=1, seconds=0, ramp=0)
WHOLE = Job(0, "/", b"", "", stream=False, tokens=3, connections=1, seconds=0, ramp=0)

STREAM = b"""\
data: {"type":"text-delta","text":"~000"}

data: {"type":"text-delta","text":"~001"}

data: {"type":"text-delta","text":"~002"}

data: {"type":"finish","finishReason":"stop"}

data: [DONE]

"""
DOCUMENT = b'{"choices":[{"message":{"content":"~000~001~002"},"finish_reason":"stop"}]}'


def bench(*args: str, timeout: float = 280) -> "subprocess.CompletedProcess[str]":
    """`python -m tests.bench`, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        env=environment(),
        check=False,
    )


def rows(text: str) -> list[list[str]]:
    """The cells of all Markdown tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {at - 1 for at, line in enumerate(lines) if line.startswith("| ---")}
    kept = [line for at, line in enumerate(lines) if at not in heads and at - 1 not in heads]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


@pytest.mark.timeout(300)
def test_it_runs() -> None:
    """At its smallest: every workload on every server, right answers only, and the tables."""
    done = bench("--seconds=0.1", "--rounds=1", "--connections=2")
    assert done.returncode == 0, done.stderr
    measured = {line.partition(":")[0] for line in done.stderr.splitlines()}
    targets = ["gateway", "pass-through", *(["nginx"] if nginx.binary() else [])]
    names = {"warm-up", *NAMES} - {"workers"}
    expected = {f"{target}, {name}" for target in targets for name in names}
    kept = {f"gateway with sqlite, {name}" for name in ("warm-up", "json", "burst", "workers")}
    twos = ("gateway with two workers", "two pass-throughs")
    two = {f"{target}, {name}" for target in twos for name in ("warm-up", "workers")}
    assert measured == expected | kept | two | {"direct, first", "pass-through, workers"}
    figures = [row[:2] for row in rows(done.stdout)]
    assert figures[: len(FIGURES)] == [[figure.workload, figure.name] for figure in FIGURES]
    others = ["workers of this build", "pass-throughs", "burst", "json", *NAMES[:-1]]
    assert [row[0] for row in figures[len(FIGURES) :]] == others
    assert "all right" in done.stderr
    assert " lost" not in done.stderr


def run_of(workload: Workload, target: str, *, cpu: float, lost: int = 0) -> Round:
    """A run of ten answers."""
    outcome = Outcome(answers=10, wrong=["gone"] * lost, first_tokens=[0.001] * 10, took=1.0)
    return {(target, workload.name): Measured(workload, outcome, cpu, 0, 0.5)}


def test_ratios() -> None:
    """Medians of each round's own ratios, and a note where the pass-through varied."""
    json = Workload("json", 64, 1, 1.0, stream=False)
    rounds = [
        run_of(json, "gateway", cpu=ours) | run_of(json, "pass-through", cpu=theirs)
        for ours, theirs in ((0.002, 0.001), (0.009, 0.003), (0.004, 0.001))
    ]
    (row,) = rows(table(rounds))
    assert row == [
        *("json", "CPU per request, µs", "400.00", "100.00", "-"),
        *("3.00", "≤ 0.8x", "67%", "-", "-"),
    ]
    assert "Noisy: json, CPU per request, µs: the pass-through itself varied by 200%" in table(
        rounds
    )


def test_a_crowd_may_lose_some() -> None:
    """What is lost is counted; of any other workload, a wrong answer ends the run."""
    crowd = Workload("crowd-5000", 20, 10, 1.0)
    lost = run_of(crowd, "gateway", cpu=1.0, lost=3) | run_of(crowd, "pass-through", cpu=1.0)
    assert rows(table([lost]))[0][2:7] == ["3.00", "0.00", "-", "-", "≤ 0"]


@pytest.mark.timeout(300)
def test_growth() -> None:
    """Each axis at its first size, in lines to plot."""
    done = bench("growth", "--seconds=0.1", "--largest=10")
    assert done.returncode == 0, done.stderr
    head, *lines = (line.split("\t") for line in done.stdout.splitlines())
    assert head == ["grows", "size", "figure", "value", "to the first"]
    assert {axis for axis, *_ in lines} == set(AXES) - {"tokens of a stream"}
    assert min(float(value) for *_, value, _ in lines) > 0


def test_start() -> None:
    """Both are measured, to an answer and to the end."""
    done = bench("start", "--rounds=1")
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in rows(done.stdout)] == [
        *("python -c pass", "--help", "run, to the first answer"),
    ]


def test_a_turn_takes_no_more_calls() -> None:
    """The guard: a count that noise does not change, held to what is committed."""
    if calls.version() not in calls.read_ceilings():
        pytest.skip(f"no ceilings for Python {calls.version()}")
    done = bench("calls", "--check")
    assert done.returncode == 0, done.stderr


def test_more_calls_are_too_many() -> None:
    """One in twenty more is tolerated, and no more; without a ceiling nothing is."""
    assert calls.over({"json": 105, "stream": 200}, {"json": 100, "stream": 200}) == []
    (said,) = calls.over({"json": 106, "stream": 200}, {"json": 100, "stream": 200})
    assert said.startswith("json: 106 calls")
    assert len(calls.over({"json": 1}, {})) == 1


def test_calls_are_counted() -> None:
    """Of functions of Python and of C, by the module that is running, without those of tests."""
    profile = calls.Profile()
    profile.begin()
    json.dumps([json.loads(b"1")])
    profile.end()
    # Two of ours, one of orjson by each, and what looks for text that is no UTF-8.
    assert profile.calls["gateway.wire.json"] >= 4
    assert set(profile.calls) <= {"gateway.wire.json", "(standard library)"}


@pytest.mark.parametrize(("asked", "body"), [(STREAMED, STREAM), (WHOLE, DOCUMENT)])
def test_right_answers(asked: Job, body: bytes) -> None:
    """All tokens in order, a finish reason, and the end."""
    assert fault(asked, 200, body) is None


@pytest.mark.parametrize(
    ("asked", "status", "body", "said"),
    [
        (STREAMED, 502, STREAM, "status 502"),
        (STREAMED, 200, STREAM.replace(b"~001", b""), "2 tokens instead of 3"),
        (STREAMED, 200, STREAM.replace(b"~001", b"~000"), "another order"),
        (STREAMED, 200, STREAM.replace(b"~002", b"~002~003"), "4 tokens instead of 3"),
        (STREAMED, 200, STREAM.replace(b'"stop"', b'"error"'), "finish reason"),
        (STREAMED, 200, STREAM.removesuffix(b"data: [DONE]\n\n"), "it ends with"),
        (WHOLE, 200, DOCUMENT[:-1], "it ends with"),
    ],
)
def test_wrong_answers(asked: Job, status: int, body: bytes, said: str) -> None:
    """Each is seen and named."""
    assert said in (fault(asked, status, body) or "")


def test_a_wrong_answer_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, whose answer it was and what was wrong with it, and no table."""

    def expecting_more(workload: Workload, target: str, port: int) -> Job:
        return dataclasses.replace(job(workload, target, port), tokens=workload.tokens + 1)

    cpu = min(os.sched_getaffinity(0))
    monkeypatch.setattr(compare, "allot", lambda: Cpus(cpu, cpu))
    monkeypatch.setattr(compare, "allow_sockets", lambda: None)
    monkeypatch.setattr(rounds, "job", expecting_more)
    assert command.main(["--seconds=0", "--rounds=1", "--only", "json"]) == 1
    out, err = capsys.readouterr()
    assert err == "wrong answer: gateway, warm-up: 64 tokens instead of 65, or in another order\n"
    assert "|" not in out
