"""Who has taken how much, in bounded memory: one limiter for the whole process.

A subject is text that its callers choose: a key's id, or an agent and a client's address.
"""

from collections import OrderedDict

from gateway.config.values import Rate
from gateway.core.errors import ErrorCode, GatewayError
from gateway.limits.bucket import Decision, State, look, take

# A public agent is limited per client address, and IPv6 has enough of those to fill any memory.
# A bucket takes about 300 bytes.
MAX_SUBJECTS = 100_000

# How many buckets a newcomer may look at to find a full one: it bounds the work of each take.
_TRIES = 8

# Nobody knows when a turn will end; a second is the shortest wait that Retry-After can say.
_SLOT_RETRY = 1.0


class Limiter:
    """Token buckets and slots, by subject."""

    def __init__(self, *, max_subjects: int = MAX_SUBJECTS) -> None:
        self._max_subjects = max_subjects
        self._buckets: OrderedDict[str, State] = OrderedDict()
        """In the order of their last use."""
        self._slots: dict[str, int] = {}

    @property
    def subjects(self) -> int:
        """How many buckets are kept."""
        return len(self._buckets)

    @property
    def busy(self) -> int:
        """How many subjects hold a slot."""
        return len(self._slots)

    def take(self, subject: str, rate: Rate, now: float) -> Decision:
        """Take one token; `now` is monotonic seconds. The caller looks at `allowed`."""
        kept = self._buckets.get(subject)
        if kept is None and len(self._buckets) >= self._max_subjects:
            self._make_room(now)
        self._buckets[subject], decision = take(kept, rate, now)
        if kept is not None:
            self._buckets.move_to_end(subject)
        return decision

    def look(self, subject: str, rate: Rate, now: float) -> Decision:
        """What a take would meet."""
        return look(self._buckets.get(subject), rate, now)

    def held(self, subject: str) -> int:
        """How many slots it has now."""
        return self._slots.get(subject, 0)

    def slot(self, subject: str, limit: int | None) -> "Slot":
        """One of `limit` slots, held by a `with` however it ends. None: as many as are asked for.

        Those count too: a limit that a reload brings knows of the turns that are open. Entering
        raises `GatewayError(RATE_LIMITED)` when all are taken.
        """
        return Slot(self._slots, subject, limit)

    def _make_room(self, now: float) -> None:
        """Forget one bucket: a full one of the least recently used, else simply the next.

        To forget a drained bucket is to fill it. A flood of new addresses should not free those
        that are refused, so a bucket that is not full yet goes back to the end of the queue.
        """
        for _ in range(_TRIES):
            subject, state = self._buckets.popitem(last=False)
            if state.full_at <= now:
                return
            self._buckets[subject] = state
        self._buckets.popitem(last=False)


class Slot:
    """See `Limiter.slot`."""

    __slots__ = ("_limit", "_subject", "_taken")

    def __init__(self, taken: dict[str, int], subject: str, limit: int | None) -> None:
        self._taken = taken
        self._subject = subject
        self._limit = limit

    def __enter__(self) -> None:
        taken = self._taken.get(self._subject, 0)
        if self._limit is not None and taken >= self._limit:
            raise GatewayError(
                ErrorCode.RATE_LIMITED,
                f"too many turns at once, at most {self._limit} may be open: wait for one to end",
                retry_after=_SLOT_RETRY,
            )
        self._taken[self._subject] = taken + 1

    def __exit__(self, *_: object) -> None:
        left = self._taken[self._subject] - 1
        if left:
            self._taken[self._subject] = left
        else:
            del self._taken[self._subject]
