"""The transcripts that replays play, read from their files."""

from pathlib import Path
from typing import Final

from gateway.config.model import Config
from gateway.config.problems import ConfigError, Problem
from gateway.config.reading import content
from gateway.core.codec import Transcript
from gateway.upstreams.replay import transcript

_MAX_SIZE: Final = 256 << 20


def transcripts(config: Config, base: Path) -> dict[str, Transcript]:
    """What the replays play, by the upstream's name. Raises `ConfigError`, all problems at once."""
    read: dict[str, Transcript] = {}
    problems: list[Problem] = []
    for name, upstream in config.upstreams.items():
        if upstream.file is None:
            continue
        try:
            read[name] = transcript(content(base / upstream.file, _MAX_SIZE).decode("utf-8"))
        except OSError as exc:
            problems.append(_unread(name, upstream.file, (exc.strerror or "").lower()))
        except ValueError as exc:
            problems.append(_unread(name, upstream.file, str(exc)))
    if problems:
        raise ConfigError(base, problems)
    return read


def _unread(name: str, file: str, reason: str) -> Problem:
    return Problem(f"upstreams.{name}.file", f"the transcript {file!r} is no use: {reason}")
