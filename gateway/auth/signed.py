"""Signed keys: a JWT after the prefix of a key, verified offline.

What was verified is remembered, so that a busy key costs a hash a request instead of a signature.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import jwt
from cachetools import LRUCache

from gateway.auth.claims import Claims, Rules, read_claims, refused
from gateway.auth.principal import Principal
from gateway.auth.verification import VerificationKey

# Only what was verified gets in, so nobody without a key can push others out. About 1 KiB each.
MAX_REMEMBERED = 10_000


class KeySource(Protocol):
    """A set of verification keys that may change while it is used."""

    @property
    def keys(self) -> Mapping[str, VerificationKey]:
        """The set as it is now, by `kid`."""
        ...

    def want(self, now: float) -> None:
        """A token named a key that is not there: look for it soon. Never waits."""
        ...


class _Remembered(NamedTuple):
    key: VerificationKey
    claims: Claims


class SignedKeys:
    """Verifies signed keys with the configured keys and those of the sources.

    Two sets may use the same `kid`: each key is tried with its own algorithm and workspaces, so
    that no set can take the place of another's key.
    """

    def __init__(
        self,
        keys: Iterable[VerificationKey],
        *,
        rules: Rules,
        sources: Sequence[KeySource] = (),
    ) -> None:
        """Raises `ValueError` for two keys with one id."""
        self._keys: dict[str, VerificationKey] = {}
        for key in keys:
            if self._keys.setdefault(key.kid, key) is not key:
                raise ValueError(f"two signing keys have the id {key.kid!r}")
        self._sources = sources
        self._rules = rules
        self._remembered: LRUCache[bytes, _Remembered] = LRUCache(MAX_REMEMBERED)

    def verify(self, token: str, digest: bytes, now: float) -> Principal:
        """The principal of a JWT at `now` (Unix seconds); `digest` is the whole key's SHA-256.

        Raises `GatewayError` with KEY_INVALID or KEY_EXPIRED.
        """
        claims = self._recall(digest) or self._read(token, digest, now)
        claims.check(now)
        return claims.principal

    def _recall(self, digest: bytes) -> Claims | None:
        found = self._remembered.get(digest)
        if found is None:
            return None
        # A key that has left its set takes with it all it has signed.
        if found.key not in self._candidates(found.key.kid):
            del self._remembered[digest]
            return None
        return found.claims

    def _read(self, token: str, digest: bytes, now: float) -> Claims:
        key, payload = self._verified(token, now)
        claims = read_claims(payload, key, self._rules)
        claims.check(now)
        self._remembered[digest] = _Remembered(key, claims)
        return claims

    def _verified(self, token: str, now: float) -> tuple[VerificationKey, bytes]:
        candidates = self._candidates(_kid(token))
        if not candidates:
            for source in self._sources:
                source.want(now)
            raise refused("no verification key has its `kid`")
        for key in candidates:
            payload = key.verify(token)
            if payload is not None:
                return key, payload
        raise refused("its signature or algorithm is not that of the key its `kid` names")

    def _candidates(self, kid: str) -> list[VerificationKey]:
        sets = [self._keys, *(source.keys for source in self._sources)]
        return [keys[kid] for keys in sets if kid in keys]


def _kid(token: str) -> str:
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    # PyJWT 2.10 lets the parser's error for a deeply nested header pass.
    except (jwt.PyJWTError, RecursionError):
        raise refused("it is not a JWT") from None
    if not isinstance(kid, str):
        raise refused("its header has no `kid`")
    return kid
