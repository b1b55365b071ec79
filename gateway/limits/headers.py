"""A decision in the words of HTTP.

`X-RateLimit-*` is what Bookbag's and Chatbase's clients read; `RateLimit-Policy` and `RateLimit`
are the IETF's (draft-ietf-httpapi-ratelimit-headers). All seconds are whole and rounded up: a
client that waits so long is not too early.
"""

from math import ceil

from gateway.config.values import Rate
from gateway.limits.bucket import Decision


def headers(decision: Decision, tier_name: str, rate: Rate, wall_now: float) -> dict[str, str]:
    """The headers of every answer to a request that was counted.

    `wall_now` is Unix seconds. `tier_name` needs no escaping: the config lets none have a quote.
    """
    _, limit, remaining, _, reset_after = decision
    capacity, period = rate
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(ceil(wall_now + reset_after)),
        "RateLimit-Policy": f'"{tier_name}";q={capacity};w={ceil(period)}',
        "RateLimit": f'"{tier_name}";r={remaining};t={ceil(reset_after)}',
    }


def retry_after(seconds: float) -> str:
    """The value of `Retry-After`: at least 1, for "0" has clients come back in a loop."""
    return str(max(1, ceil(seconds)))
