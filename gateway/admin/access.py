"""Who may ask the admin listener for more than metrics and health.

With a token: who has it. Without one: who is on this machine, and only where the listener is on its
loopback address. Then nobody else reaches it but the pages in browsers here, which are told from
people by what browsers say of them.
"""

import hmac
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from gateway.observe.logs import Logger
from gateway.wire import json

OPEN = ("/metrics", "/healthz", "/readyz")
"""What whoever reaches the listener may ask: scrapers and orchestrators bring no token."""

_NO_PAGES = "pages in browsers are not answered here"
_REACHABLE = (
    "other machines reach this address: all but /metrics, /healthz and /readyz needs [admin] token"
    " in the configuration"
)
_OTHER_NAME = (
    "ask this listener by its IP address or as localhost, or set [admin] token in the configuration"
)
_UNPROVEN = "this needs [admin] token of the configuration: 'Authorization: Bearer ...'"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def guard(token: Callable[[], str | None], host: str) -> Middleware:
    """Lets requests through to what listens at `host`. The token is asked for with each of them: a
    reload may change it."""
    apart = is_loopback(host)

    @web.middleware
    async def guarded(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        return _refusal(request, token(), apart=apart) or await handler(request)

    return guarded


def warn(host: str, token: str | None, logger: Logger) -> None:
    """Of a listener at `host` that other machines reach."""
    if token is None and not is_loopback(host):
        logger.warning("admin_without_token", host=host, answered=OPEN)


def refused(status: int, code: str, message: str) -> web.Response:
    """An error, as all of this listener's are."""
    body = json.dumps({"error": {"code": code, "message": message}})
    return web.Response(status=status, body=body + b"\n", content_type="application/json")


def _refusal(request: web.Request, token: str | None, *, apart: bool) -> web.Response | None:
    """None if it may pass."""
    if hdrs.ORIGIN in request.headers:
        return refused(403, "forbidden", _NO_PAGES)
    if token is not None:
        return None if _bears(request, token) else _unauthorized()
    if not apart:
        return refused(403, "forbidden", _REACHABLE)
    return None if _names_us(request) else refused(403, "forbidden", _OTHER_NAME)


def _unauthorized() -> web.Response:
    response = refused(401, "unauthorized", _UNPROVEN)
    response.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="oc-gateway admin"'
    return response


def _bears(request: web.Request, token: str) -> bool:
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    # As bytes: text is only compared if it is ASCII.
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


def _names_us(request: web.Request) -> bool:
    """Whether the request is for an address, or for this machine: a page that had its own name lead
    here (DNS rebinding) says that name."""
    try:
        host = urlsplit(f"//{request.headers.get(hdrs.HOST, '')}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
