"""JSON Web Key Sets (RFC 7517) to verification keys, without I/O."""

from collections.abc import Collection, Mapping

import jwt
from msgspec import Struct

from gateway.auth.verification import Material, VerificationKey
from gateway.config.model import Algorithm
from gateway.core.events import Json
from gateway.wire import json

_FIELDS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_ALGORITHMS: dict[tuple[str, Json], Algorithm] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
# A set is for everybody to read: what is secret in it is known by now.
_SECRET_FIELDS = ("d", "k")


class KeySet(Struct, frozen=True):
    """The usable keys of a set by their `kid`, and why the others were left out."""

    keys: Mapping[str, VerificationKey] = {}
    skipped: tuple[str, ...] = ()

    def want(self, now: float) -> None:
        """A set read from a file changes with a reload only."""


class Trust(Struct, frozen=True):
    """What the config trusts a set's keys with."""

    algorithms: frozenset[Algorithm]
    workspaces: frozenset[str]


def parse_jwks(data: bytes, trust: Trust) -> KeySet:
    """The set's keys; raises `ValueError` if this is no key set at all.

    A key that cannot be used is skipped, as RFC 7517, section 5 asks: a set may hold keys for
    others. A set without one usable key is a set: its publisher has withdrawn every key.
    """
    try:
        value = json.mapping(json.loads(data)).get("keys")
    except json.InvalidJson:
        value = None
    if not isinstance(value, list):
        raise ValueError("this is no JSON Web Key Set")
    return _collect(value, trust)


def _collect(jwks: list[Json], trust: Trust) -> KeySet:
    keys: dict[str, VerificationKey] = {}
    skipped = []
    for index, jwk in enumerate(jwks):
        try:
            key = _read(json.mapping(jwk), trust)
            if keys.setdefault(key.kid, key) is not key:
                raise ValueError("its `kid` is that of an earlier key")
        except ValueError as exc:
            skipped.append(f"key {index}: {exc}")
    return KeySet(keys, tuple(skipped))


def _read(jwk: Mapping[str, Json], trust: Trust) -> VerificationKey:
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not kid:
        raise ValueError("it has no `kid`")
    if any(name in jwk for name in _SECRET_FIELDS):
        raise ValueError("it is secret, and published")
    if not _for_verifying(jwk):
        raise ValueError("it is not for signatures")
    algorithm = _pin(jwk, trust.algorithms)
    return VerificationKey(kid, algorithm, _material(jwk, algorithm), trust.workspaces)


def _for_verifying(jwk: Mapping[str, Json]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and "verify" in json.array(operations)


def _pin(jwk: Mapping[str, Json], allowed: Collection[Algorithm]) -> Algorithm:
    """The one algorithm that fits the key's type, unless the key is meant for another.

    Each type has one among ours, so the type decides where `alg` is left out.
    """
    kty, crv = json.text(jwk.get("kty")), jwk.get("crv")
    algorithm = _ALGORITHMS.get((kty, crv if isinstance(crv, str) else None))
    if algorithm is None:
        raise ValueError("its `kty` or `crv` is not supported")
    if algorithm not in allowed or jwk.get("alg", algorithm) != algorithm:
        raise ValueError("its algorithm is not one of the configured ones")
    return algorithm


def _material(jwk: Mapping[str, Json], algorithm: Algorithm) -> Material:
    # Only the fields that were checked: PyJWT raises whatever it likes for others.
    known = {name: jwk.get(name) for name in _FIELDS[json.text(jwk.get("kty"))]}
    if not all(isinstance(value, str) for value in known.values()):
        raise ValueError("its numbers are missing")
    try:
        key: Material = jwt.PyJWK({"kty": jwk["kty"], **known}, algorithm).key
    except (jwt.PyJWTError, ValueError, OverflowError):
        raise ValueError("its numbers are no key") from None
    return key
