"""What Python and libraries say by themselves: lines of the log, and nothing of the words."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.observe.logs import build_logger
from gateway.observe.strays import Strays
from tests.serving import ROOT, demo_config, environment, served

# The gateway with a bug where a timer of the event loop rings, of the kind that is named first.
PROGRAM = """
import asyncio, logging, sys, threading, warnings
from gateway.cli.main import main
from gateway.observe.loop_lag import LoopLag

said = "-".join(("oc", "live", "canary"))

class Dies:
    def __del__(self):
        raise KeyError(said)

async def fails():
    raise KeyError(said)

async def fails_to_serve(gateway):
    raise KeyError(said)

KINDS = {
    "callback": lambda: {}[said],
    "task": lambda: asyncio.ensure_future(fails()) and None,
    "thread": lambda: threading.Thread(target=lambda: {}[said]).start(),
    "finalizer": lambda: Dies() and None,
    "warning": lambda: warnings.warn(said),
    "library": lambda: logging.getLogger("aiohttp.server").warning("of " + said),
}
kind = sys.argv.pop(1)
if kind == "process":
    import gateway.cli.run
    gateway.cli.run._until_stopped = fails_to_serve
else:
    LoopLag._rung = lambda self: KINDS[kind]()
sys.exit(main())
"""

EXPECTED = {
    "callback": ("internal_error", "asyncio"),
    "task": ("internal_error", "asyncio"),
    "thread": ("internal_error", "thread"),
    "finalizer": ("internal_error", "finalizer"),
    "process": ("internal_error", "process"),
    "warning": ("library_warning", "UserWarning"),
    "library": ("library_warning", "aiohttp.server"),
}


@contextmanager
def running(kind: str, config: Path) -> Iterator["subprocess.Popen[str]"]:
    """The program with this bug in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, "run", "--config", str(config), "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_nobody_has_caught(kind: str, tmp_path: Path) -> None:
    """One line of JSON says where it was; its words are nowhere. The gateway serves on, if it can,
    and it stops as ever."""
    with running(kind, demo_config(tmp_path)) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.terminate()
        _, rest = process.communicate(timeout=60)
    line = json.loads(first)
    assert (line["event"], line["source"]) == EXPECTED[kind]
    if line["event"] == "internal_error":
        assert (line["level"], line["exception"].split()[-1]) == ("error", "builtins.KeyError")
    else:
        assert (line["level"], line["place"].rpartition(":")[2].isdecimal()) == ("warning", True)
    assert "canary" not in first + rest
    assert process.returncode == (1 if kind == "process" else 0)


# Python imports it by itself; of all processes, the workers alone have the bug.
WORKERS_ALONE = """
import sys
if "worker" in sys.orig_argv:
    from gateway.observe.loop_lag import LoopLag
    LoopLag._rung = lambda self: {}["-".join(("oc", "live", "canary"))]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")
def test_in_a_worker(tmp_path: Path) -> None:
    """It says as well which one it is."""
    config = demo_config(tmp_path)
    config.write_text(config.read_text().replace("[server]", "[server]\nworkers = 2", 1))
    (tmp_path / "sitecustomize.py").write_text(WORKERS_ALONE)
    args = ["--config", str(config), "--port", "0"]
    with served(args, PYTHONPATH=f"{tmp_path}:{ROOT}") as running:
        assert running.process.stderr is not None
        told = [running.process.stderr.readline() for _ in range(2)]
        _, _, rest = running.stop()
    lines = [json.loads(line) for line in told]
    assert {(line["event"], line["worker"]) for line in lines} == {
        ("internal_error", 1),
        ("internal_error", 2),
    }
    assert "oc-live-canary" not in "".join((*told, rest))


class Hearing:
    """Strays, and what they have written."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stream = io.BytesIO()
        strays = Strays(build_logger("info", self.stream), lambda: self.now)
        self.root = logging.Logger("root")
        self.root.addHandler(strays)

    def log(self, name: str) -> None:
        """Something, by the logger of this name."""
        record = logging.makeLogRecord(
            {"name": name, "levelno": logging.WARNING, "pathname": f"{name}.py", "lineno": 7}
        )
        self.root.handle(record)

    @property
    def sources(self) -> list[str]:
        return [json.loads(line)["source"] for line in self.stream.getvalue().splitlines()]


def test_a_library_that_repeats_itself() -> None:
    """It may have the same to say of each connection; it is told again a minute later."""
    hearing = Hearing()
    for _ in range(100):
        hearing.log("asyncio")
        hearing.log("aiohttp")
    assert hearing.sources == ["asyncio", "aiohttp"]
    hearing.now += 60
    hearing.log("asyncio")
    assert hearing.sources == ["asyncio", "aiohttp", "asyncio"]


def test_what_is_told_elsewhere() -> None:
    """The SDK of traces has lines of its own."""
    hearing = Hearing()
    hearing.log("opentelemetry.sdk.trace")
    hearing.log("opentelemetries")
    assert hearing.sources == ["opentelemetries"]
