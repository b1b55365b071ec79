"""Making keys: random, plain to copy, and signed only with what fits."""

import re

import jwt
import pytest

from gateway.auth.keyring import Keyring
from gateway.auth.mint import Environment, key_hash, new_key, sign_key
from gateway.auth.signed import SignedKeys
from gateway.config.model import Algorithm
from tests.auth.signers import ALGORITHMS, CLAIMS, NOW, RULES, signer, verifier


@pytest.mark.parametrize("env", ["live", "test"])
def test_a_new_key_has_256_random_bits_in_letters_and_digits(env: Environment) -> None:
    """62 ** 43 is more than 2 ** 256."""
    keys = {new_key(env) for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(f"oc_{env}_[A-Za-z0-9]{{43}}", key) for key in keys)


def test_the_hash_is_sha256_of_the_whole_key() -> None:
    """printf %s oc_test_demo | sha256sum"""
    assert (
        key_hash("oc_test_demo")
        == "sha256:5a5ea74416c0b20af3294fbe06c0a7326cca68294460daae6d9563fedd96cfaf"
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_key_is_one_that_the_gateway_admits(algorithm: Algorithm) -> None:
    """With the `kid` that names its verification key."""
    made_by = signer(algorithm)
    key = sign_key("test", CLAIMS, kid="k1", algorithm=algorithm, material=made_by.private)
    assert key.startswith("oc_test_ey")
    keyring = Keyring(keys=[], signed=SignedKeys([verifier(made_by)], rules=RULES))
    assert keyring.admit(key, NOW).key_id == "visitor"
    assert jwt.get_unverified_header(key.removeprefix("oc_test_"))["alg"] == algorithm


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("material", ["", "nonsense", b"\xff\xfe", "public", "other"])
def test_what_does_not_fit_signs_nothing(algorithm: Algorithm, material: str | bytes) -> None:
    """And is not repeated in the error."""
    other: Algorithm = "RS256" if algorithm != "RS256" else "ES256"
    public = "x" * 31 if algorithm == "HS256" else signer(algorithm).public
    named = {"public": public, "other": signer(other).private}
    text = named.get(material, material) if isinstance(material, str) else material
    with pytest.raises(ValueError, match="no private key for") as caught:
        sign_key("live", CLAIMS, kid="k1", algorithm=algorithm, material=text)
    assert str(caught.value) == f"this is no private key for {algorithm}, in PEM form"
