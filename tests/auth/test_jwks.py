"""Key sets: which keys are used, with which algorithm, and which are left out."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.auth.jwks import KeySet, Trust, parse_jwks
from gateway.config.model import Algorithm, PublicAlgorithm
from gateway.core.events import Json
from gateway.wire import json
from tests.auth.signers import PUBLIC_ALGORITHMS, TRUST, key_set, signer, verifier


def parse(*jwks: Json, trust: Trust = TRUST) -> KeySet:
    return parse_jwks(key_set(*jwks), trust)


def skipped(jwk: Json, trust: Trust = TRUST) -> str:
    """Why the key was left out; a good key beside it is used all the same."""
    found = parse(jwk, signer("EdDSA").published("good"), trust=trust)
    assert ("good" in set(found.keys)) == ("EdDSA" in trust.algorithms)
    (reason, *_) = found.skipped
    assert reason.startswith("key 0: ")
    return reason


def only(*algorithms: PublicAlgorithm) -> Trust:
    return Trust(frozenset(algorithms), TRUST.workspaces)


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
@pytest.mark.parametrize("said", [True, False])
def test_a_key_is_pinned_to_its_algorithm(algorithm: Algorithm, said: bool) -> None:
    """To its `alg`, or to the one that fits its type, for the set's workspaces."""
    changes: dict[str, Json] = {"alg": algorithm} if said else {}
    found = parse(signer(algorithm).published("a", **changes, use="sig", x5t="ignored"))
    assert found == KeySet({"a": verifier(signer(algorithm), "a")}, ())


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
def test_an_algorithm_that_is_not_configured_is_skipped(algorithm: PublicAlgorithm) -> None:
    """Though the gateway could."""
    trust = only(*(other for other in PUBLIC_ALGORITHMS if other != algorithm))
    assert "algorithm" in skipped(signer(algorithm).published(), trust)


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "ES256", "HS256", "none", "", None, 7])
def test_a_key_meant_for_another_algorithm_is_skipped(alg: Json) -> None:
    """Never used for what its owner did not say."""
    assert "algorithm" in skipped(signer("RS256").published(alg=alg))


def test_symmetric_keys_are_refused() -> None:
    """A secret that is published is none."""
    assert "secret" in skipped({"kty": "oct", "kid": "a", "k": "A" * 43, "alg": "HS256"})
    assert "not supported" in skipped({"kty": "oct", "kid": "a"})


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
def test_private_keys_are_skipped(algorithm: Algorithm) -> None:
    """Whoever reads the set could sign with them."""
    assert "secret" in skipped(signer(algorithm).published(d="AAAA"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kid": ""}, "no `kid`"),
        ({"kid": 7}, "no `kid`"),
        ({"use": "enc"}, "not for signatures"),
        ({"use": None}, "not for signatures"),
        ({"key_ops": ["sign"]}, "not for signatures"),
        ({"key_ops": "verify"}, "not for signatures"),
        ({"kty": "RSA"}, "not supported"),
        ({"kty": "AKP"}, "not supported"),
        ({"kty": None}, "not supported"),
        ({"crv": "P-384"}, "not supported"),
        ({"crv": ["P-256"]}, "not supported"),
        ({"x": None}, "missing"),
        ({"x": 7}, "missing"),
        ({"x": ""}, "no key"),
        ({"x": "A"}, "no key"),
        ({"x": "!!!"}, "no key"),
        ({"x": "é"}, "no key"),
        ({"x": "A" * 43}, "no key"),
    ],
)
def test_keys_that_cannot_be_used_are_skipped(changes: dict[str, Json], reason: str) -> None:
    """Each with its reason; the others are used."""
    assert reason in skipped({**signer("ES256").published(), **changes})


@pytest.mark.parametrize("jwk", [None, 7, "key", [], {}])
def test_entries_that_are_no_keys_are_skipped(jwk: Json) -> None:
    """As everything unknown in a set."""
    assert "no `kid`" in skipped(jwk)


def test_a_weak_key_is_skipped() -> None:
    """An RSA modulus of 1024 bits."""
    modulus = "8" + "A" * 169 + "Q"
    assert "2048" in skipped({"kty": "RSA", "kid": "a", "n": modulus, "e": "AQAB"})


def test_the_first_of_two_keys_with_one_kid_is_used() -> None:
    """A token names one key."""
    found = parse(signer("ES256").published("a"), signer("EdDSA").published("a"))
    assert found.keys == {"a": verifier(signer("ES256"), "a")}
    assert found.skipped == ("key 1: its `kid` is that of an earlier key",)


def test_an_empty_set_is_a_set() -> None:
    """Its publisher has withdrawn every key."""
    assert parse() == KeySet({}, ())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"{}", b'{"keys":{}}', b'{"keys":null}', b"<html></html>"]
)
def test_what_is_no_set_is_an_error(data: bytes) -> None:
    """And not an empty set."""
    with pytest.raises(ValueError, match="no JSON Web Key Set"):
        parse_jwks(data, TRUST)


_FIELDS = ["kty", "crv", "kid", "alg", "use", "key_ops", "n", "e", "x", "y"]
_VALUES = (
    st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "RS256", "a", "AQAB", "AA", "", "="])
    | st.text(max_size=60)
    | st.none()
    | st.integers(-(2**63), 2**63)
    | st.lists(st.text(max_size=3), max_size=2)
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(PUBLIC_ALGORITHMS),
    st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=4),
)
def test_every_entry_is_used_or_skipped(algorithm: Algorithm, changes: dict[str, Json]) -> None:
    """Whatever a publisher writes; nothing is raised."""
    found = parse({**signer(algorithm).published(), **changes})
    assert len(found.keys) + len(found.skipped) == 1


@given(st.binary(max_size=200))
def test_any_bytes_are_a_set_or_an_error(data: bytes) -> None:
    """Nothing but `ValueError` is raised."""
    try:
        found = parse_jwks(data, TRUST)
    except ValueError:
        return
    assert json.loads(data)
    assert not found.keys
