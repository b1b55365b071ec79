"""The limiter of a gateway that is several processes: what one has given, the others know of."""

from gateway.config.values import Rate
from gateway.core.errors import ErrorCode, GatewayError
from gateway.limits.bucket import Decision, look, take
from gateway.limits.layout import Place
from gateway.limits.limiter import SLOT_RETRY, all_taken
from gateway.limits.zone import Zone


class SharedLimiter:
    """A `Limiter` over a zone. If nobody else can be remembered, for all that might be forgotten
    hold slots, a newcomer's take and slot raise `GatewayError(UNAVAILABLE)`."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    @property
    def subjects(self) -> int:
        return self._zone.subjects

    @property
    def busy(self) -> int:
        return self._zone.busy

    def take(self, subject: str, rate: Rate, now: float) -> Decision:
        zone = self._zone
        place = zone.place(subject)
        # A signal may raise between any two steps, so the lock is taken within.
        try:
            zone.lock(place.stripe)
            record = _record(zone, place)
            state, decision = take(zone.read(record), rate, now)
            zone.write(record, state)
        finally:
            zone.unlock(place.stripe)
        return decision

    def look(self, subject: str, rate: Rate, now: float) -> Decision:
        record = self._zone.find(self._zone.place(subject))
        return look(None if record is None else self._zone.read(record), rate, now)

    def held(self, subject: str) -> int:
        record = self._zone.find(self._zone.place(subject))
        return 0 if record is None else self._zone.held(record)

    def slot(self, subject: str, limit: int | None) -> "SharedSlot":
        return SharedSlot(self._zone, subject, limit)


class SharedSlot:
    """See `Limiter.slot`."""

    __slots__ = ("_limit", "_record", "_subject", "_zone")

    def __init__(self, zone: Zone, subject: str, limit: int | None) -> None:
        self._zone = zone
        self._subject = subject
        self._limit = limit

    def __enter__(self) -> None:
        zone, limit = self._zone, self._limit
        place = zone.place(self._subject)
        try:
            zone.lock(place.stripe)
            # While a slot is held, the record stays the subject's.
            self._record = _record(zone, place)
            if limit is not None and zone.held(self._record) >= limit:
                raise all_taken(limit)
            zone.hold(self._record)
        finally:
            zone.unlock(place.stripe)

    def __exit__(self, *_: object) -> None:
        self._zone.let_go(self._record)


def _record(zone: Zone, place: Place) -> int:
    """The subject's, or a new one."""
    record = zone.find(place)
    if record is None:
        record = zone.add(place)
    if record is None:
        raise GatewayError(
            ErrorCode.UNAVAILABLE,
            "too many clients have turns open: please try again later",
            retry_after=SLOT_RETRY,
        )
    return record
