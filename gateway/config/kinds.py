"""What each kind of upstream needs, and what has no meaning for it."""

from collections.abc import Iterator

from gateway.config.place import Fault, Place

# Agents are hosted at these; openai's are models.
_HOSTED = ("bookbag", "chatbase", "sonzai", "agentsgt")
REMOTE = ("openai", *_HOSTED)
EMBEDDED = ("echo", "replay")

# The field that a kind cannot do without, of the upstream and of each of its targets.
_NEEDED = {**dict.fromkeys(REMOTE, "base_url"), "replay": "file"}
_NEEDED_OF_TARGETS = {"openai": "model", **dict.fromkeys(_HOSTED, "agent")}

# The fields that only these kinds know.
_ONLY = {
    "api": ("bookbag",),
    "base_url": REMOTE,
    "credential": REMOTE,
    "credential_header": REMOTE,
    "headers": REMOTE,
    "health": REMOTE,
    "file": ("replay",),
}
_ONLY_OF_TARGETS = {"agent": _HOSTED, "params": REMOTE}


def kinds(top: Place) -> Iterator[Fault]:
    """Every upstream and target against its kind."""
    for upstream in top.at("upstreams").each():
        kind = upstream.at("kind").text
        if kind in REMOTE + EMBEDDED:
            yield from _needed(upstream, kind, _NEEDED)
            yield from _meaningless(upstream, kind, _ONLY)
            yield from _address(upstream.at("base_url"), kind)
            yield from _credential_header(upstream)
    for agent in top.at("agents").each():
        for target in agent.at("targets").each():
            kind = _kind(top, target)
            if kind in REMOTE + EMBEDDED:
                yield from _needed(target, kind, _NEEDED_OF_TARGETS)
                yield from _meaningless(target, kind, _ONLY_OF_TARGETS)


def _kind(top: Place, target: Place) -> str | None:
    name = target.at("upstream").text
    return top.at("upstreams").at(name).at("kind").text if name is not None else None


def _needed(place: Place, kind: str, table: dict[str, str]) -> Iterator[Fault]:
    name = table.get(kind)
    if name is not None and not place.at(name).there:
        yield Fault(place.at(name).path, f'is missing: an upstream of kind "{kind}" needs it')


def _meaningless(place: Place, kind: str, table: dict[str, tuple[str, ...]]) -> Iterator[Fault]:
    for name, of in table.items():
        if place.at(name).there and kind not in of:
            said = f'has no meaning for kind "{kind}", only for {", ".join(of)}: leave it out'
            yield Fault(place.at(name).path, said)


def _address(place: Place, kind: str) -> Iterator[Fault]:
    """Their APIs are below `/api`; who copies the vendor's base with it would call them twice."""
    url = (place.text or "").rstrip("/")
    if kind in _HOSTED and url.endswith(("/api", "/api/v1", "/api/v2")):
        yield Fault(place.path, "expected the address without /api: the gateway adds it")


def _credential_header(upstream: Place) -> Iterator[Fault]:
    place = upstream.at("credential_header")
    if place.there and not upstream.at("credential").there:
        yield Fault(place.path, "has no meaning without `credential`, which is sent in it")
