"""`oc-gateway` itself: its commands, their help, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli.main import build_parser, main
from tests.serving import ROOT, cli, demo_config, environment

COMMANDS = [
    ["run"],
    ["check"],
    ["keys"],
    ["keys", "create"],
    ["keys", "verify"],
    ["keys", "sign"],
    ["store"],
    ["store", "migrate"],
    ["store", "status"],
    ["store", "export"],
    ["store", "prune"],
    ["chat"],
    ["top"],
    ["translate"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains itself, within 100 columns."""
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: oc-gateway {' '.join(command)}" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_table_of_commands() -> None:
    """`--help` names every command, with an example of it."""
    text = build_parser().format_help()
    for command in COMMANDS:
        assert f"oc-gateway {command[0]}" in text


def test_version() -> None:
    """As `python -m gateway` too."""
    done = cli("--version")
    assert (done.returncode, done.stdout) == (0, f"oc-gateway {__version__}\n")


@pytest.mark.parametrize("args", [[], ["serve"], ["run", "--prt", "1"]])
def test_wrong_command_line(args: list[str]) -> None:
    """Exit code 2 and how it is used."""
    done = cli(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: oc-gateway" in done.stderr


def test_reader_that_has_gone() -> None:
    """`oc-gateway ... | head` ends without a traceback."""
    line = 'yes \'data: {"choices":[{"delta":{"content":"x"}}]}\n\' | head -20000 | '
    line += f"{sys.executable} -m gateway translate --from openai --to bookbag-v2 | head -1"
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert done.stdout == 'data: {"type":"text-delta","text":"x"}\n'
    assert done.stderr == ""


# Of the standard library, what is slow to import and easily dragged in.
_SLOW = {"asyncio", "dataclasses", "datetime", "email", "http", "logging", "sqlite3", "ssl", "uuid"}


@pytest.mark.parametrize(
    ("command", "modules"),
    [
        ([], {"main"}),
        (["run"], {"main", "run"}),
        (["top"], {"main", "top", "loading"}),
    ],
)
def test_help_is_quick(command: list[str], modules: set[str]) -> None:
    """`--help` loads neither the server nor any library, nor the modules of other commands."""
    code = f"""
import sys
before = set(sys.modules)
from gateway.cli.main import main
try:
    main({[*command, "--help"]})
except SystemExit:
    print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        check=True,
    )
    loaded = set(done.stderr.split())
    roots = {name.partition(".")[0] for name in loaded}
    assert {name for name in loaded if name.startswith("gateway")} == {
        "gateway",
        "gateway.cli",
        *(f"gateway.cli.{name}" for name in modules),
    }
    assert roots - sys.stdlib_module_names == {"gateway"}
    assert roots & _SLOW == set()


# What the demo has no use for: other stores, signed keys, certificates, traces, several processes,
# and of anyio the half that waits.
_UNUSED = {
    "anyio._backends",
    "asyncpg",
    "cryptography",
    "gateway.auth.refresher",
    "gateway.auth.signed",
    "gateway.config.certificate",
    "gateway.conversations.postgres",
    "gateway.observe.otel",
    "gateway.workers.supervisor",
    "jwt",
    "opentelemetry",
}


def test_a_start_loads_what_it_uses(tmp_path: Path) -> None:
    """Nothing of the features that the configuration leaves out."""
    code = f"""
import os, signal, sys
from gateway.cli import main, run
def greeting(gateway):
    os.kill(os.getpid(), signal.SIGTERM)
    return " ".join(sys.modules)
run.greeting = greeting
sys.exit(main.main(["run", "--port", "0", "--config", {str(demo_config(tmp_path))!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
        check=True,
    )
    loaded = set(done.stdout.partition("\n")[0].split())
    assert "gateway.proxy.pipeline" in loaded
    assert loaded & _UNUSED == set()


@pytest.mark.parametrize("args", [[], ["--routes"]])
def test_a_check_loads_no_server(args: list[str]) -> None:
    """It reads the file, and nothing that serves, logs or encrypts."""
    code = f"""
import sys
from gateway.cli.main import main
exit = main(["check", "gateway.toml", *{args}])
print(*sys.modules, file=sys.stderr)
sys.exit(exit)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
        check=True,
    )
    unwanted = {"aiohttp", "asyncio", "cryptography", "prometheus_client", "structlog", "uvloop"}
    assert set(done.stderr.split()) & unwanted == set()
