"""The small written forms of the config: durations, sizes, rates and secrets.

Each parser raises `ValueError` with what is allowed; pydantic puts the path of the field to it.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from gateway.wire import json

# The digits are counted: an endless number would become infinity.
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,9})(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_UNITS: dict[str, Mapping[str, float]] = {
    f"^{_DURATION.pattern}$": _SECONDS,
    f"^{_SIZE.pattern}$": _BYTES,
}
_RATE = re.compile(r"([1-9][0-9]{0,8})/([0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d))")

# What the gateway says itself, whatever the target's params.
_OWN_FIELDS = frozenset({"model", "messages", "stream", "stream_options"})


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


def delay(value: object) -> object:
    """The same, and "0s" is none."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return 0.0 if found is not None and not float(found[1]) else duration(value)


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


def moment(value: object) -> object:
    """ "2027-01-31T00:00:00Z", or TOML's own date and time, to ISO 8601 text with an offset."""
    if isinstance(value, datetime):
        value = value.isoformat()
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError('a date and time with an offset, such as "2027-01-31T00:00:00Z"')
    return value


def param(value: str) -> str:
    """The name of a field of an upstream's body that an operator may set."""
    if value in _OWN_FIELDS:
        raise ValueError("no field that the gateway sets itself (model, messages, stream)")
    return value


def sendable(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The value, if it can be written as JSON: not a number of 30 digits, not 300 levels deep."""
    try:
        json.dumps(value)
    except TypeError as exc:
        raise ValueError("what JSON can say, with numbers of at most 64 bits") from exc
    return value


def written(value: float, pattern: str) -> str | None:
    """Seconds or bytes as the file writes them; None if the pattern is of neither."""
    units = _UNITS.get(pattern)
    return _in_units(value, units) if units else None


def _in_units(value: float, units: Mapping[str, float]) -> str:
    whole = [unit for unit in units if value % units[unit] == 0]
    unit = whole[-1] if whole else next(iter(units))  # the tables go from small to large
    return f"{value / units[unit]:g}{unit}"


def _written(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": [example]})


Delay = Annotated[float, BeforeValidator(delay), _written(_DURATION.pattern, "5s")]
Duration = Annotated[float, BeforeValidator(duration), _written(_DURATION.pattern, "30s")]
Size = Annotated[int, BeforeValidator(size), _written(_SIZE.pattern, "1MiB")]
RateText = Annotated[Rate, BeforeValidator(rate), _written(_RATE.pattern, "100/10s")]
Moment = Annotated[
    str,
    BeforeValidator(moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2027-01-31T00:00:00Z"]}),
]
Params = Annotated[dict[Annotated[str, AfterValidator(param)], JsonValue], AfterValidator(sendable)]
JsonSchema = Annotated[dict[str, JsonValue], AfterValidator(sendable)]

# Of the schema as of the messages: `words.PATTERNS` says each in words.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
LABEL = r"^[^\x00-\x1f\x7f]{1,200}$"
TOOL = r"^[A-Za-z0-9_-]{1,64}$"
# Nothing, or a path without a slash at its end: one that no proxy on the way cuts up or follows up
# ("..").
MOUNT = r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$"
HASH = r"^sha256:[0-9a-f]{64}$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"

Text = Annotated[str, StringConstraints(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Label = Annotated[str, StringConstraints(pattern=LABEL)]

# Clients in JavaScript hold no greater whole number exactly.
MAX_ID = 2**53 - 1
AgentId = Annotated[int, Field(ge=1, le=MAX_ID)]


class Strict(BaseModel):
    """Every table of the config: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Secret(Strict):
    """Where a secret is, never the secret itself: `{ env = "NAME" }` or `{ file = "path" }`."""

    env: Annotated[str, StringConstraints(pattern=VARIABLE)] | None = Field(
        None, description="The environment variable that holds it."
    )
    file: str | None = Field(
        None,
        min_length=1,
        description="The file that holds it; a relative path starts at this file's folder.",
    )

    @model_validator(mode="before")
    @classmethod
    def _not_in_the_file(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(
                '{ env = "NAME" } or { file = "path" }: a secret never stands in this file'
            )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise ValueError('exactly one of { env = "NAME" } or { file = "path" }')
        return self
