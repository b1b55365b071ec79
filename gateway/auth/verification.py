"""The keys that verify signed keys: an id, one algorithm, the workspaces each may speak for.

A verification key's algorithm comes from the config or the key set, never from a token: that is
what refuses `none` and an RSA public key taken for an HMAC secret (RFC 8725, section 3.1).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.config.model import Algorithm, SigningKey
from gateway.config.values import Secret

# RFC 7518, section 3.2: as long as the hash, or the secret is what is guessed.
_MIN_SECRET = 32
# RFC 7518, section 3.3 for the lower end; beyond the upper one a signature takes milliseconds.
_RSA_BITS = range(2048, 8193)

Material = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes

_FITS: dict[Algorithm, Callable[[object], bool]] = {
    "HS256": lambda key: isinstance(key, bytes) and len(key) >= _MIN_SECRET,
    "RS256": lambda key: isinstance(key, RSAPublicKey) and key.key_size in _RSA_BITS,
    "ES256": lambda key: (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ),
    "EdDSA": lambda key: isinstance(key, Ed25519PublicKey),
}
_NEEDS: dict[Algorithm, str] = {
    "HS256": f"a secret of at least {_MIN_SECRET} bytes",
    "RS256": f"an RSA public key of {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits",
    "ES256": "an EC public key on the curve P-256",
    "EdDSA": "an Ed25519 public key",
}

# One verifier per algorithm that knows no other.
_VERIFIERS = {algorithm: jwt.PyJWS(algorithms=[algorithm]) for algorithm in _FITS}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that verifies the JWTs with its id as their `kid`."""

    kid: str
    algorithm: Algorithm
    material: Material = field(repr=False)
    workspaces: frozenset[str]

    def __post_init__(self) -> None:
        if not _FITS[self.algorithm](self.material):
            raise ValueError(f"{self.algorithm} needs {_NEEDS[self.algorithm]}")

    def verify(self, token: str) -> bytes | None:
        """The payload of a JWT that this key has signed, else None."""
        try:
            decoded = _VERIFIERS[self.algorithm].decode_complete(
                token, self.material, algorithms=[self.algorithm]
            )
        # PyJWT 2.10 lets the parser's error for a deeply nested header pass.
        except (jwt.PyJWTError, RecursionError):
            return None
        payload: bytes = decoded["payload"]
        return payload


def configured_key(signing: SigningKey, reveal: Callable[[Secret], str]) -> VerificationKey:
    """A `[[auth.signing_keys]]`; `reveal` reads its secret.

    Raises `ValueError` with the signing key's id and what it needs, never with what it holds.
    """
    try:
        return VerificationKey(
            kid=signing.id,
            algorithm=signing.algorithm,
            material=_material(signing, reveal),
            workspaces=frozenset(signing.workspaces),
        )
    except ValueError as exc:
        raise ValueError(f"signing key {signing.id!r}: {exc}") from None


def _material(signing: SigningKey, reveal: Callable[[Secret], str]) -> Material:
    wanted, other = signing.public_key, signing.secret
    if signing.algorithm == "HS256":
        wanted, other = other, wanted
    if wanted is None or other is not None:
        field_name = "secret" if signing.algorithm == "HS256" else "public_key"
        raise ValueError(f"{signing.algorithm} takes `{field_name}` and nothing else")
    # A secret from the environment may hold bytes that are not UTF-8.
    revealed = reveal(wanted).encode("utf-8", "surrogateescape")
    return _secret(revealed) if signing.algorithm == "HS256" else _public_key(revealed)


def _secret(revealed: bytes) -> bytes:
    try:
        # Refuses what is the public key of another algorithm: anybody may know it.
        prepared: bytes = jwt.get_algorithm_by_name("HS256").prepare_key(revealed)
    except jwt.InvalidKeyError:
        raise ValueError("the secret is empty, a PEM or a JWK; HS256 takes random bytes") from None
    return prepared


def _public_key(revealed: bytes) -> Material:
    try:
        key = load_pem_public_key(revealed)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        raise ValueError(
            'this is no public key in PEM form ("-----BEGIN PUBLIC KEY-----") of RSA, EC or'
            " Ed25519; a private key does not belong here"
        )
    return key
