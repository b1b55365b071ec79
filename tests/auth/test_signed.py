"""Signed keys: every algorithm, every claim, every way to cheat."""

import contextlib
from collections.abc import Mapping
from hashlib import sha256

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.auth import signed as signed_module
from gateway.auth.claims import CLOCK_LEEWAY
from gateway.auth.keyring import Keyring, Principal
from gateway.auth.signed import SignedKeys
from gateway.auth.verification import VerificationKey
from gateway.config.model import Algorithm
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json
from tests.auth.signers import (
    ALGORITHMS,
    CLAIMS,
    NOW,
    PUBLIC_ALGORITHMS,
    RULES,
    changed,
    forge,
    signer,
    verifier,
)

HMAC = signer("HS256")


class Source:
    """A key set whose keys a test changes."""

    def __init__(self, *keys: VerificationKey) -> None:
        self.keys: Mapping[str, VerificationKey] = {key.kid: key for key in keys}
        self.wanted: list[float] = []

    def want(self, now: float) -> None:
        self.wanted.append(now)


def ring(*keys: VerificationKey, sources: tuple[Source, ...] = ()) -> Keyring:
    return Keyring(keys=[], signed=SignedKeys(keys, rules=RULES, sources=sources))


def admit(keyring: Keyring, token: str, now: float = NOW) -> Principal:
    return keyring.authenticate(f"Bearer oc_live_{token}", now)


def refused(keyring: Keyring, token: str, now: float = NOW) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        admit(keyring, token, now)
    return caught.value


def invalid(keyring: Keyring, token: str, reason: str, now: float = NOW) -> None:
    error = refused(keyring, token, now)
    assert error.code is ErrorCode.KEY_INVALID
    assert reason in error.message


# What is accepted.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_verifies(algorithm: Algorithm) -> None:
    """The claims become the principal."""
    made_by = signer(algorithm)
    token = made_by.token(agents=[1, 2], user="u-1", nbf=NOW, iat=NOW, jti="fresh")
    assert admit(ring(verifier(made_by)), token) == Principal(
        key_id="visitor",
        workspace="acme",
        agents=frozenset({1, 2}),
        tier="widget",
        user="u-1",
        expires=NOW + 900,
        signed=True,
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_key_of_the_same_algorithm_does_not_verify(algorithm: Algorithm) -> None:
    """The signature counts, not the `kid`."""
    invalid(ring(verifier(signer(algorithm))), signer(algorithm, 1).token(), "its signature")


def test_optional_claims_may_be_left_out() -> None:
    """Every agent, no user."""
    principal = admit(ring(verifier(HMAC)), HMAC.token())
    assert (principal.agents, principal.user) == (None, None)


def test_an_empty_list_of_agents_is_none_of_them() -> None:
    """It is not the same as no list."""
    assert admit(ring(verifier(HMAC)), HMAC.token(agents=[])).agents == frozenset()


@pytest.mark.parametrize("env", ["live", "test"])
def test_both_environments_are_prefixes_of_signed_keys(env: str) -> None:
    """The prefix is not part of what is signed."""
    keyring = ring(verifier(HMAC))
    assert keyring.authenticate(f"Bearer oc_{env}_{HMAC.token()}", NOW).key_id == "visitor"


# What is refused.


def test_none_is_no_algorithm() -> None:
    """Whatever stands where the signature should."""
    header: dict[str, Json] = {"alg": "none", "kid": "k1"}
    for keyring in (ring(verifier(HMAC)), ring(verifier(signer("RS256")))):
        invalid(keyring, forge(header, changed({})), "its signature or algorithm")
        unsigned = forge(header, changed({})).rpartition(".")[0] + "."
        assert refused(keyring, unsigned).code is ErrorCode.KEY_INVALID


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_hmac_secret(algorithm: Algorithm, alg: str) -> None:
    """Whoever knows a public key (everybody) must not sign with it."""
    made_by = signer(algorithm)
    token = forge({"alg": alg, "kid": "k1"}, changed({}), made_by.public.encode())
    invalid(ring(verifier(made_by)), token, "its signature or algorithm")


def test_the_header_cannot_choose_a_stronger_or_weaker_relative() -> None:
    """An RSA key pinned to RS256 verifies neither PS256 nor RS512."""
    made_by = signer("RS256")
    for alg in ("PS256", "RS384", "RS512"):
        token = jwt.encode(changed({}), made_by.private, alg, headers={"kid": "k1"})
        invalid(ring(verifier(made_by)), token, "its signature or algorithm")


def test_a_key_cannot_sign_under_the_name_of_another() -> None:
    """With the `kid` of one key and the algorithm and signature of another."""
    rsa, ec = signer("RS256"), signer("ES256")
    keyring = ring(verifier(rsa, "rsa"), verifier(ec, "ec", ("globex",)))
    assert admit(keyring, rsa.token("rsa")).workspace == "acme"
    invalid(keyring, ec.token("rsa"), "its signature or algorithm")
    invalid(keyring, rsa.token("ec"), "its signature or algorithm")


def test_a_key_signs_for_its_own_workspaces_only() -> None:
    """The signature of one customer's service is worth nothing at another's."""
    keyring = ring(verifier(HMAC, workspaces=("globex",)))
    assert admit(keyring, HMAC.token(workspace="globex")).workspace == "globex"
    invalid(keyring, HMAC.token(), "`workspace`")


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("sub", "absent"),
        ("sub", ""),
        ("sub", 7),
        ("sub", "two words"),
        ("sub", "line\nbreak"),
        ("sub", "é"),
        ("sub", "x" * 129),
        ("workspace", "absent"),
        ("workspace", "elsewhere"),
        ("workspace", ["acme"]),
        ("tier", "absent"),
        ("tier", "platinum"),
        ("tier", None),
        ("agents", None),
        ("agents", 7),
        ("agents", "7"),
        ("agents", ["7"]),
        ("agents", [7, True]),
        ("agents", [7.0]),
        ("user", None),
        ("user", ""),
        ("user", "a b"),
        ("user", "a\n"),
        ("user", "x" * 129),
        ("user", 7),
        ("exp", "absent"),
        ("exp", None),
        ("exp", True),
        ("exp", str(NOW + 900)),
        ("nbf", None),
        ("nbf", "soon"),
        ("nbf", False),
        ("iat", "now"),
        ("jti", None),
        ("jti", 7),
        ("jti", ""),
    ],
)
def test_a_claim_of_the_wrong_kind_refuses_the_key(claim: str, value: Json) -> None:
    """It never counts as absent: an absent `agents` would be all of them."""
    invalid(ring(verifier(HMAC)), HMAC.altered(claim, value), f"`{claim}`")


