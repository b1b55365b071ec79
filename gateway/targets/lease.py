"""One turn's hold on a target: its slot, and what the breaker hears of it."""

import time
from collections.abc import Callable

from gateway.config.routes import RouteTarget
from gateway.core.errors import ErrorCode
from gateway.targets.states import TargetState

# The target answered, and the request was to blame.
_ALIVE = frozenset(
    {
        ErrorCode.UPSTREAM_REJECTED,
        ErrorCode.AGENT_NOT_FOUND,
        ErrorCode.CONVERSATION_NOT_FOUND,
        ErrorCode.CONVERSATION_BUSY,
        ErrorCode.MESSAGE_NOT_FOUND,
        ErrorCode.MESSAGE_NOT_ASSISTANT,
        ErrorCode.RETRY_MESSAGE_NOT_FOUND,
        ErrorCode.RETRY_NO_USER_MESSAGE,
        ErrorCode.TOOL_CALL_NOT_FOUND,
    }
)
# A credential that was refused will be refused.
_FOR_SURE = frozenset({ErrorCode.UPSTREAM_REFUSED})
# It was to blame. Whatever else there is says neither that it is well nor that it is not: that it
# has enough to do, that we have, or that the request was none.
_FAILED = _FOR_SURE | {
    ErrorCode.UPSTREAM_FAILED,
    ErrorCode.UPSTREAM_MALFORMED,
    ErrorCode.UPSTREAM_OVERSIZED,
    ErrorCode.UPSTREAM_TRUNCATED,
    ErrorCode.UPSTREAM_UNREACHABLE,
    ErrorCode.CONNECT_TIMEOUT,
    ErrorCode.FIRST_EVENT_TIMEOUT,
    ErrorCode.IDLE_TIMEOUT,
    ErrorCode.TOTAL_TIMEOUT,
}


class Lease:
    """Whoever holds it has taken the slot before, and ends it in any case."""

    __slots__ = ("_breaker", "_clock", "_held", "_probe", "_rules", "_state")

    def __init__(
        self,
        state: TargetState,
        target: RouteTarget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._breaker = state.breaker
        self._rules = target.upstream.breaker
        self._clock = clock
        self._probe = False
        self._held = True

    def ask(self) -> None:
        """The target is about to be asked, perhaps once more."""
        if not self._breaker.closed and not self._probe:
            self._probe = self._breaker.enter(self._clock())

    def answered(self) -> None:
        """The first content is here."""
        if self._probe:
            self._probe = False
            self._breaker.recovered()

    def finished(self) -> None:
        """The answer is complete."""
        self._breaker.succeeded(self._clock(), self._rules)

    def failed(self, code: ErrorCode) -> None:
        """There was no answer, or it broke off."""
        if code in _ALIVE:
            self.answered()
            self.finished()
        elif code in _FAILED:
            probe, self._probe = self._probe, False
            for_sure = code in _FOR_SURE
            self._breaker.failed(self._clock(), self._rules, probe=probe, for_sure=for_sure)
        else:
            self._let_go()

    def end(self) -> None:
        """The turn is over, however it went. Once is enough."""
        if self._held:
            self._held = False
            self._let_go()
            self._state.slots.give_back()

    def _let_go(self) -> None:
        if self._probe:
            self._probe = False
            self._breaker.let_go()
