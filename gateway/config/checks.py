"""What several fields, or several tables, must say together.

Each check reads the raw file, so that what is wrong elsewhere does not hide what it would find.
"""

from collections.abc import Callable, Iterator

from gateway.config.attempts import attempts
from gateway.config.kinds import kinds
from gateway.config.mounts import mounts
from gateway.config.passthrough import passthrough
from gateway.config.place import Fault, Place, quoted
from gateway.config.processes import processes

Check = Callable[[Place], Iterator[Fault]]

# What only these stores know, by the scheme of their URLs.
_POSTGRES = ("postgresql", "postgres")
_ONLY = {"max_size": ("memory",), "password": _POSTGRES, "max_connections": _POSTGRES}
_SCHEMES = ("memory", "sqlite", *_POSTGRES)


def faults(data: object) -> list[Fault]:
    """Everything that does not fit together."""
    top = Place(data)
    return [fault for check in _CHECKS for fault in check(top)]


def _store(top: Place) -> Iterator[Fault]:
    store = top.at("store")
    scheme = (store.at("url").text or "sqlite").partition(":")[0]
    for name, schemes in _ONLY.items():
        if store.at(name).there and scheme in _SCHEMES and scheme not in schemes:
            said = f"has no meaning for {scheme}, only for {schemes[0]}: leave it out"
            yield Fault(store.at(name).path, said)


def _targets(top: Place) -> Iterator[Fault]:
    known = _names(top.at("upstreams"))
    for agent in top.at("agents").each():
        for target in agent.at("targets").each():
            yield from _dangling(target.at("upstream"), known, "an upstream")


def _tiers(top: Place) -> Iterator[Fault]:
    known = _names(top.at("limits").at("tiers"))
    for key in top.at("keys").each():
        yield from _dangling(key.at("tier"), known, "a tier")
    for agent in top.at("agents").each():
        yield from _dangling(agent.at("public").at("tier"), known, "a tier")


def _names(table: Place) -> list[str] | None:
    """What may be referred to; None where the table is so wrong that nobody knows."""
    if table.there and not table.table:
        return None
    return [str(entry.path[-1]) for entry in table.each()]


def _dangling(name: Place, known: list[str] | None, noun: str) -> Iterator[Fault]:
    if known is not None and name.text is not None and name.text not in known:
        there = f": {' or '.join(map(quoted, known))}" if known else ", but there is none"
        yield Fault(name.path, f"expected {noun} of this file{there}", name.shown)


def _agent_ids(top: Place) -> Iterator[Fault]:
    seen: set[int] = set()
    for agent in top.at("agents").each():
        place = agent.at("id")
        if place.id in seen:
            yield Fault(place.path, f"{place.id} is the id of another agent already")
        seen |= {place.id} if place.id else set()


def _agent_names(top: Place) -> Iterator[Fault]:
    """Clients name an agent by id, name or alias, all compared as text."""
    taken: dict[tuple[str, str], Place] = {}
    agents = [(a.at("workspace").text or "", a) for a in top.at("agents").each()]
    for workspace, agent in agents:
        if agent.at("id").id:
            taken.setdefault((workspace, str(agent.at("id").id)), agent)
    for workspace, agent in agents:
        for name in (agent.at("name"), *agent.at("aliases").each()):
            owner = taken.setdefault((workspace, name.text), agent) if name.text else agent
            if workspace and owner.path != agent.path:
                said = f"names {_agent(owner)} of the same workspace already"
                yield Fault(name.path, f"{name.shown} {said}".strip())


def _agent(place: Place) -> str:
    return f"agent {place.at('id').id}" if place.at("id").id else "another agent"


def _tools(top: Place) -> Iterator[Fault]:
    for agent in top.at("agents").each():
        names = [tool.at("name") for tool in agent.at("tools").each()]
        yield from _repeated(names, "is the name of another tool of this agent already")


def _key_agents(top: Place) -> Iterator[Fault]:
    known = {(agent.at("workspace").text, agent.at("id").id) for agent in top.at("agents").each()}
    if not known or any(None in pair for pair in known):
        return  # nobody knows yet which agents there are
    for key in top.at("keys").each():
        workspace = key.at("workspace").text
        for agent in key.at("agents").each():
            if workspace is not None and agent.id and (workspace, agent.id) not in known:
                said = f"expected the id of an agent of workspace {quoted(workspace)}"
                yield Fault(agent.path, said, agent.shown)


def _key_hashes(top: Place) -> Iterator[Fault]:
    hashes = [key.at("hash") for key in top.at("keys").each()]
    yield from _repeated(hashes, "the hash of another entry already: one key, one entry")


def _signing_ids(top: Place) -> Iterator[Fault]:
    ids = [key.at("id") for key in top.at("auth").at("signing_keys").each()]
    yield from _repeated(ids, "is the id of another signing key already")


def _repeated(places: list[Place], said: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for place in places:
        if place.text in seen:
            yield Fault(place.path, f"{place.shown} {said}".strip())
        seen |= {place.text} if place.text is not None else set()


def _signing_materials(top: Place) -> Iterator[Fault]:
    for key in top.at("auth").at("signing_keys").each():
        algorithm = key.at("algorithm").text
        if algorithm is None:
            continue
        wanted, other = "public_key", "secret"
        if algorithm == "HS256":
            wanted, other = other, wanted
        if not key.at(wanted).there:
            yield Fault(key.at(wanted).path, f"is missing: {quoted(algorithm)} needs it")
        if key.at(other).there:
            yield Fault(key.at(other).path, f"is not for {quoted(algorithm)}: leave it out")


def _key_sets(top: Place) -> Iterator[Fault]:
    for jwks in top.at("auth").at("jwks").each():
        if jwks.table and jwks.at("url").there == jwks.at("file").there:
            yield Fault(jwks.path, "expected exactly one of `url` and `file`")


_CHECKS: tuple[Check, ...] = (
    mounts,
    processes,
    _store,
    kinds,
    passthrough,
    _targets,
    attempts,
    _tiers,
    _agent_ids,
    _agent_names,
    _tools,
    _key_agents,
    _key_hashes,
    _signing_ids,
    _signing_materials,
    _key_sets,
)
