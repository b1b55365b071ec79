"""Who signs keys in the tests: a key pair of each algorithm, and tokens forged by hand."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import cast

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.auth.claims import Rules
from gateway.auth.jwks import Trust
from gateway.auth.verification import VerificationKey, configured_key
from gateway.config.model import Algorithm, PublicAlgorithm, SigningKey
from gateway.config.values import Secret
from gateway.core.events import Json
from gateway.wire import json

NOW = 1_800_000_000.0
RULES = Rules(tiers=frozenset({"standard", "widget"}), revoked=frozenset({"stolen"}))
ALGORITHMS: tuple[Algorithm, ...] = ("HS256", "RS256", "ES256", "EdDSA")
PUBLIC_ALGORITHMS: tuple[PublicAlgorithm, ...] = ("RS256", "ES256", "EdDSA")
TRUST = Trust(frozenset(PUBLIC_ALGORITHMS), frozenset({"acme", "globex"}))
CLAIMS: dict[str, Json] = {
    "sub": "visitor",
    "workspace": "acme",
    "tier": "widget",
    "exp": NOW + 900,
}


@dataclass(frozen=True)
class Signer:
    """One end of a signing key; `private` and `public` are PEMs, or both the secret of HS256."""

    algorithm: Algorithm
    private: str
    public: str
    jwk: Mapping[str, Json]

    def token(self, kid: str = "k1", **claims: Json) -> str:
        """A JWT of `CLAIMS` with these changes; a claim that is "absent" is left out."""
        return self.sign(changed(claims), {"kid": kid})

    def altered(self, claim: str, value: Json) -> str:
        """A JWT of `CLAIMS` with one of them changed."""
        return self.sign(changed({claim: value}), {"kid": "k1"})

    def sign(self, claims: Json, headers: dict[str, Json]) -> str:
        payload = json.dumps(claims)
        return jwt.PyJWS().encode(payload, self.private, self.algorithm, headers=headers)

    def published(self, kid: str = "k1", **changes: Json) -> dict[str, Json]:
        """Its entry in a key set."""
        return {**self.jwk, "kid": kid, **changes}


def changed(claims: Mapping[str, Json]) -> dict[str, Json]:
    """`CLAIMS` with these; those that are "absent" are left out."""
    merged = {**CLAIMS, **claims}
    return {name: value for name, value in merged.items() if value != "absent"}


def forge(header: Json, claims: Json, secret: bytes | None = None) -> str:
    """A JWT that no library would make: any header, an HMAC or no signature at all."""
    signed = f"{_part(json.dumps(header))}.{_part(json.dumps(claims))}"
    mac = hmac.new(secret, signed.encode(), sha256).digest() if secret is not None else b"none"
    return f"{signed}.{_part(mac)}"


def _part(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def signer(algorithm: Algorithm, index: int = 0) -> Signer:
    """The same for the whole run: an RSA key takes a while to make. `index` tells several apart."""
    if algorithm == "HS256":
        secret = f"{index}" * 32
        return Signer(algorithm, secret, secret, {})
    private = _GENERATORS[algorithm]()
    public = private.public_key()
    published = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    return Signer(algorithm, private_pem(private), public_pem(public), published)


_GENERATORS: dict[
    str, Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey]
] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def private_pem(key: PrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: PublicKeyTypes) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def verifier(
    made_by: Signer, kid: str = "k1", workspaces: tuple[str, ...] = ("acme", "globex")
) -> VerificationKey:
    """The key that verifies what the signer signs."""
    return configured_key(signing_key(made_by.algorithm, kid, workspaces), lambda _: made_by.public)


def signing_key(
    algorithm: Algorithm, kid: str = "k1", workspaces: tuple[str, ...] = ("acme", "globex")
) -> SigningKey:
    name = "secret" if algorithm == "HS256" else "public_key"
    return SigningKey.model_validate(
        {
            "id": kid,
            "algorithm": algorithm,
            "workspaces": list(workspaces),
            name: Secret(env="THE_KEY"),
        }
    )


def key_set(*jwks: Json) -> bytes:
    return json.dumps({"keys": cast(list[Json], list(jwks))})
