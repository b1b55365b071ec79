"""From a config to its keyring: what is read, and what is wrong with it."""

import pytest

from gateway.auth.keyring import Keyring, build_keyring
from gateway.auth.mint import key_hash
from gateway.config.model import Config
from gateway.config.values import Secret
from gateway.core.errors import ErrorCode, GatewayError
from tests.auth.signers import ALGORITHMS, NOW, key_set, signer

KEY = "oc_live_Tq3Xv9"
PUBLISHED = signer("ES256", 1)
SECRETS = {
    "HS256": signer("HS256").public,
    "RS256": signer("RS256").public,
    "ES256": signer("ES256").public,
    "EdDSA": signer("EdDSA").public,
    "jwks.json": key_set(PUBLISHED.published("ours")).decode(),
    "broken.json": "{}",
    "short": "x" * 31,
}


def reveal(secret: Secret) -> str:
    return SECRETS[secret.env or secret.file or ""]


def config(**auth: object) -> Config:
    return Config.model_validate(
        {
            "upstreams": {"echo": {"kind": "echo"}},
            "agents": [
                {"id": 1, "workspace": "acme", "name": "A", "targets": [{"upstream": "echo"}]}
            ],
            "limits": {"tiers": {"widget": {"requests": "10/1s"}}},
            "keys": [{"id": "web", "hash": key_hash(KEY), "workspace": "acme", "tier": "widget"}],
            "auth": auth,
        }
    )


def signing(algorithm: str, secret: str | None = None) -> dict[str, object]:
    name = "secret" if algorithm == "HS256" else "public_key"
    return {
        "id": algorithm,
        "algorithm": algorithm,
        "workspaces": ["acme"],
        name: {"env": secret or algorithm},
    }


def jwks(**fields: object) -> dict[str, object]:
    return {"algorithms": ["ES256"], "workspaces": ["acme"], **fields}


def admit(keyring: Keyring, token: str) -> str:
    return keyring.authenticate(f"Bearer oc_live_{token}", NOW).key_id


def test_every_kind_of_key_of_a_config_is_admitted() -> None:
    """Opaque ones, signed ones of each algorithm, and those of a set in a file."""
    keyring = build_keyring(
        config(signing_keys=[signing(name) for name in ALGORITHMS], jwks=[jwks(file="jwks.json")]),
        reveal,
    )
    assert keyring.authenticate(f"Bearer {KEY}", NOW).key_id == "web"
    for algorithm in ALGORITHMS:
        assert admit(keyring, signer(algorithm).token(algorithm)) == "visitor"
    assert admit(keyring, PUBLISHED.token("ours")) == "visitor"
    assert list(keyring.refreshers) == []


def test_an_unknown_kid_asks_nothing_of_a_file() -> None:
    """It is read anew by a reload only."""
    keyring = build_keyring(config(jwks=[jwks(file="jwks.json")]), reveal)
    with pytest.raises(GatewayError) as caught:
        admit(keyring, PUBLISHED.token("other"))
    assert caught.value.code is ErrorCode.KEY_INVALID


def test_tiers_and_revocations_are_the_configs() -> None:
    """A signed key can claim no tier that is not there."""
    keyring = build_keyring(config(signing_keys=[signing("HS256")], revoked=["gone"]), reveal)
    for claims in ({"tier": "standard"}, {"jti": "gone"}):
        with pytest.raises(GatewayError):
            admit(keyring, signer("HS256").token("HS256", **claims))
    assert admit(keyring, signer("HS256").token("HS256", jti="here")) == "visitor"


def test_a_reload_adopts_the_sets_that_were_fetched() -> None:
    """From the keyring before, by URL."""
    source = config(jwks=[jwks(url="https://example.com/a"), jwks(url="https://example.com/b")])
    before = build_keyring(source, reveal)
    before.refreshers[1].fetched_at = NOW
    after = build_keyring(source, reveal, before)
    assert [refresher.fetched_at for refresher in after.refreshers] == [None, NOW]


@pytest.mark.parametrize(
    ("auth", "reason"),
    [
        ({"signing_keys": [signing("HS256", "short")]}, "signing key 'HS256': .*32 bytes"),
        ({"signing_keys": [signing("RS256", "short")]}, "signing key 'RS256': .*PEM"),
        ({"signing_keys": [signing("HS256"), signing("HS256")]}, "two signing keys .*'HS256'"),
        ({"jwks": [jwks(file="broken.json")]}, "key set 'broken.json': .*no JSON Web Key Set"),
        ({"jwks": [jwks()]}, "needs `url` or `file`"),
    ],
)
def test_what_is_wrong_is_named(auth: dict[str, object], reason: str) -> None:
    """With the entry it is wrong in, and never with a secret."""
    with pytest.raises(ValueError, match=reason) as caught:
        build_keyring(config(**auth), reveal)
    assert SECRETS["short"] not in str(caught.value)


def test_what_reveal_raises_passes_through() -> None:
    """Whoever reads the secrets has the better words."""

    class Missing(Exception):
        pass

    def missing(secret: Secret) -> str:
        raise Missing

    for auth in ({"signing_keys": [signing("HS256")]}, {"jwks": [jwks(file="jwks.json")]}):
        with pytest.raises(Missing):
            build_keyring(config(**auth), missing)
