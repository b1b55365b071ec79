"""What `conversations = "passthrough"` asks of an agent: one upstream that keeps its conversations
itself, and nothing that the gateway could only do if it kept them.
"""

from collections.abc import Iterator

from gateway.config.place import Fault, Place, quoted
from gateway.dialects import DIALECTS
from gateway.upstreams import UPSTREAMS

_SAID = 'with conversations = "passthrough"'

# An upstream's `kind` in the file is the family of its protocol, for those that keep conversations.
_KINDS = sorted(
    {kind.family for kind in UPSTREAMS.values() if kind.stateful}
    & {dialect.family for dialect in DIALECTS.values()}
)

# The gateway adds nothing to what the upstream's own agent says and knows.
_MEANINGLESS = ("instructions", "history", "tools")

# Whose a conversation is only the upstream knows, and it sees one caller: the gateway. Who could
# name another visitor's conversation would get on with it.
_UNSAFE = ("public", "identity_secret")


def passthrough(top: Place) -> Iterator[Fault]:
    """Every agent whose conversations the upstream keeps."""
    for agent in top.at("agents").each():
        if agent.at("conversations").text == "passthrough":
            yield from _one_target(agent)
            yield from _fitting(top, agent)
            yield from _alone(top, agent)
            yield from _left_out(agent)


def _one_target(agent: Place) -> Iterator[Fault]:
    targets = list(agent.at("targets").each())
    if len(targets) > 1:
        said = f"expected exactly one {_SAID}: another one does not know the conversation"
        yield Fault(agent.at("targets").path, said, str(len(targets)))


def _fitting(top: Place, agent: Place) -> Iterator[Fault]:
    for target in agent.at("targets").each():
        name = target.at("upstream")
        kind = _upstream(top, target).at("kind").text
        if kind is not None and kind not in _KINDS:
            kinds = " or ".join(map(quoted, _KINDS))
            said = f"expected an upstream of kind {kinds} {_SAID}: clients see its own ids"
            yield Fault(name.path, said, name.shown)


def _alone(top: Place, agent: Place) -> Iterator[Fault]:
    """Two ways to one agent of an upstream are two keys to the same conversations."""
    others = [other for other in top.at("agents").each() if other.path != agent.path]
    taken = [_address(top, used) for other in others for used in other.at("targets").each()]
    for target in agent.at("targets").each():
        address = _address(top, target)
        if address is not None and address in taken:
            said = f"another agent of this file leads to it as well: {_SAID} it would show the"
            yield Fault(target.at("agent").path, f"{said} conversations of both to either")


def _left_out(agent: Place) -> Iterator[Fault]:
    for name in _MEANINGLESS:
        if agent.at(name).there:
            yield Fault(agent.at(name).path, f"has no meaning {_SAID}: leave it out")
    for name in _UNSAFE:
        if agent.at(name).there:
            said = f"cannot be {_SAID}: nothing tells one visitor's conversation from another's"
            yield Fault(agent.at(name).path, f"{said}, so leave it out")


def _upstream(top: Place, target: Place) -> Place:
    return top.at("upstreams").at(target.at("upstream").text or "")


def _address(top: Place, target: Place) -> tuple[str, str] | None:
    """Which agent of which upstream a target is; an upstream may be in the file twice."""
    url, agent = _upstream(top, target).at("base_url").text, target.at("agent").value
    if url is None or not isinstance(agent, (str, int)):
        return None
    return url.rstrip("/").lower(), str(agent)
