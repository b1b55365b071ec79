"""The agents that a key may use, as clients that know models ask for them."""

from collections.abc import Callable

from aiohttp import web

from gateway.config.routes import Route
from gateway.core.codec import Dialect
from gateway.core.errors import GatewayError
from gateway.dialects import openai_models
from gateway.limits.limiter import Limiter
from gateway.observe.exchange import Exchange
from gateway.proxy.admission import Admission, Caller, check_agent
from gateway.proxy.call import Call
from gateway.proxy.passing import check_family
from gateway.proxy.snapshot import Snapshot


class ModelRequests:
    """Serves them."""

    def __init__(self, snapshot: Callable[[], Snapshot], limiter: Limiter) -> None:
        self._snapshot = snapshot
        self._admission = Admission(limiter)

    def serve(self, request: web.Request, dialect: Dialect, exchange: Exchange) -> web.Response:
        """All of them, or the one that the path names. Raises `GatewayError`."""
        call = Call(request, dialect, exchange, self._snapshot())
        caller = self._admission.by_key(call)
        name = request.match_info.get("model")
        body = _all(call, caller) if name is None else _one(call, caller, name)
        return web.Response(body=body, content_type="application/json")


def _all(call: Call, caller: Caller) -> bytes:
    workspace = caller.owner.workspace or ""
    routes = call.snapshot.routes.of_workspace(workspace)
    names = [route.name for route in routes if _may_chat(call.dialect, caller, route)]
    return openai_models.page(names, workspace)


def _one(call: Call, caller: Caller, name: str) -> bytes:
    route = call.snapshot.routes.find(name, caller.owner.workspace)
    call.exchange.agent = str(route.id)
    _check(call.dialect, caller, route)
    return openai_models.one(route.name, route.workspace)


def _may_chat(dialect: Dialect, caller: Caller, route: Route) -> bool:
    try:
        _check(dialect, caller, route)
    except GatewayError:
        return False
    return True


def _check(dialect: Dialect, caller: Caller, route: Route) -> None:
    check_agent(caller, route)
    if route.passthrough is not None:
        check_family(dialect, route)
