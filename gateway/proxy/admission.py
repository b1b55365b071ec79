"""Who may ask what: keys, limits, scope, origins, identity.

The order is that of the errors: a key is known before anything is counted, and a request is counted
before its body is read, so that every authenticated response can say how many are left.
"""

import time
from ipaddress import IPv6Network

from aiohttp import hdrs
from msgspec.structs import replace

from gateway.auth.identity import identity_matches
from gateway.config.routes import Route
from gateway.conversations.access import Scope
from gateway.core.codec import Dialect
from gateway.core.conversation import Owner, Place
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import ChatRequest, Turn
from gateway.limits.headers import headers
from gateway.limits.limiter import Limiter
from gateway.proxy.call import Call
from gateway.proxy.caller import Caller as Caller
from gateway.proxy.snapshot import Snapshot

# In metrics, where only what the config names has a name of its own; no key there has such an id.
_SIGNED, _PUBLIC = "(signed)", "(public)"


class Admission:
    """Lets requests in, and counts them."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def by_key(self, call: Call) -> Caller:
        """Raises `GatewayError`: `KEY_MISSING`, `KEY_INVALID`, `KEY_EXPIRED`, `RATE_LIMITED`."""
        authorization = call.request.headers.get(hdrs.AUTHORIZATION)
        if authorization is not None and call.dialect.credential is not None:
            authorization = call.dialect.credential(authorization)
        exchange = call.exchange
        if exchange.trace.recorded:
            with exchange.trace.step("auth"):
                caller = _bearer(call.snapshot, authorization)
        else:
            caller = _bearer(call.snapshot, authorization)
        principal = caller.principal
        assert principal is not None
        exchange.key_id = principal.key_id
        exchange.workspace = principal.workspace
        exchange.counted_as = _SIGNED if principal.signed else principal.key_id
        self._take(call, caller)
        return caller

    def by_origin(self, call: Call, route: Route) -> Caller:
        """A public agent without a key, limited by the client's address. Raises `GatewayError`:
        `KEY_MISSING`, `FORBIDDEN`, `RATE_LIMITED`."""
        origin = call.request.headers.get(hdrs.ORIGIN)
        if route.public is None:
            raise GatewayError(
                ErrorCode.KEY_MISSING,
                "this agent needs an API key: send it as 'Authorization: Bearer oc_...'",
            )
        if not route.public.allows(origin):
            raise GatewayError(ErrorCode.FORBIDDEN, "this agent does not serve this origin")
        call.exchange.workspace, call.exchange.counted_as = route.workspace, _PUBLIC
        subject, name = f"address:{route.id}:{network(call.exchange.client)}", route.public.tier
        tier = call.snapshot.tiers[name]
        caller = Caller(Owner(None, origin), subject, name, tier.requests, tier.concurrency)
        self._take(call, caller)
        return caller

    def _take(self, call: Call, caller: Caller) -> None:
        name, rate = caller.tier_name, caller.rate
        call.exchange.tier = name
        decision = self._limiter.take(caller.subject, rate, time.monotonic())
        call.exchange.headers.update(headers(decision, name, rate, time.time()))
        if not decision.allowed:
            raise GatewayError(
                ErrorCode.RATE_LIMITED,
                "too many requests, please try again later",
                retry_after=decision.retry_after,
            )


def _bearer(snapshot: Snapshot, authorization: str | None) -> Caller:
    """Raises `GatewayError`: `KEY_MISSING`, `KEY_INVALID`, `KEY_EXPIRED`."""
    now, known = time.time(), snapshot.callers
    caller = known.get(authorization)
    if caller is not None:
        return caller
    principal = snapshot.keyring.authenticate(authorization, now)
    tier = snapshot.tiers[principal.tier]
    caller = Caller(
        Owner(principal.workspace),
        subject_of_key(principal.workspace, principal.key_id),
        principal.tier,
        tier.requests,
        tier.concurrency,
        principal,
    )
    # A key that can run out is looked at each time.
    if not principal.signed and principal.expires is None:
        known[authorization] = caller
    return caller


def subject_of_key(workspace: str, key_id: str) -> str:
    """The limiter's name for who has such a key."""
    return f"key:{workspace}:{key_id}"


def network(address: str) -> str:
    """The part of a client's address that it cannot choose: of IPv6, the first 64 bits."""
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def authorized(caller: Caller, route: Route, ask: ChatRequest, dialect: Dialect) -> ChatRequest:
    """The request as this caller may make it. Raises `GatewayError`: `FORBIDDEN`,
    `MODEL_NOT_ALLOWED`."""
    check_agent(caller, route)
    if ask.model is not None and ask.model not in route.allowed_models:
        raise GatewayError(ErrorCode.MODEL_NOT_ALLOWED, "this model is not allowed for this agent")
    if dialect.public and not _identified(route, ask):
        raise GatewayError(ErrorCode.FORBIDDEN, "user_id needs a valid user_hash for this agent")
    if caller.user is None:
        return ask
    check_speaks_for(caller, ask.user_id or caller.user)
    return replace(ask, user_id=caller.user)


def check_agent(caller: Caller, route: Route) -> None:
    """A key may be for some agents only. Raises `GatewayError(FORBIDDEN)`."""
    principal = caller.principal
    if principal and principal.agents is not None and route.id not in principal.agents:
        raise GatewayError(ErrorCode.FORBIDDEN, "this API key is not for this agent")


def check_speaks_for(caller: Caller, user: str) -> None:
    """A signed key may be for one user only. Raises `GatewayError(FORBIDDEN)`."""
    if caller.user not in (None, user):
        raise GatewayError(ErrorCode.FORBIDDEN, "this API key is for another user")


def scope_of(caller: Caller, route: Route) -> Scope:
    """The agent's conversations that the caller may see."""
    return Scope(Place(caller.owner, route.id), caller.user)


def check_user(
    caller: Caller, route: Route, ask: ChatRequest, turn: Turn, dialect: Dialect
) -> None:
    """A caller who speaks for one user only has no part in another's conversations. Raises
    `GatewayError(CONVERSATION_NOT_FOUND)`."""
    identified = dialect.public and route.identity_secret is not None and turn.user_id is not None
    if (caller.user is not None or identified) and turn.user_id != ask.user_id:
        raise GatewayError(ErrorCode.CONVERSATION_NOT_FOUND, "no such conversation with this user")


def _identified(route: Route, ask: ChatRequest) -> bool:
    if route.identity_secret is None or ask.user_id is None:
        return True
    return identity_matches(route.identity_secret, ask.user_id, ask.user_hash)
