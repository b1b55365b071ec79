"""Whether, and after how long, the same target is asked once more."""

from collections.abc import Callable

from gateway.config.routes import RouteTarget
from gateway.core.errors import ErrorCode, GatewayError

# Of the turns that a target has, the share that may be a second try: more would multiply an outage.
# A few may be so however little there is to do, as in Envoy's retry budget.
_SHARE = 0.2
_AT_LEAST = 3

# Seconds before the first retry, twice as long before each further one, up to the longest; each is
# drawn from the upper half, so that a crowd that failed together does not come back together.
_FIRST = 0.1
_LONGEST = 2.0

# The upstream has not seen the request.
_NOT_SENT = frozenset({ErrorCode.UPSTREAM_UNREACHABLE, ErrorCode.CONNECT_TIMEOUT})

# The upstream, or a proxy before it, says that it did not serve it.
_TURNED_AWAY = frozenset({429, 503, 529})
# A proxy says so, and the upstream behind it may have taken the question into a conversation.
_UNKNOWN = frozenset({502, 504})

# It was sent, and nobody knows what became of it.
_PERHAPS_RUN = frozenset({ErrorCode.UPSTREAM_TRUNCATED, ErrorCode.FIRST_EVENT_TIMEOUT})


def wait(
    error: GatewayError, target: RouteTarget, retried: int, draw: Callable[[], float]
) -> float | None:
    """Seconds until the target is asked again; None if it is not. `draw` gives a random number from
    0 to 1."""
    settings = target.upstream
    if retried >= settings.retries or not _may_be_repeated(error, target):
        return None
    longest: float = min(_LONGEST, _FIRST * 2**retried)
    backoff = longest * (1 + draw()) / 2
    if error.retry_after is None:
        return backoff
    if error.retry_after > settings.max_retry_wait:
        return None
    return max(error.retry_after, backoff)


def _may_be_repeated(error: GatewayError, target: RouteTarget) -> bool:
    if error.code is ErrorCode.UPSTREAM_CREDITS:
        return False  # whatever its status: OpenAI's is 429
    if error.code in _NOT_SENT or error.upstream_status in _TURNED_AWAY:
        return True
    if error.upstream_status in _UNKNOWN:
        return target.upstream.retry_after_send or not target.kind.stateful
    return target.upstream.retry_after_send and (
        error.upstream_status == 500 or error.code in _PERHAPS_RUN
    )


class Budget:
    """How many retries a target may have open, by how many turns it has."""

    def __init__(self) -> None:
        self.retrying = 0

    def allows(self, turns: int) -> bool:
        return self.retrying < max(_AT_LEAST, _SHARE * turns)

    def __enter__(self) -> None:
        """One more, to the end of the block."""
        self.retrying += 1

    def __exit__(self, *_: object) -> None:
        self.retrying -= 1
