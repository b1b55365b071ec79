"""Making keys, opaque and signed."""

import secrets
import string
from collections.abc import Mapping
from hashlib import sha256
from typing import Literal

from gateway.core.events import Json
from gateway.wire import json

Environment = Literal["live", "test"]

# A double click selects the whole of it, and no shell, URL or TOML needs it escaped.
_ALPHABET = string.ascii_letters + string.digits
# 62 ** 43 > 2 ** 256: as hard to guess as the hash that is kept.
_LENGTH = 43


def new_key(env: Environment) -> str:
    """A random opaque key, `oc_<env>_...`."""
    return f"oc_{env}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def key_hash(key: str) -> str:
    """What the config holds instead of the key: `sha256:` and lower-case hexadecimal digits."""
    return "sha256:" + sha256(key.encode()).hexdigest()


def sign_key(
    env: Environment, claims: Mapping[str, Json], *, kid: str, algorithm: str, material: str | bytes
) -> str:
    """A signed key, `oc_<env>_<JWT>`; `material` is a private key's PEM, or the secret of HS256.

    Raises `ValueError`, without the material, if it does not fit the algorithm.
    """
    import jwt

    signer = jwt.PyJWS(algorithms=[algorithm], options={"enforce_minimum_key_length": True})
    try:
        token = signer.encode(
            json.dumps(dict(claims)), material, algorithm=algorithm, headers={"kid": kid}
        )
    # A public key has no `sign`; what is no key at all is a ValueError or a TypeError.
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        raise ValueError(f"this is no private key for {algorithm}, in PEM form") from None
    return f"oc_{env}_{token}"
