"""deploy/alerts.md, read: its sections, and the commands in them that only look."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.files import DEPLOY

RUNBOOK = DEPLOY / "alerts.md"

# ```sh is for what only looks; ```console, with a `$` before each line, for what changes something.
_LOOKS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Look:
    """One command of a section; it may go over several lines."""

    section: str
    command: str

    def __str__(self) -> str:
        return f"{self.section}: {self.command}"


def sections() -> dict[str, str]:
    """By their titles."""
    _, *parts = re.split(r"^## ", RUNBOOK.read_text("utf-8"), flags=re.MULTILINE)
    titles = (part.partition("\n") for part in parts)
    return {title: text for title, _, text in titles}


def looks() -> list[Look]:
    """All commands that only look."""
    return [
        Look(title, command)
        for title, text in sections().items()
        for block in _LOOKS.findall(text)
        for command in _commands(block)
    ]


def _commands(block: str) -> Iterator[str]:
    """A line that ends with a pipe or stands in the middle of a quotation goes on in the next."""
    command = ""
    for line in block.splitlines(keepends=True):
        command += line
        if not line.rstrip().endswith("|") and command.count("'") % 2 == 0:
            yield command
            command = ""
    assert not command, command


def stand_ins(folder: Path, log: bytes, pid: int) -> Path:
    """A folder for the PATH, with a `journalctl` that has this log, as the journal of a unit has it
    (with what was said before the log began), and a `systemctl` that knows this process. The real
    one, over a journal of nothing, says whether its options are right."""
    (folder / "journal").write_bytes(b"oc-gateway listens on http://127.0.0.1:8080\n" + log)
    (empty := folder / "empty").mkdir(exist_ok=True)
    judge = f'{shutil.which("journalctl")} --quiet --directory {empty} "$@"'
    says = {
        "journalctl": f"{judge} && cat {folder / 'journal'}",
        "systemctl": f"echo {pid}",
    }
    for name, said in says.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{said}\n")
        path.chmod(0o755)
    return folder
