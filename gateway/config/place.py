"""A place in a config file as TOML gives it, before anything is known to be right.

The checks across tables read the raw file leniently (a value of the wrong type counts as absent,
and is named by the model already), so that they find what they can find beside it.
"""

import re
from collections.abc import Iterator
from datetime import date, time

from msgspec import Struct

from gateway.config.values import MAX_ID
from gateway.wire import json

Path = tuple[str | int, ...]

# Nothing of ours is deeper, and a params table may be endless.
_MAX_DEPTH = 8

# A bare key of TOML; any other stands in quotes.
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")

# The values of these are never shown: each may be, or hold, a secret put in the wrong place.
_HIDDEN = frozenset(
    {"base_url", "credential", "env", "file", "hash", "headers", "identity_secret"}
    | {"params", "password", "public_key", "secret", "token", "url"}
)
_SECRET_LOOKS = re.compile(
    r"(?i)(?:oc|sk|pk|gh[a-z]|xox[a-z])[-_]|bearer |eyJ|-----BEGIN"
    r"|[a-z+]+://[^/?#]*@|authorization:|[a-z-]*(?:key|token):"
)

_LONGEST = 60


class Fault(Struct, frozen=True):
    """Something wrong at a place: `found` is what stands there, as far as it may be shown."""

    path: Path
    text: str
    found: str = ""


class Place(Struct, frozen=True):
    """A value and the way to it from the top of the file."""

    value: object
    path: Path = ()

    def at(self, name: str) -> "Place":
        """The entry of this table; None where there is none."""
        value = self.value.get(name) if isinstance(self.value, dict) else None
        return Place(value, (*self.path, name))

    def each(self) -> "Iterator[Place]":
        """The entries of this list or table; nothing for anything else."""
        if isinstance(self.value, dict):
            yield from (Place(value, (*self.path, key)) for key, value in self.value.items())
        if isinstance(self.value, list):
            yield from (Place(value, (*self.path, i)) for i, value in enumerate(self.value))

    @property
    def there(self) -> bool:
        return self.value is not None

    @property
    def table(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def text(self) -> str | None:
        return self.value if isinstance(self.value, str) else None

    @property
    def id(self) -> int | None:
        """An agent's id, if this can be one."""
        value = self.value
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID:
            return value
        return None

    @property
    def shown(self) -> str:
        """What stands here, as far as it may be shown; `""` where nothing may."""
        if _HIDDEN.intersection(self.path):
            return ""
        return show(self.value)


def follow(top: object, path: Path) -> Place:
    """The place that the path leads to, there or not."""
    value = top
    for step in path:
        entries = dict(enumerate(value)) if isinstance(value, list) else value
        value = entries.get(step) if isinstance(entries, dict) else None
    return Place(value, path)


def show(value: object) -> str:
    """A value in a message: short, on one line, and nothing that looks like a secret."""
    match value:
        case str():
            return "" if _SECRET_LOOKS.match(value) else quoted(value)
        case bool():
            return str(value).lower()
        case int() if abs(value) > MAX_ID:
            return "a number out of range"  # and Python refuses to write the longest
        case int() | float() | date() | time():
            return str(value)
        case dict() | list():
            noun = "table" if isinstance(value, dict) else "list"
            return f"a {noun}" if value else f"an empty {noun}"
        case _:
            return ""


def quoted(text: str) -> str:
    """Text in quotes, on one line, cut where it is long."""
    cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return json.dumps(cut).decode()


def written(top: object, path: Path) -> str:
    """The path as a person writes it, with the name of the agent or key that it leads into.

    `agents[0].targets[1].upstream (agent 123 "Support")`
    """
    text = ""
    for part in path[:_MAX_DEPTH]:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}"
    return (text + _owner(top, path)).removeprefix(".")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else quoted(name)


def _owner(top: object, path: Path) -> str:
    match path[:2]:
        case ("agents", int(index)):
            agent = _entry(top, "agents", index)
            known = [show(agent.at("id").id), show(agent.at("name").text)]
            noun = "agent"
        case ("keys", int(index)):
            known = [show(_entry(top, "keys", index).at("id").text).strip('"')]
            noun = "key"
        case _:
            return ""
    words = " ".join([noun, *filter(None, known)])
    return f" ({words})" if any(known) else ""


def _entry(top: object, name: str, index: int) -> Place:
    entries = Place(top).at(name).value
    return Place(entries[index] if isinstance(entries, list) else None)


def position(top: object, path: Path) -> tuple[int, ...]:
    """Where in the file the path is, to sort by: problems read from top to bottom."""
    found: list[int] = []
    value = top
    for part in path:
        if isinstance(value, dict):
            names = list(value)
            found.append(names.index(part) if part in names else len(names))
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            found.append(part)
            value = value[part] if part < len(value) else None
    return tuple(found)
