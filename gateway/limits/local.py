"""The limiter of a gateway that is one process: buckets and slots in bounded memory of its own."""

from collections import OrderedDict

from gateway.config.values import Rate
from gateway.limits.bucket import Decision, State, look, take
from gateway.limits.limiter import MAX_SUBJECTS, all_taken

# How many buckets a newcomer may look at to find a full one: it bounds the work of each take.
_TRIES = 8


class LocalLimiter:
    """A `Limiter`. A bucket takes about 300 bytes."""

    def __init__(self, *, max_subjects: int = MAX_SUBJECTS) -> None:
        self._max_subjects = max_subjects
        self._buckets: OrderedDict[str, State] = OrderedDict()
        """In the order of their last use."""
        self._slots: dict[str, int] = {}

    @property
    def subjects(self) -> int:
        return len(self._buckets)

    @property
    def busy(self) -> int:
        return len(self._slots)

    def take(self, subject: str, rate: Rate, now: float) -> Decision:
        kept = self._buckets.get(subject)
        if kept is None and len(self._buckets) >= self._max_subjects:
            self._make_room(now)
        self._buckets[subject], decision = take(kept, rate, now)
        if kept is not None:
            self._buckets.move_to_end(subject)
        return decision

    def look(self, subject: str, rate: Rate, now: float) -> Decision:
        return look(self._buckets.get(subject), rate, now)

    def held(self, subject: str) -> int:
        return self._slots.get(subject, 0)

    def slot(self, subject: str, limit: int | None) -> "LocalSlot":
        return LocalSlot(self._slots, subject, limit)

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


class LocalSlot:
    """See `Limiter.slot`."""

    __slots__ = ("_limit", "_subject", "_taken")

    def __init__(self, taken: dict[str, int], subject: str, limit: int | None) -> None:
        self._taken = taken
        self._subject = subject
        self._limit = limit

    def __enter__(self) -> None:
        taken = self._taken.get(self._subject, 0)
        if self._limit is not None and taken >= self._limit:
            raise all_taken(self._limit)
        self._taken[self._subject] = taken + 1

    def __exit__(self, *_: object) -> None:
        left = self._taken[self._subject] - 1
        if left:
            self._taken[self._subject] = left
        else:
            del self._taken[self._subject]