def test_a_revoked_key_is_invalid() -> None:
    """By its `jti`."""
    invalid(ring(verifier(HMAC)), HMAC.token(jti="stolen"), "it was revoked")


@pytest.mark.parametrize("payload", [None, 7, "text", [CLAIMS]])
def test_a_payload_that_is_no_object_is_refused(payload: Json) -> None:
    """Signed or not."""
    token = HMAC.sign(payload, {"kid": "k1"})
    invalid(ring(verifier(HMAC)), token, "its payload is not a JSON object")


def test_a_payload_that_is_no_json_is_refused() -> None:
    """Though it was signed."""
    token = jwt.PyJWS().encode(b"{", HMAC.private, "HS256", headers={"kid": "k1"})
    invalid(ring(verifier(HMAC)), token, "its payload is not a JSON object")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"alg": "HS256"}, "no `kid`"),
        ({"alg": "HS256", "kid": None}, "not a JWT"),
        ({"alg": "HS256", "kid": 1}, "not a JWT"),
        ({"alg": "HS256", "kid": ["k1"]}, "not a JWT"),
        ({"alg": "HS256", "kid": "k2"}, "no verification key"),
        ({"kid": "k1"}, "algorithm"),
        ({"alg": ["HS256"], "kid": "k1"}, "algorithm"),
        ({"alg": {"HS256": 1}, "kid": "k1"}, "algorithm"),
        ({"alg": "hs256", "kid": "k1"}, "algorithm"),
        ({"alg": "HS256", "kid": "k1", "crit": ["x"], "x": 1}, "not a JWT"),
        ({"alg": "HS256", "kid": "k1", "crit": ["b64"], "b64": False}, "not a JWT"),
        (["alg"], "not a JWT"),
        (None, "not a JWT"),
    ],
)
def test_odd_headers_are_refused(header: Json, reason: str) -> None:
    """Even with a good signature beneath."""
    token = forge(header, changed({}), HMAC.private.encode())
    invalid(ring(verifier(HMAC)), token, reason)


def test_a_deeply_nested_header_is_refused() -> None:
    """It would exhaust the stack of a parser."""
    nested: Json = []
    for _ in range(180):
        nested = [nested]
    token = forge({"alg": "HS256", "kid": nested}, {})
    assert refused(ring(verifier(HMAC)), token).code is ErrorCode.KEY_INVALID
    assert refused(ring(verifier(HMAC)), f"{'W1tb' * 900}.e30.e30").code is ErrorCode.KEY_INVALID


