"""Whose signatures a config trusts: its own verification keys, and the key sets that it names."""

from collections.abc import Callable, Iterable

from gateway.auth.claims import Rules
from gateway.auth.jwks import KeySet, Trust, parse_jwks
from gateway.auth.refresher import JwksRefresher
from gateway.auth.signed import SignedKeys
from gateway.auth.verification import configured_key
from gateway.config.model import Config, Jwks
from gateway.config.values import Secret

Reveal = Callable[[Secret], str]


def signed_keys(
    config: Config, reveal: Reveal, previous: Iterable[JwksRefresher]
) -> tuple[SignedKeys, list[JwksRefresher]]:
    """What verifies signed keys, and what keeps its key sets fresh; `previous` lend what they have
    fetched.

    Raises `ValueError` naming the entry that is wrong.
    """
    refreshers, files = _sources(config.auth.jwks, reveal)
    for other in previous:
        for refresher in refreshers:
            refresher.adopt(other)
    signed = SignedKeys(
        [configured_key(key, reveal) for key in config.auth.signing_keys],
        rules=read_rules(config),
        sources=[*files, *refreshers],
    )
    return signed, refreshers


def read_rules(config: Config) -> Rules:
    """What signed keys may claim."""
    return Rules(tiers=frozenset(config.limits.tiers), revoked=frozenset(config.auth.revoked))


def _sources(sets: list[Jwks], reveal: Reveal) -> tuple[list[JwksRefresher], list[KeySet]]:
    refreshers, files = [], []
    for jwks in sets:
        trust = Trust(frozenset(jwks.algorithms), frozenset(jwks.workspaces))
        if jwks.url is not None:
            refreshers.append(JwksRefresher(jwks.url, trust, refresh=jwks.refresh))
        else:
            files.append(_read_file(jwks, trust, reveal))
    return refreshers, files


def _read_file(jwks: Jwks, trust: Trust, reveal: Reveal) -> KeySet:
    if jwks.file is None:
        raise ValueError("a key set (auth.jwks) needs `url` or `file`")
    try:
        return parse_jwks(reveal(Secret(file=jwks.file)).encode(), trust)
    except ValueError as exc:
        raise ValueError(f"key set {jwks.file!r}: {exc}") from None
