"""In which order an agent's targets are asked."""

import math
from collections.abc import Sequence
from hashlib import blake2b

from gateway.config.routes import RouteTarget

_DRAWS = 1 << 64


def in_order(targets: Sequence[RouteTarget], affinity: str) -> Sequence[RouteTarget]:
    """As the file has them; those with weights as chance has it, each first as often as its weight
    says.

    The chance is that of `affinity`, the conversation: it always meets the same target first, which
    knows it, or has its beginning cached (weighted rendezvous hashing).
    """
    if targets[0].weight is None:
        return targets
    scored = [
        (_score(target, affinity, _before(targets, place)), place)
        for place, target in enumerate(targets)
    ]
    return [targets[place] for _, place in sorted(scored)]


def _before(targets: Sequence[RouteTarget], place: int) -> int:
    """How many of its name stand before it, with other params, say: each has its own chance."""
    return [target.name for target in targets[:place]].count(targets[place].name)


def _score(target: RouteTarget, affinity: str, which: int) -> float:
    assert target.weight is not None
    digest = blake2b(f"{affinity}\0{target.name}\0{which}".encode(), digest_size=8).digest()
    drawn = (int.from_bytes(digest) + 1) / _DRAWS
    return -math.log(drawn) / target.weight
