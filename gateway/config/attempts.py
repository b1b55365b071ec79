"""What an agent's targets, and its ways of asking them, must say together."""

from collections.abc import Iterator

from gateway.config.place import Fault, Place

# Asked twice, these would have the question in a conversation twice.
_HOSTED = ("bookbag", "chatbase", "sonzai", "agentsgt")


def attempts(top: Place) -> Iterator[Fault]:
    """Weights that not every target has, and ways of asking that the targets do not bear."""
    for agent in top.at("agents").each():
        targets = list(agent.at("targets").each())
        yield from _weights(targets)
        yield from _hedged(top, agent, targets)
        yield from _kept(agent)


def _weights(targets: list[Place]) -> Iterator[Fault]:
    if any(target.at("weight").there for target in targets):
        for target in targets:
            if target.table and not target.at("weight").there:
                said = "is missing: every target of the agent has a weight, or none has"
                yield Fault(target.at("weight").path, said)


def _hedged(top: Place, agent: Place, targets: list[Place]) -> Iterator[Fault]:
    place = agent.at("hedge_after")
    if not place.there:
        return
    if len(targets) == 1:
        yield Fault(place.path, "has no meaning for one target: there is no other one to ask")
    for target in targets:
        name = target.at("upstream").text
        kind = top.at("upstreams").at(name).at("kind").text if name is not None else None
        if kind in _HOSTED:
            said = f'is not for targets of kind "{kind}": both would have the question'
            yield Fault(place.path, said)
            return


def _kept(agent: Place) -> Iterator[Fault]:
    passed = agent.at("conversations").text == "passthrough"
    if passed and agent.at("on_disconnect").text == "keep":
        said = '"keep" is not for passthrough: nobody knows what a client would come back to'
        yield Fault(agent.at("on_disconnect").path, said)
