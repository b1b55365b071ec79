"""Whether each public path leads to one family of dialects, whatever the mounts."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from gateway.config.clients import Mounts
from gateway.config.place import Fault, Place
from gateway.core.codec import Dialect
from gateway.dialects import DIALECTS

# What stands for all that is behind an agent's own path.
_BEHIND = "{...}"


def mounts(top: Place) -> Iterator[Fault]:
    """Every two families of which one would take the other's requests."""
    table = top.at("server").at("mounts")
    prefixes: dict[str, str] = {
        family: default if (said := table.at(family).text) is None else said
        for family, default in Mounts().model_dump().items()
    }
    for one, other, path in clashes(prefixes, DIALECTS.values()):
        # The one that the file moved there.
        family = other if table.at(other).there else one
        place = table.at(family)
        said = f"{one} and {other} would both answer at {path}: give one of them another prefix"
        yield Fault(place.path, said, place.shown)


def clashes(
    prefixes: Mapping[str, str], dialects: Iterable[Dialect]
) -> Iterator[tuple[str, str, str]]:
    """Two families and a path that would be both's, for each such pair."""
    families: dict[str, list[Dialect]] = {}
    for dialect in dialects:
        families.setdefault(dialect.family, []).append(dialect)
    for one, other in combinations(families, 2):
        path = _shared(
            [path for d in families[one] for path in _paths(prefixes[one], d)],
            [path for d in families[other] for path in _paths(prefixes[other], d)],
        )
        if path is not None:
            yield one, other, path


def _paths(prefix: str, dialect: Dialect) -> Iterator[str]:
    """What it answers at, and where errors are in its words."""
    yield from (prefix + path for path in dialect.chats)
    if dialect.root is not None:
        yield f"{prefix}{dialect.root}/{_BEHIND}"
    yield prefix + dialect.beginning


def _shared(ones: list[str], others: list[str]) -> str | None:
    return next((one for one in ones for other in others if _same(one, other)), None)


def _same(one: str, other: str) -> bool:
    """Whether one request may fit both patterns."""
    left, right = one.split("/"), other.split("/")
    for a, b in zip(left, right, strict=False):
        if _BEHIND in (a, b):
            return True
        if a != b and not (a[:1] == "{" or b[:1] == "{"):
            return False
    return len(left) == len(right)
