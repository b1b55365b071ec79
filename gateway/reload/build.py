"""A snapshot from one reading of the config, with what can be kept of the one before it."""

import functools
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.auth.keyring import build_keyring
from gateway.config.listeners import Tls
from gateway.config.model import Config
from gateway.config.reading import content
from gateway.config.routes import build_routes
from gateway.config.secrets import MissingSecret, missing, reveal
from gateway.config.upstreams import Upstream
from gateway.config.values import Secret
from gateway.proxy.client import Client, Trusting, tls_context
from gateway.proxy.snapshot import Snapshot

if TYPE_CHECKING:
    from gateway.config.certificate import Certificate

# Nobody counts who tries tokens, so none may be short enough to be found.
_MIN_TOKEN = 16


def build_snapshot(
    config: Config, base: Path, environ: Mapping[str, str], previous: Snapshot | None = None
) -> Snapshot:
    """What requests are served by. Raises `MissingSecret` for all that are missing, `ConfigError`
    for a certificate and a key that are no pair, and `ValueError` for a bad key, token or CA
    bundle: then `previous` is as it was.

    `base` is the folder that the config's paths are relative to. Of `previous`, clients are kept
    whose upstream is the same in all that they were made of, and the key sets that were fetched.
    """

    if problems := missing(config, base, environ):
        raise MissingSecret(base, problems)

    def revealed(secret: Secret) -> str:
        return reveal(secret, base, environ)

    clients, made_of = _clients(config, base, revealed, previous)
    return Snapshot(
        server=config.server,
        certificate=_certificate(config.server.tls, base) if config.server.tls else None,
        tiers=config.limits.tiers,
        routes=build_routes(config, base, environ),
        keyring=build_keyring(config, revealed, previous.keyring if previous else None),
        clients=clients,
        made_of=made_of,
        admin_token=_admin_token(config, revealed),
    )


def _certificate(tls: Tls, base: Path) -> "Certificate":
    from gateway.config.certificate import read_certificate

    return read_certificate(tls, base)


def _admin_token(config: Config, revealed: Callable[[Secret], str]) -> str | None:
    if config.admin.token is None:
        return None
    token = revealed(config.admin.token).strip()
    if len(token) < _MIN_TOKEN:
        raise ValueError(f"admin.token: expected at least {_MIN_TOKEN} characters")
    return token


def _clients(
    config: Config, base: Path, revealed: Callable[[Secret], str], previous: Snapshot | None
) -> tuple[dict[str, Client], dict[str, bytes]]:
    clients: dict[str, Client] = {}
    made_of: dict[str, bytes] = {}
    trusting = functools.cache(functools.partial(tls_context, base=base))
    for name, upstream in config.upstreams.items():
        if upstream.base_url is None:
            continue
        credential = revealed(upstream.credential) if upstream.credential else None
        made_of[name] = _digest(upstream, credential, base)
        if previous is not None and previous.made_of.get(name) == made_of[name]:
            clients[name] = previous.clients[name]
        else:
            clients[name] = _client(name, upstream, credential, trusting)
    return clients, made_of


def _client(name: str, upstream: Upstream, credential: str | None, trusting: Trusting) -> Client:
    try:
        return Client(upstream, credential, trusting)
    except ValueError as exc:
        raise ValueError(f"upstreams.{name}: {exc}") from exc


def _digest(upstream: Upstream, credential: str | None, base: Path) -> bytes:
    """A hash, for it is kept, and a credential is among it."""
    settings = upstream.model_dump_json()
    made_of = repr((settings, credential, _bundle(upstream.verify, base)))
    return sha256(made_of.encode("utf-8", "surrogatepass")).digest()


def _bundle(verify: bool | str, base: Path) -> bytes:
    if not isinstance(verify, str):
        return b""
    try:
        return content(base / verify)
    except (OSError, ValueError):
        return b""  # the client that is made of it says what is wrong
