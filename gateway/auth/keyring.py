"""Keys to principals.

An opaque key, `oc_<env>_...`, is looked up by its SHA-256 hash: the config holds no key. A signed
one, `oc_<env>_<JWT>`, is verified offline (`signed`). Neither costs any I/O.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from gateway.auth.principal import Principal as Principal
from gateway.config.model import Config, Key
from gateway.config.values import Secret
from gateway.core.errors import ErrorCode, GatewayError

if TYPE_CHECKING:
    from gateway.auth.refresher import JwksRefresher
    from gateway.auth.signed import SignedKeys

# A JWT with a signature by RSA of 4096 bits and every claim has half of this.
MAX_KEY_LENGTH = 4096

_KEY = re.compile(r"oc_(?:live|test)_([!-~]+)")
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MISSING = 'the key is missing: send the header "Authorization: Bearer oc_..."'
# The same words whatever is wrong, so that nobody learns which keys were ever valid.
_INVALID = "the key is not valid: check it, or ask for another"


Reveal = Callable[[Secret], str]
"""Reads a secret; what it raises passes through."""


class _Entry(NamedTuple):
    key: Key
    digest: bytes
    principal: Principal


class Keyring:
    """The keys of one config; a reload builds another.

    `refreshers` keep the key sets of `signed` fresh: who owns the keyring starts them before
    serving with it and stops them after.
    """

    def __init__(
        self,
        *,
        keys: Iterable[Key],
        signed: "SignedKeys | None" = None,
        refreshers: "Sequence[JwksRefresher]" = (),
    ) -> None:
        """Raises `ValueError` for an `expires` without an offset and for a hash given twice."""
        self._entries: dict[bytes, _Entry] = {}
        for key in keys:
            self._add(_entry(key))
        self._signed = signed
        self.refreshers = refreshers

    def authenticate(self, authorization: str | None, now: float) -> Principal:
        """The bearer of the header's key at `now` (Unix seconds).

        Raises `GatewayError` with KEY_MISSING, KEY_INVALID or KEY_EXPIRED.
        """
        return self.admit(_bearer(authorization), now)

    def admit(self, key: str, now: float) -> Principal:
        """The bearer of a key; raises `GatewayError` with KEY_INVALID or KEY_EXPIRED."""
        body = _body(key)
        digest = _digest(key)
        entry = self._lookup(digest)
        if entry is not None:
            return _admit(entry, now)
        if self._signed is not None and _JWT.fullmatch(body):
            return self._signed.verify(body, digest, now)
        raise GatewayError(ErrorCode.KEY_INVALID, _INVALID)

    def find(self, key: str) -> Key | None:
        """The entry of an opaque key, valid or not."""
        entry = self._lookup(_digest(key))
        return entry.key if entry else None

    def named(self, key_id: str) -> list[Key]:
        """The entries of this id, in the order of the file: several while a key is replaced."""
        return [entry.key for entry in self._entries.values() if entry.key.id == key_id]

    def _add(self, entry: _Entry) -> None:
        known = self._entries.setdefault(entry.digest, entry)
        if known is not entry:
            raise ValueError(f"keys {known.key.id!r} and {entry.key.id!r} have the same hash")

    def _lookup(self, digest: bytes) -> _Entry | None:
        entry = self._entries.get(digest)
        # A dict compares what it finds at its own pace.
        if entry is None or not hmac.compare_digest(entry.digest, digest):
            return None
        return entry


def is_signed(key: str) -> bool:
    """Whether the key has the form of a signed one."""
    found = _KEY.fullmatch(key)
    return found is not None and _JWT.fullmatch(found[1]) is not None


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").strip(" ").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise GatewayError(ErrorCode.KEY_MISSING, _MISSING)
    return key.lstrip(" ")


def _body(key: str) -> str:
    """What follows the prefix."""
    found = _KEY.fullmatch(key) if len(key) <= MAX_KEY_LENGTH else None
    if found is None:
        raise GatewayError(ErrorCode.KEY_INVALID, _INVALID)
    return found[1]


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def _admit(entry: _Entry, now: float) -> Principal:
    if entry.key.disabled:
        raise GatewayError(ErrorCode.KEY_INVALID, _INVALID)
    expires = entry.principal.expires
    if expires is not None and now >= expires:
        raise GatewayError(ErrorCode.KEY_EXPIRED, "the key has expired: ask for another")
    return entry.principal


def _entry(key: Key) -> _Entry:
    principal = Principal(
        key_id=key.id,
        workspace=key.workspace,
        agents=None if key.agents is None else frozenset(key.agents),
        tier=key.tier,
        expires=_expiry(key),
    )
    return _Entry(key, bytes.fromhex(key.hash.removeprefix("sha256:")), principal)


def _expiry(key: Key) -> float | None:
    if key.expires is None:
        return None
    moment = datetime.fromisoformat(key.expires)
    if moment.tzinfo is None:
        raise ValueError(f"key {key.id!r}: `expires` needs an offset, such as a final Z")
    return moment.timestamp()


def build_keyring(config: Config, reveal: Reveal, previous: Keyring | None = None) -> Keyring:
    """The keyring of a config; on a reload, `previous` lends it the key sets it has fetched.

    Raises `ValueError` naming the entry that is wrong.
    """
    if not config.auth.signing_keys and not config.auth.jwks:
        return Keyring(keys=config.keys)
    # What reads and verifies JWTs is as long to import as all else of the keys.
    from gateway.auth.trusted import signed_keys

    signed, refreshers = signed_keys(config, reveal, previous.refreshers if previous else ())
    return Keyring(keys=config.keys, signed=signed, refreshers=refreshers)