@given(position=st.integers(0, 10_000), character=st.sampled_from("ABCxyz019-_."))
def test_a_changed_character_never_verifies(position: int, character: str) -> None:
    """Anywhere in the token."""
    token = signer("ES256").token()
    index = position % len(token)
    altered = token[:index] + character + token[index + 1 :]
    if altered == token:
        assert admit(ring(verifier(signer("ES256"))), altered).key_id == "visitor"
    else:
        assert refused(ring(verifier(signer("ES256"))), altered).code is ErrorCode.KEY_INVALID


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["sub", "workspace", "tier", "agents", "user", "exp", "nbf", "jti"]), JSONS)
def test_any_value_of_any_claim_is_a_principal_or_a_refusal(claim: str, value: Json) -> None:
    """A trusted signer may still have a bug; nothing but `GatewayError` is raised."""
    with contextlib.suppress(GatewayError):
        principal = admit(ring(verifier(HMAC)), HMAC.altered(claim, value))
        assert principal.workspace in {"acme", "globex"}
        assert principal.tier in RULES.tiers


def test_a_refusal_holds_neither_the_token_nor_the_secret() -> None:
    """Nor does what is printed of the objects."""
    key = verifier(HMAC)
    token = signer("HS256", 1).token()
    error = refused(ring(key), token)
    for text in (repr(error), error.message, repr(key), str(key)):
        assert token not in text
        assert HMAC.private not in text


# The clock.


@pytest.mark.parametrize(
    ("claim", "value", "code"),
    [
        ("exp", NOW + 0.001, None),
        ("exp", NOW, ErrorCode.KEY_EXPIRED),
        ("exp", NOW - 1, ErrorCode.KEY_EXPIRED),
        ("exp", -1, ErrorCode.KEY_EXPIRED),
        ("exp", 1e300, None),
        ("nbf", NOW + CLOCK_LEEWAY, None),
        ("nbf", NOW + CLOCK_LEEWAY + 0.001, ErrorCode.KEY_INVALID),
        ("nbf", 0, None),
        ("iat", NOW + CLOCK_LEEWAY, None),
        ("iat", NOW + CLOCK_LEEWAY + 0.001, ErrorCode.KEY_INVALID),
    ],
)
def test_the_edges_of_validity(claim: str, value: float, code: ErrorCode | None) -> None:
    """`exp` to the moment, `nbf` and `iat` with some leeway, all by the given clock."""
    keyring, token = ring(verifier(HMAC)), HMAC.altered(claim, value)
    if code is None:
        assert admit(keyring, token).key_id == "visitor"
    else:
        assert refused(keyring, token).code is code


def test_only_the_given_clock_counts() -> None:
    """A key of long ago and one of far ahead are both valid in their time."""
    keyring = ring(verifier(HMAC))
    past = HMAC.token(exp=2000, nbf=1000, iat=1000)
    assert admit(keyring, past, now=1500.0).expires == 2000
    future = HMAC.token(exp=9e9, nbf=8e9)
    assert admit(keyring, future, now=8.5e9).expires == 9e9
    invalid(keyring, future, "not valid yet", now=NOW)


# What is remembered.


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures are verified."""
    seen: list[str] = []
    verify = VerificationKey.verify

    def counted(key: VerificationKey, token: str) -> bytes | None:
        seen.append(token)
        return verify(key, token)

    monkeypatch.setattr(VerificationKey, "verify", counted)
    return seen


def test_a_signature_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy key costs a hash a request."""
    seen, keyring, token = counting(monkeypatch), ring(verifier(HMAC)), HMAC.token()
    assert len({admit(keyring, token, NOW + second) for second in range(10)}) == 1
    assert seen == [token]


def test_a_remembered_key_expires_all_the_same() -> None:
    """The clock is asked at each use; it may also go back."""
    keyring, token = ring(verifier(HMAC)), HMAC.token(nbf=NOW)
    admit(keyring, token)
    assert refused(keyring, token, NOW + 900).code is ErrorCode.KEY_EXPIRED
    assert admit(keyring, token, NOW + 899.9).key_id == "visitor"
    invalid(keyring, token, "not valid yet", NOW - 60)


