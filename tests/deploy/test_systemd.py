"""The unit, as systemd reads it."""

import re
import subprocess
from pathlib import Path

from gateway.cli.main import build_parser
from gateway.cli.run import run
from gateway.config.model import Server
from tests.deploy.files import DEPLOY, config, stopping

UNIT = DEPLOY / "systemd" / "oc-gateway.service"
TEXT = UNIT.read_text("utf-8")
TLS = DEPLOY / "systemd" / "tls.conf"
PROGRAM = "/opt/oc-gateway/bin/oc-gateway"

# Of systemd's own scale from 0 (locked up) to 10: what reaches the network is above 0.
MOST_EXPOSED = 1.5
MOST_EXPOSED_TLS = 1.9


def _said(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", TEXT, re.MULTILINE)


def _analyze(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_its_command_lines_parse() -> None:
    """The gateway's own, with its file where it says."""
    serving = _said("ExecStart")[0].removeprefix(PROGRAM).split()
    checking = _said("ExecReload")[0].removeprefix(PROGRAM).split()
    parser = build_parser()

    assert parser.parse_args(serving).run is run
    assert parser.parse_args(checking).file is None
    assert _said("Environment") == ["OC_GATEWAY_CONFIG=/etc/oc-gateway/gateway.toml"]


def test_the_gateway_has_the_time_that_it_wants() -> None:
    """It is killed later than open turns have ended, with the windows of any of our files."""
    default = Server().drain_delay + Server().drain_timeout
    windows = [stopping(config("config")), default]

    assert int(_said("TimeoutStopSec")[0]) >= max(windows) + 5


def test_a_wrong_configuration_is_not_tried_again() -> None:
    """By the exit code that is only for it."""
    assert _said("RestartPreventExitStatus") == ["2"]


def _installed(unit: Path, folder: Path) -> Path:
    """The unit where the program is."""
    program = folder / "oc-gateway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    found = folder / UNIT.name
    found.write_text(unit.read_text("utf-8").replace(PROGRAM, str(program)))
    return found


def test_systemd_knows_every_word_of_it(tmp_path: Path) -> None:
    """And misses nothing, where the program is installed."""
    unit = _installed(UNIT, tmp_path)

    assert _analyze("verify", "--man=no", str(unit)) == (0, "")
    unit.write_text(unit.read_text().replace("Restart=", "Restrat="))
    assert "Restrat" in _analyze("verify", "--man=no", str(unit))[1]


def test_it_is_locked_up() -> None:
    """By systemd's own measure."""
    code, said = _judged(UNIT, MOST_EXPOSED)

    assert code == 0, said


def test_speaking_tls_takes_little_more(tmp_path: Path) -> None:
    """The right to port 443, which is none among users of its own, and to read the key: systemd
    knows the words, and measures no other change."""
    unit = tmp_path / UNIT.name
    unit.write_text(TEXT + TLS.read_text("utf-8").partition("\n")[2])

    code, said = _judged(unit, MOST_EXPOSED_TLS)

    assert code == 0, said
    assert _analyze("verify", "--man=no", str(_installed(unit, tmp_path))) == (0, "")


def _judged(unit: Path, most: float) -> tuple[int, str]:
    threshold = f"--threshold={round(most * 10)}"
    return _analyze("security", "--offline=yes", "--no-pager", threshold, str(unit))
