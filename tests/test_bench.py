"""The benchmark: that its answers are right and that it would see if they were not. Never speed."""

import dataclasses
import os
import subprocess
import sys

import pytest

from tests.bench import __main__ as command
from tests.bench import rounds
from tests.bench.load import Job, fault
from tests.bench.process import Cpus
from tests.bench.workloads import Workload, job
from tests.serving import ROOT, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads Linux's /proc")

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


def test_it_runs() -> None:
    """At its smallest: every workload on every server, right answers only, and the table."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--seconds=0.1", "--rounds=1", "--connections=2"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = {line.partition(":")[0] for line in done.stderr.splitlines()}
    names = ("warm-up", "json", "burst", "paced", "first", "open")
    expected = {f"{target}, {name}" for target in ("gateway", "pass-through") for name in names}
    kept = {f"gateway with sqlite, {name}" for name in ("warm-up", "json", "burst")}
    assert measured == expected | kept | {"direct, first"}
    rows = [line.split(" | ")[0] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[2:8] == ["| json", "| burst", "| paced", "| open", "| first", "| first"]
    assert rows[10:] == ["| burst", "| json"]


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
    monkeypatch.setattr(command, "allot", lambda: Cpus(cpu, cpu))
    monkeypatch.setattr(command, "allow_sockets", lambda: None)
    monkeypatch.setattr(rounds, "job", expecting_more)
    assert command.main(["--seconds=0", "--rounds=1", "--only", "json"]) == 1
    out, err = capsys.readouterr()
    assert err == "wrong answer: gateway, warm-up: 64 tokens instead of 65, or in another order\n"
    assert "|" not in out
