"""Cross-origin requests of browser widgets (Fetch standard, "CORS protocol").

A preflight cannot say which agent it is for: it is answered for every origin that some public
agent allows, and the agent's own list is checked with the request itself.
"""

from collections.abc import Container, Mapping

from aiohttp import hdrs, web

# How long a browser may remember a preflight; Chromium allows two hours at most.
_MAX_AGE = "7200"

VARY: Mapping[str, str] = {hdrs.VARY: hdrs.ORIGIN}
"""What every response carries, for caches on the way."""

_EXPOSED = (
    "X-Request-Id, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    "RateLimit, RateLimit-Policy, X-Session-ID, X-Resumable, X-Conversation-Id"
)


def cors_headers(origin: str | None, allowed: Container[str]) -> dict[str, str]:
    """What a response to this origin carries."""
    headers = dict(VARY)
    # What no browser writes may be no text at all, and could not be sent back.
    if origin is not None and origin.isascii() and origin in allowed:
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED
    return headers


def is_preflight(request: web.Request) -> bool:
    return (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ORIGIN in request.headers
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    )


def preflight(methods: str) -> web.Response:
    """The answer to a preflight; without the origin's own header it is a refusal."""
    return web.Response(
        status=204,
        headers={
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: methods,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: (
                "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, "
                "Tracestate, X-Agent-Identifier, X-Request-Id, X-Resumable"
            ),
            hdrs.ACCESS_CONTROL_MAX_AGE: _MAX_AGE,
        },
    )
