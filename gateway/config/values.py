"""The small written forms of the config: durations, sizes, rates and secrets.

Each parser raises `ValueError` with what is allowed; pydantic puts the path of the field to it.
"""

import re
from typing import Annotated, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, model_validator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_RATE = re.compile(r"([1-9]\d{0,8})/(\d+(?:\.\d+)?(?:ms|s|m|h|d))")


class Rate(NamedTuple):
    """A token bucket: `capacity` tokens, refilled evenly over `period` seconds."""

    capacity: int
    period: float


def duration(value: object) -> object:
    """ "1.5s" -> 1.5 (seconds)."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError('a duration such as "500ms", "30s", "15m", "12h" or "90d", above zero')
    return float(found[1]) * _SECONDS[found[2]]


def size(value: object) -> object:
    """ "1MiB" -> 1048576 (bytes)."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not int(found[1]):
        raise ValueError('a size such as "64KiB", "1MiB" or "2GiB", above zero')
    return int(found[1]) * _BYTES[found[2]]


def rate(value: object) -> object:
    """ "100/10s" -> a bucket of 100 that refills in 10 seconds."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('a rate such as "100/10s": so many requests in so much time')
    period = duration(found[2])
    assert isinstance(period, float)
    return Rate(int(found[1]), period)


def _written(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": [example]})


Duration = Annotated[float, BeforeValidator(duration), _written(_DURATION.pattern, "30s")]
Size = Annotated[int, BeforeValidator(size), _written(_SIZE.pattern, "1MiB")]
RateText = Annotated[Rate, BeforeValidator(rate), _written(_RATE.pattern, "100/10s")]


class Strict(BaseModel):
    """Every table of the config: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Secret(Strict):
    """Where a secret is, never the secret itself: `{ env = "NAME" }` or `{ file = "path" }`."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_in_the_file(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(
                'a secret never stands in this file: write { env = "NAME" } or { file = "path" }'
            )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise ValueError('exactly one of { env = "NAME" } or { file = "path" }')
        return self
