"""gateway.toml to a `Config`, or to everything that is wrong with it."""

import tomllib
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from gateway.config import checks, words
from gateway.config.model import Config
from gateway.config.place import Fault, position, written
from gateway.config.problems import ConfigError, Problem
from gateway.config.reading import content

__all__ = ["ConfigError", "Problem", "load", "parse"]

# A file of a million keys has half of this.
_MAX_SIZE: Final = 256 << 20


def load(path: Path) -> Config:
    """The config in this file. Raises `ConfigError` with all its problems."""
    return loads(read(path), path)


def loads(text: bytes, path: Path) -> Config:
    """The config in this text of the file. Raises `ConfigError` with all its problems."""
    return parse(_tables(text, path), path)


def parse(data: dict[str, object], path: Path) -> Config:
    """The config in what TOML gave for `path`. Raises `ConfigError` with all its problems."""
    config, wrong = _validated(data)
    told = {fault.path for fault in wrong}
    wrong += [fault for fault in checks.faults(data) if not _below(fault, told)]
    if config is None or wrong:
        wrong.sort(key=lambda fault: position(data, fault.path))
        raise ConfigError(
            path, [Problem(written(data, f.path), f.text, f.found) for f in dict.fromkeys(wrong)]
        )
    return config


def _validated(data: dict[str, object]) -> tuple[Config | None, list[Fault]]:
    try:
        return Config.model_validate(data), []
    except ValidationError as exc:
        return None, words.faults(data, exc)


def _below(fault: Fault, told: set[tuple[str | int, ...]]) -> bool:
    """Whether the model told already that this, or what it stands in, is wrong."""
    return any(fault.path[:length] in told for length in range(len(fault.path) + 1))


def read(path: Path) -> bytes:
    """The file's text. Raises `ConfigError`."""
    try:
        return content(path, _MAX_SIZE)
    except OSError as exc:
        said = f"cannot be read: {(exc.strerror or 'unknown reason').lower()}"
    except ValueError as exc:
        said = f"is not TOML: {_lower(str(exc))}"
    raise ConfigError(path, [Problem("", said)])


def _tables(text: bytes, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text.decode("utf-8-sig"))  # some editors begin a file with a mark
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        said = f"is not UTF-8 text, at line {line}"
    except RecursionError:
        said = "is nested too deeply"
    except ValueError as exc:  # a syntax error, or a number with thousands of digits
        said = f"is not TOML: {_lower(str(exc))}"
    raise ConfigError(path, [Problem("", said)])


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