@given(st.lists(st.floats(NOW - 2000, NOW + 2000), max_size=30))
def test_no_order_of_uses_outlives_the_expiry(moments: list[float]) -> None:
    """Whatever the clock did before."""
    keyring, token = ring(verifier(HMAC)), HMAC.token()
    for moment in moments:
        if moment < NOW + 900:
            assert admit(keyring, token, moment).key_id == "visitor"
        else:
            assert refused(keyring, token, moment).code is ErrorCode.KEY_EXPIRED


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used goes, and is verified anew."""
    monkeypatch.setattr(signed_module, "MAX_REMEMBERED", 3)
    signed = SignedKeys([verifier(HMAC)], rules=RULES)
    keyring, seen = Keyring(keys=[], signed=signed), counting(monkeypatch)
    tokens = [HMAC.token(sub=f"s{number}") for number in range(5)]
    for token in tokens:
        admit(keyring, token)
    assert len(signed._remembered) == 3
    admit(keyring, tokens[0])
    assert seen == [*tokens, tokens[0]]


def test_neither_keys_nor_refused_ones_are_remembered() -> None:
    """Digests only, and only of what was verified and admitted."""
    signed = SignedKeys([verifier(HMAC)], rules=RULES)
    keyring, token = Keyring(keys=[], signed=signed), HMAC.token()
    admit(keyring, token)
    for other in (HMAC.token(tier="x"), HMAC.token(exp=1), signer("HS256", 1).token()):
        refused(keyring, other)
    assert list(signed._remembered) == [sha256(f"oc_live_{token}".encode()).digest()]
    assert token not in repr(signed._remembered)


# Key sets.


def test_a_key_of_a_source_verifies() -> None:
    """Beside the configured ones."""
    ec = signer("ES256")
    keyring = ring(verifier(HMAC), sources=(Source(), Source(verifier(ec, "ec"))))
    assert admit(keyring, ec.token("ec")).key_id == "visitor"
    assert admit(keyring, HMAC.token()).key_id == "visitor"


def test_a_key_that_leaves_its_set_stops_working_at_once() -> None:
    """Though its tokens are remembered."""
    ec, source = signer("ES256"), Source(verifier(signer("ES256")))
    keyring, token = ring(sources=(source,)), ec.token()
    admit(keyring, token)
    source.keys = {}
    invalid(keyring, token, "no verification key")
    source.keys = {"k1": verifier(signer("ES256", 1))}
    invalid(keyring, token, "its signature")


def test_a_key_that_loses_a_workspace_stops_signing_for_it() -> None:
    """A remembered token is bound to the key as it was."""
    ec, source = signer("ES256"), Source(verifier(signer("ES256")))
    keyring, token = ring(sources=(source,)), ec.token()
    admit(keyring, token)
    source.keys = {"k1": verifier(ec, workspaces=("globex",))}
    invalid(keyring, token, "`workspace`")


def test_a_set_fetched_again_leaves_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same key read anew is the same key."""
    ec, source = signer("ES256"), Source(verifier(signer("ES256")))
    seen, keyring, token = counting(monkeypatch), ring(sources=(source,)), ec.token()
    admit(keyring, token)
    source.keys = {"k1": verifier(ec)}
    admit(keyring, token)
    assert seen == [token]


def test_a_set_cannot_take_the_place_of_anothers_key() -> None:
    """With the same `kid`, each key is worth its own workspaces."""
    mine, theirs = signer("ES256"), signer("ES256", 1)
    source = Source(verifier(theirs, workspaces=("globex",)))
    keyring = ring(verifier(mine, workspaces=("acme",)), sources=(source,))
    assert admit(keyring, mine.token()).workspace == "acme"
    assert admit(keyring, theirs.token(workspace="globex")).workspace == "globex"
    invalid(keyring, theirs.token(workspace="acme"), "`workspace`")
    invalid(keyring, mine.token(workspace="globex"), "`workspace`")


def test_an_unknown_kid_is_asked_for_and_not_waited_for() -> None:
    """Only where no set has it."""
    source = Source(verifier(signer("ES256")))
    keyring = ring(sources=(source,))
    admit(keyring, signer("ES256").token())
    invalid(keyring, signer("ES256", 1).token(), "its signature")
    assert source.wanted == []
    invalid(keyring, signer("ES256", 1).token("new"), "no verification key")
    assert source.wanted == [NOW]


def test_two_signing_keys_have_two_ids() -> None:
    """Or one of them would never be asked."""
    with pytest.raises(ValueError, match="two signing keys have the id 'k1'"):
        ring(verifier(HMAC), verifier(signer("ES256")))
