"""The configuration as commands want it: loaded, or complained about."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config.model import Config
    from gateway.config.values import Secret


def load_config(path: Path) -> "Config | None":
    """The configuration; None once its problems have been printed."""
    from gateway.config.load import ConfigError, load

    try:
        return load(path)
    except ConfigError as exc:
        fail(str(exc))
        return None


def reveal_of(config: Path) -> "Callable[[Secret], str]":
    """What reads the secrets that a config names; it raises `ConfigError`."""
    from gateway.config.secrets import reveal

    return lambda secret: reveal(secret, config.parent)


def fail(message: str) -> int:
    """Prints to standard error; the exit code of a refusal."""
    print(message, file=sys.stderr)
    return 1
