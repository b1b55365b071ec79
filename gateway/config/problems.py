"""What is wrong with a config file: every problem at once, each with its place in the file."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct


class Problem(Struct, frozen=True):
    """One thing that is wrong.

    `where` is the path in the file as a person writes it (`""`: the file as a whole), `text` what
    is wrong and what is allowed, `found` what stands there (`""` where nothing does, or where it
    may be a secret).
    """

    where: str
    text: str
    found: str = ""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        found = f", found {self.found}" if self.found else ""
        return f"{where}{self.text}{found}"


class ConfigError(ValueError):
    """A config that cannot be used; as text, all its problems, a line each."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = list(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.path}: {self.problems[0]}"
        lines = [f"{self.path}: {len(self.problems)} problems", *map(str, self.problems)]
        return "\n  ".join(lines)
