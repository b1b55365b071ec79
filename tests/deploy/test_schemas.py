"""What no program here can run is at least what its owners say such a file may be.

The definitions are packages that tests/install brings. They have requirements of their own, and
therefore a process of their own.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, document
from tests.e2e.javascript import CLIENTS

KUBERNETES = DEPLOY / "kubernetes"
MANIFESTS = [KUBERNETES / name for name in document(KUBERNETES / "kustomization.yaml")["resources"]]
ENVOY = DEPLOY / "fronts" / "envoy.yaml"


def _judged(owner: str, *files: Path) -> tuple[int, str]:
    assert (CLIENTS / ".python" / "schemas").is_dir(), "tests/install brings them"
    done = subprocess.run(
        [sys.executable, CLIENTS / "schemas.py", owner, *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("owner", "files"),
    [("kubernetes", MANIFESTS), ("envoy", [ENVOY])],
    ids=["kubernetes", "envoy"],
)
def test_it_is_right(owner: str, files: list[Path]) -> None:
    assert _judged(owner, *files) == (0, "")


@pytest.mark.parametrize(
    ("owner", "file", "word"),
    [
        ("kubernetes", KUBERNETES / "deployment.yaml", "readinessProbe"),
        ("envoy", ENVOY, "stream_idle_timeout"),
    ],
    ids=["kubernetes", "envoy"],
)
def test_what_is_wrong_is_found(owner: str, file: Path, word: str, tmp_path: Path) -> None:
    """A field that there is not, deep inside."""
    wrong = tmp_path / file.name
    wrong.write_text(file.read_text("utf-8").replace(word, "none_such"))
    code, said = _judged(owner, wrong)

    assert code == 1
    assert "none_such" in said
