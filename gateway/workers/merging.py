"""What several workers said of themselves, as one."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.core.events import Json
from gateway.targets.breaker import State
from gateway.wire.json import array, mapping, text

Document = dict[str, Json]
Said = Mapping[int, Document]
"""By the worker's number."""

# Of what each of them lists, so many: as a single process does.
_OLDEST, _LAST_ERRORS = 200, 100

_WORST_FIRST = (State.OPEN, State.HALF_OPEN, State.CLOSED)


def merged_status(said: Said) -> Document:
    """What `/status` says of all of them, but for what is the supervisor's to say."""
    all_said = list(said.values())
    requests = {number: mapping(document.get("requests")) for number, document in said.items()}
    limits = [mapping(document.get("limits")) for document in all_said]
    return {
        "config": _config([mapping(document.get("config")) for document in all_said]),
        "agents": _by("id", "agents", all_said, _agent),
        "targets": _by("target", "targets", all_said, _target),
        "upstreams": _by("upstream", "upstreams", all_said, _upstream),
        "requests": {
            "open": _sum(requests.values(), "open"),
            "oldest": _listed("oldest", requests, "age")[:_OLDEST],
        },
        # Each sees the whole zone that they share.
        "limits": {
            name: max((_number(each, name) for each in limits), default=0)
            for name in ("buckets", "with_open_turns")
        },
        "recent_errors": _listed("recent_errors", said, "at")[:_LAST_ERRORS],
    }


def merged_request(said: Said) -> Document | None:
    """What is known of the requests of one id; None: nothing."""
    first: Document = next(iter(said.values()), {})
    if not first:
        return None
    return {
        "request_id": first.get("request_id"),
        "open": _listed("open", said, "age"),
        "failed": _listed("failed", said, "at"),
    }


def merged_tasks(said: Said) -> Document:
    return {
        "total": _sum(said.values(), "total"),
        "workers": [{"worker": number, **document} for number, document in said.items()],
    }


def _config(configs: Sequence[Document]) -> Document:
    """The newest that is in force in one of them, and whether it is in all of them."""
    newest = max(configs, key=lambda config: text(config.get("read")), default={})
    same = all(config.get("digest") == newest.get("digest") for config in configs)
    return {**newest, "in_all_workers": same}


def _by(
    key: str,
    part: str,
    all_said: Sequence[Document],
    merge: Callable[[Sequence[Document]], Document],
) -> list[Json]:
    """The entries of the same name, merged; in the order of whoever names them first."""
    found: dict[Json, list[Document]] = {}
    for document in all_said:
        for entry in map(mapping, array(document.get(part))):
            found.setdefault(entry.get(key), []).append(entry)
    return [merge(entries) for entries in found.values()]


def _agent(entries: Sequence[Document]) -> Document:
    outcomes: Counter[str] = Counter()
    for entry in entries:
        for outcome, turns in mapping(entry.get("outcomes")).items():
            outcomes[outcome] += int(turns) if isinstance(turns, int) else 0
    return {
        **entries[0],
        **{name: _sum(entries, name) for name in ("open_turns", "turns", "failed")},
        "outcomes": dict(outcomes),
    }


def _target(entries: Sequence[Document]) -> Document:
    """The breaker is the worst of them; in how many it is so, `breakers` says."""
    states = Counter(text(entry.get("breaker")) for entry in entries)
    worst = next((state for state in _WORST_FIRST if states[state]), "")
    waits = [_number(entry, "half_open_in") for entry in entries if "half_open_in" in entry]
    limits = [entry for entry in entries if entry.get("max_streams") is not None]
    said: Document = {
        **entries[0],
        "breaker": worst,
        "breakers": {state: count for state, count in states.items() if state},
        **{name: _sum(entries, name) for name in ("opened", "streams", "queue")},
        "max_streams": _sum(limits, "max_streams") if limits else None,
    }
    if waits:
        said["half_open_in"] = min(waits)
    return said


def _upstream(entries: Sequence[Document]) -> Document:
    said: Document = {**entries[0]}
    if any(entry.get("healthy") is False for entry in entries):
        said["healthy"] = False
    connections = [mapping(entry.get("connections")) for entry in entries]
    if any(connections):
        said["connections"] = {name: _sum(connections, name) for name in ("active", "idle")}
    return said


def _listed(part: str, said: Said, by: str) -> list[Json]:
    """The entries of all lists, each with its worker: those with the most of `by` first."""
    entries: list[Document] = [
        {"worker": number, **mapping(entry)}
        for number, document in said.items()
        for entry in array(document.get(part))
    ]
    entries.sort(key=lambda entry: _order(entry.get(by)), reverse=True)
    return [*entries]


def _order(value: Json) -> tuple[float, str]:
    return (value, "") if isinstance(value, (int, float)) else (0.0, text(value))


def _sum(entries: Iterable[Document], name: str) -> float:
    return sum(_number(entry, name) for entry in entries)


def _number(entry: Document, name: str) -> float:
    value = entry.get(name)
    return value if isinstance(value, (int, float)) else 0
