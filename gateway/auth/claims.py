"""What a signed key claims, once its signature has been verified.

Every claim is read strictly: a claim of the wrong type refuses the key, it never counts as absent,
since an absent `agents` means all of them.
"""

import math
import re
from collections.abc import Callable, Collection

from msgspec import Struct

from gateway.auth.principal import Principal
from gateway.auth.verification import VerificationKey
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json
from gateway.wire import json

# For the signer's clock being ahead of ours. None for `exp`: expired is expired.
CLOCK_LEEWAY = 5.0

_SUBJECT = re.compile(r"[!-~]{1,128}")
_USER = re.compile(r"[a-zA-Z0-9._-]{1,128}")


class Claims(Struct, frozen=True):
    """Whom a signed key stands for, and when (Unix seconds)."""

    principal: Principal
    not_before: float
    expires: float

    def check(self, now: float) -> None:
        """Raises `GatewayError` with KEY_EXPIRED, or KEY_INVALID while it is too early."""
        if now >= self.expires:
            raise GatewayError(
                ErrorCode.KEY_EXPIRED, "the signed key has expired: have another signed"
            )
        if self.not_before > now + CLOCK_LEEWAY:
            raise refused("it is not valid yet (`nbf` or `iat`): compare the clocks")


class Rules(Struct, frozen=True):
    """What the config allows signed keys to claim."""

    tiers: frozenset[str]
    revoked: frozenset[str]
    """`jti`s."""


def refused(reason: str) -> GatewayError:
    """A signed key that is not valid; the reason is for whoever signs."""
    return GatewayError(ErrorCode.KEY_INVALID, f"the signed key is not valid: {reason}")


def read_claims(payload: bytes, key: VerificationKey, rules: Rules) -> Claims:
    """The payload of a JWT that `key` has verified.

    Raises `GatewayError(KEY_INVALID)` naming the claim.
    """
    claims = _object(payload)
    _refuse_revoked(claims, rules.revoked)
    expires = _moment(claims, "exp")
    principal = Principal(
        key_id=_text(claims, "sub", lambda text: _SUBJECT.fullmatch(text) is not None),
        workspace=_text(claims, "workspace", key.workspaces.__contains__),
        agents=_agents(claims),
        tier=_text(claims, "tier", rules.tiers.__contains__),
        user=_user(claims),
        expires=expires,
        signed=True,
    )
    return Claims(principal, not_before=_not_before(claims), expires=expires)


def _object(payload: bytes) -> dict[str, Json]:
    try:
        claims = json.loads(payload)
    except json.InvalidJson:
        claims = None
    if not isinstance(claims, dict):
        raise refused("its payload is not a JSON object")
    return claims


def _refuse_revoked(claims: dict[str, Json], revoked: Collection[str]) -> None:
    if "jti" in claims and _text(claims, "jti", bool) in revoked:
        raise refused("it was revoked")


def _text(claims: dict[str, Json], name: str, allowed: Callable[[str], bool]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not allowed(value):
        raise refused(f"its claim `{name}` is missing or not allowed")
    return value


def _user(claims: dict[str, Json]) -> str | None:
    if "user" not in claims:
        return None
    return _text(claims, "user", lambda text: _USER.fullmatch(text) is not None)


def _agents(claims: dict[str, Json]) -> frozenset[int] | None:
    if "agents" not in claims:
        return None
    agents = claims["agents"]
    if isinstance(agents, list):
        ids = [agent for agent in agents if isinstance(agent, int) and not isinstance(agent, bool)]
        if len(ids) == len(agents):
            return frozenset(ids)
    raise refused("its claim `agents` is not a list of whole numbers")


def _moment(claims: dict[str, Json], name: str) -> float:
    """A NumericDate (RFC 7519, section 2), in Unix seconds."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused(f"its claim `{name}` is missing or not a number of seconds")
    return float(value)


def _not_before(claims: dict[str, Json]) -> float:
    return max((_moment(claims, name) for name in ("nbf", "iat") if name in claims), default=0.0)
