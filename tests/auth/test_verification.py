"""Configured signing keys: what each algorithm takes, and that nothing of it is ever shown."""

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa

from gateway.auth.verification import configured_key
from gateway.config.model import Algorithm, SigningKey
from gateway.config.values import Secret
from tests.auth.signers import (
    ALGORITHMS,
    PUBLIC_ALGORITHMS,
    public_pem,
    signer,
    signing_key,
    verifier,
)


def problem(algorithm: Algorithm, revealed: str) -> str:
    with pytest.raises(ValueError, match=r"^signing key 'site': ") as caught:
        configured_key(signing_key(algorithm, "site"), lambda _: revealed)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_that_fits_is_built(algorithm: Algorithm) -> None:
    """With its id as the `kid`, and its workspaces."""
    key = configured_key(signing_key(algorithm, "site"), lambda _: signer(algorithm).public)
    assert (key.kid, key.algorithm) == ("site", algorithm)
    assert key.workspaces == frozenset({"acme", "globex"})


def test_a_secret_has_at_least_32_bytes() -> None:
    """Bytes, not characters."""
    short = "x" * 31
    assert "at least 32 bytes" in problem("HS256", short)
    assert short not in problem("HS256", short)
    assert configured_key(signing_key("HS256"), lambda _: "é" * 16).material == "é".encode() * 16


def test_a_secret_from_the_environment_may_be_any_bytes() -> None:
    """Python hands over those that are not UTF-8 as surrogates."""
    raw = bytes(range(128, 160)) + b"\xff"
    key = configured_key(signing_key("HS256"), lambda _: raw.decode("utf-8", "surrogateescape"))
    assert key.material == raw


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
def test_a_public_key_is_no_secret(algorithm: Algorithm) -> None:
    """The mistake that makes everybody a signer is caught at load."""
    assert "HS256 takes random bytes" in problem("HS256", signer(algorithm).public)


def test_an_empty_secret_is_refused() -> None:
    """As an unset variable would be."""
    assert "empty" in problem("HS256", "")


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
@pytest.mark.parametrize("garbage", ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END"])
def test_what_is_no_pem_is_refused(algorithm: Algorithm, garbage: str) -> None:
    """With what is wanted."""
    assert "no public key in PEM form" in problem(algorithm, garbage)


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
def test_a_private_key_is_refused(algorithm: Algorithm) -> None:
    """The gateway verifies only: what it does not have cannot be stolen from it."""
    private = signer(algorithm).private
    assert "private key does not belong" in problem(algorithm, private)
    assert private.splitlines()[1] not in problem(algorithm, private)


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
@pytest.mark.parametrize("other", PUBLIC_ALGORITHMS)
def test_the_key_fits_the_algorithm(algorithm: Algorithm, other: Algorithm) -> None:
    """An RSA key for ES256 is found at load, not at the first request."""
    if algorithm != other:
        assert f"{algorithm} needs an" in problem(algorithm, signer(other).public)


@pytest.mark.parametrize(
    ("algorithm", "pem", "reason"),
    [
        ("ES256", public_pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "P-256"),
        ("ES256", public_pem(ec.generate_private_key(ec.SECP256K1()).public_key()), "P-256"),
        ("EdDSA", public_pem(ed448.Ed448PrivateKey.generate().public_key()), "Ed25519"),
    ],
)
def test_other_curves_are_refused(algorithm: Algorithm, pem: str, reason: str) -> None:
    """Of the same kind of key."""
    assert reason in problem(algorithm, pem)


def test_a_weak_rsa_key_is_refused() -> None:
    """RFC 7518, section 3.3: 2048 bits or more."""
    weak = rsa.generate_private_key(65537, 1024).public_key()
    assert "2048 to 8192 bits" in problem("RS256", public_pem(weak))


def test_dsa_keys_are_refused() -> None:
    """A PEM may hold kinds of keys that no JWT uses."""
    key = dsa.generate_private_key(1024).public_key()
    assert "RSA, EC or Ed25519" in problem("RS256", public_pem(key))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("fields", [set(), {"secret", "public_key"}, None])
def test_each_algorithm_takes_one_of_the_two_fields(
    algorithm: Algorithm, fields: set[str] | None
) -> None:
    """Neither none, nor both, nor the other one."""
    wanted = "secret" if algorithm == "HS256" else "public_key"
    given = {"secret", "public_key"} - {wanted} if fields is None else fields
    signing = SigningKey.model_construct(
        id="site",
        algorithm=algorithm,
        workspaces=["acme"],
        secret=Secret(env="A") if "secret" in given else None,
        public_key=Secret(env="B") if "public_key" in given else None,
    )
    with pytest.raises(ValueError, match=f"'site': {algorithm} takes `{wanted}` and nothing else"):
        configured_key(signing, lambda _: "x" * 64)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_read_twice_is_the_same_key(algorithm: Algorithm) -> None:
    """What is remembered of a key outlives its being read again; another key is another."""
    assert verifier(signer(algorithm)) == verifier(signer(algorithm))
    assert verifier(signer(algorithm)) != verifier(signer(algorithm, 1))
    assert verifier(signer(algorithm)) != verifier(signer(algorithm), workspaces=("acme",))
