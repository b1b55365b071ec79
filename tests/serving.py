"""`oc-gateway` as its users start it: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEMO_KEY = "oc_test_demo"

_CLI = [sys.executable, "-m", "gateway"]


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would change the gateway's ways."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OC_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def cli(
    *args: str, stdin: str | bytes = "", cwd: Path = ROOT, **environ: str
) -> subprocess.CompletedProcess[str]:
    """One command, run to its end."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [*_CLI, *args],
        input=given,
        capture_output=True,
        timeout=120,
        cwd=cwd,
        env=environment(**environ),
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def demo_config(folder: Path) -> Path:
    """The project's own gateway.toml, with any free port for its admin listener."""
    path = folder / "demo.toml"
    path.write_text((ROOT / "gateway.toml").read_text().replace("port = 9090", "port = 0"))
    return path


@dataclass(slots=True)
class Served:
    """A running `oc-gateway run`."""

    process: "subprocess.Popen[str]"
    greeting: str

    @property
    def url(self) -> str:
        return self.greeting.partition("listens on ")[2].split()[0]

    @property
    def curl(self) -> str:
        """The line to paste."""
        lines = (line.strip() for line in self.greeting.splitlines())
        return next(line for line in lines if line.startswith("curl "))

    def stop(self) -> tuple[int, str, str]:
        """SIGTERM; the exit code and what else it said on both streams."""
        self.process.terminate()
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextmanager
def served(
    args: Sequence[str], *, cwd: Path = ROOT, ends: str = "try it:", **environ: str
) -> Iterator[Served]:
    """`oc-gateway run` with these arguments, once it has greeted."""
    process = subprocess.Popen(
        [*_CLI, "run", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(**environ),
    )
    try:
        yield Served(process, _greeting(process, ends))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _greeting(process: "subprocess.Popen[str]", ends: str) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    while ends not in "".join(lines[:-1]):
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait()}: {process.communicate()[1]}"
        lines.append(line)
    return "".join(lines)
