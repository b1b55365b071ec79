"""Who has taken how much: what a limiter does, wherever it keeps it.

A subject is text that its callers choose: a key's id, or an agent and a client's address.
"""

from contextlib import AbstractContextManager
from typing import Protocol

from gateway.config.values import Rate
from gateway.core.errors import ErrorCode, GatewayError
from gateway.limits.bucket import Decision

# A public agent is limited per client address, and IPv6 has enough of those to fill any memory.
MAX_SUBJECTS = 100_000

# Nobody knows when a turn will end; a second is the shortest wait that Retry-After can say.
SLOT_RETRY = 1.0


class Limiter(Protocol):
    """Token buckets and slots, by subject.

    One thread takes; any may ask, for asking changes nothing and waits for nobody.
    """

    @property
    def subjects(self) -> int:
        """How many buckets are kept."""
        ...

    @property
    def busy(self) -> int:
        """How many subjects hold a slot."""
        ...

    def take(self, subject: str, rate: Rate, now: float) -> Decision:
        """Take one token; `now` is monotonic seconds. The caller looks at `allowed`."""
        ...

    def look(self, subject: str, rate: Rate, now: float) -> Decision:
        """What a take would meet."""
        ...

    def held(self, subject: str) -> int:
        """How many slots it has now."""
        ...

    def slot(self, subject: str, limit: int | None) -> AbstractContextManager[None]:
        """One of `limit` slots, held by a `with` however it ends. None: as many as are asked for.

        Those count too: a limit that a reload brings knows of the turns that are open. Entering
        raises `GatewayError(RATE_LIMITED)` when all are taken.
        """
        ...


def all_taken(limit: int) -> GatewayError:
    """The refusal of one more turn at once."""
    return GatewayError(
        ErrorCode.RATE_LIMITED,
        f"too many turns at once, at most {limit} may be open: wait for one to end",
        retry_after=SLOT_RETRY,
    )
