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
    return sorted(targets, key=lambda target: _score(target, affinity))


def _score(target: RouteTarget, affinity: str) -> float:
    assert target.weight is not None
    digest = blake2b(f"{affinity}\0{target.name}".encode(), digest_size=8).digest()
    drawn = (int.from_bytes(digest) + 1) / _DRAWS
    return -math.log(drawn) / target.weight
