"""Opaque keys: each refusal with its code, rotation by overlap, and the order of the checks."""

import logging
import string
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.auth.keyring import MAX_KEY_LENGTH, Keyring, Principal
from gateway.auth.mint import key_hash
from gateway.auth.signed import SignedKeys
from gateway.config.model import Key
from gateway.core.errors import ErrorCode, GatewayError
from tests.auth.signers import NOW, RULES, signer, verifier

KEY = "oc_live_Tq3Xv9"
OTHER = "oc_test_Zb7Lk2"


def entry(key: str = KEY, **fields: object) -> Key:
    return Key.model_validate(
        {"id": "web", "hash": key_hash(key), "workspace": "acme", "tier": "standard", **fields}
    )


def ring(*keys: Key) -> Keyring:
    return Keyring(keys=keys)


def refusal(keyring: Keyring, authorization: str | None, now: float = NOW) -> ErrorCode:
    with pytest.raises(GatewayError) as caught:
        keyring.authenticate(authorization, now)
    return caught.value.code


def test_a_known_key_is_its_entrys_principal() -> None:
    """The principal says what the entry says."""
    keyring = ring(entry(agents=[7, 9], expires="2099-01-01T00:00:00+02:00"))
    assert keyring.authenticate(f"Bearer {KEY}", NOW) == Principal(
        key_id="web",
        workspace="acme",
        agents=frozenset({7, 9}),
        tier="standard",
        user=None,
        expires=4070901600.0,
    )


def test_an_entry_without_agents_is_for_all_of_them() -> None:
    """None, not an empty set, is every agent."""
    assert ring(entry()).authenticate(f"Bearer {KEY}", NOW).agents is None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", " Bearer", "Bearer  "])
def test_the_scheme_is_in_any_case(scheme: str) -> None:
    """Schemes are case-insensitive and one or more spaces follow (RFC 9110, RFC 6750)."""
    assert ring(entry()).authenticate(f"{scheme} {KEY}", NOW).key_id == "web"


@pytest.mark.parametrize(
    "authorization",
    [None, "", " ", "Bearer", "Bearer ", "Basic dTpw", KEY, f"Token {KEY}", f"Bearer\t{KEY}"],
)
def test_no_key_is_missing(authorization: str | None) -> None:
    """No header, another scheme or a scheme alone is a missing key."""
    assert refusal(ring(entry()), authorization) is ErrorCode.KEY_MISSING


MALFORMED = [
    "x",
    "oc_live_",
    "oc_prod_Tq3Xv9",
    "OC_LIVE_Tq3Xv9",
    "sk_live_Tq3Xv9",
    "oc_live_Tq3 Xv9",
    "oc_live_Tq3\tXv9",
    "oc_live_Tq3Xv9\n",
    "oc_live_Tq3Xv9\x00",
    "oc_live_Tq3Xv\x7f",
    "oc_live_Tq3Xvé",
    "oc_live_Tq3Xv\udcff",
]


@pytest.mark.parametrize("key", MALFORMED)
def test_a_malformed_key_is_invalid_even_if_its_hash_is_known(key: str) -> None:
    """The form is checked before the hash is looked up."""
    known = Key.model_validate(
        {
            "id": "odd",
            "hash": f"sha256:{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}",
            "workspace": "acme",
            "tier": "standard",
        }
    )
    assert refusal(ring(known), f"Bearer {key}") is ErrorCode.KEY_INVALID


def test_the_longest_key_is_accepted_and_no_longer_one() -> None:
    """The limit is on the whole key, prefix included."""
    longest = "oc_live_".ljust(MAX_KEY_LENGTH, "a")
    keyring = ring(entry(longest), entry(longest + "a"))
    assert keyring.authenticate(f"Bearer {longest}", NOW).key_id == "web"
    assert refusal(keyring, f"Bearer {longest}a") is ErrorCode.KEY_INVALID


def test_an_unknown_key_is_invalid() -> None:
    """A hash without an entry."""
    assert refusal(ring(entry()), f"Bearer {OTHER}") is ErrorCode.KEY_INVALID


def test_a_key_is_the_whole_of_it() -> None:
    """The environment belongs to the key: the same random part elsewhere is another key."""
    assert refusal(ring(entry()), f"Bearer {KEY.replace('live', 'test')}") is ErrorCode.KEY_INVALID


@pytest.mark.parametrize(
    ("seconds", "code"), [(-1.0, None), (-0.001, None), (0.0, "expired"), (1e9, "expired")]
)
def test_a_key_expires_at_its_moment(seconds: float, code: str | None) -> None:
    """Valid until the very moment, in whatever offset it was written."""
    keyring = ring(entry(expires="2027-01-15T10:00:00+02:00"))
    moment = 1_800_000_000.0
    if code is None:
        assert keyring.authenticate(f"Bearer {KEY}", moment + seconds).expires == moment
    else:
        assert refusal(keyring, f"Bearer {KEY}", moment + seconds) is ErrorCode.KEY_EXPIRED


def test_a_disabled_key_is_invalid() -> None:
    """Disabled comes before expired: the entry was switched off on purpose."""
    keyring = ring(
        entry(disabled=True), entry(OTHER, disabled=True, expires="2001-01-01T00:00:00Z")
    )
    assert refusal(keyring, f"Bearer {KEY}") is ErrorCode.KEY_INVALID
    assert refusal(keyring, f"Bearer {OTHER}") is ErrorCode.KEY_INVALID


def test_unknown_malformed_and_disabled_keys_are_refused_in_the_same_words() -> None:
    """Nobody learns from a refusal whether a key was ever valid."""
    keyring, said = ring(entry(disabled=True)), set()
    for key in (KEY, OTHER, "oc_nonsense"):
        with pytest.raises(GatewayError) as caught:
            keyring.authenticate(f"Bearer {key}", NOW)
        said.add((caught.value.code, caught.value.message))
    assert len(said) == 1


def test_a_key_is_replaced_with_an_overlap() -> None:
    """Two entries share an id while a client moves from one key to the next."""
    keyring = ring(entry(KEY, expires="2027-02-01T00:00:00Z"), entry(OTHER))
    assert keyring.authenticate(f"Bearer {KEY}", NOW).key_id == "web"
    assert keyring.authenticate(f"Bearer {OTHER}", NOW).key_id == "web"
    later = NOW + 365 * 86400
    assert refusal(keyring, f"Bearer {KEY}", later) is ErrorCode.KEY_EXPIRED
    assert keyring.authenticate(f"Bearer {OTHER}", later).key_id == "web"


def test_one_hash_has_one_entry() -> None:
    """Which of two entries a key would be nobody could tell."""
    with pytest.raises(ValueError, match="'web' and 'app' have the same hash"):
        ring(entry(), entry(id="app"))


def test_an_expiry_without_an_offset_is_refused() -> None:
    """Whatever made the entry: a moment without an offset is not a moment."""
    naive = entry().model_copy(update={"expires": "2027-01-01T00:00:00"})
    with pytest.raises(ValueError, match="'web': `expires` needs an offset"):
        ring(naive)


def test_an_opaque_key_may_look_like_a_signed_one() -> None:
    """No form is assumed of an opaque key: a known hash comes first."""
    key = "oc_live_a.b.c"
    signed = SignedKeys([verifier(signer("HS256"))], rules=RULES)
    keyring = Keyring(keys=[entry(key)], signed=signed)
    assert keyring.authenticate(f"Bearer {key}", NOW).key_id == "web"


def test_signed_keys_are_unknown_where_none_are_configured() -> None:
    """Without verification keys a signed key is like any other."""
    token = signer("HS256").token()
    assert refusal(ring(entry()), f"Bearer oc_live_{token}") is ErrorCode.KEY_INVALID


def test_find_tells_of_keys_that_are_not_valid() -> None:
    """Whoever holds a key may ask the operator why it is refused."""
    known = entry(disabled=True)
    assert ring(known).find(KEY) == known
    assert ring(known).find(OTHER) is None


@given(st.text())
@example("Bearer oc_live_\ud800")
@example("Bearer oc_live_a.b.c")
def test_whatever_a_client_sends_is_refused_and_never_breaks(header: str) -> None:
    """Any text is a missing or an invalid key."""
    signed = SignedKeys([verifier(signer("HS256"))], rules=RULES)
    keyring = Keyring(keys=[entry()], signed=signed)
    assert refusal(keyring, header) in {ErrorCode.KEY_MISSING, ErrorCode.KEY_INVALID}


@given(st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=60))
def test_a_refusal_never_repeats_the_key(body: str) -> None:
    """Messages go to clients and logs."""
    key = f"oc_live_{body}"
    with pytest.raises(GatewayError) as caught:
        ring(entry()).authenticate(f"Bearer {key}", NOW)
    assert key not in f"{caught.value!r} {caught.value.message}"


def test_authentication_writes_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """A flood of unknown keys leaves nothing behind but its hashes' time."""
    caplog.set_level(logging.DEBUG)
    keyring = ring(entry())
    entries = dict(keyring._entries)
    for number in range(100):
        refusal(keyring, f"Bearer oc_live_{number}")
    assert caplog.records == []
    assert keyring._entries == entries


def test_the_entries_of_an_id() -> None:
    """Several while a key is replaced, those that are refused as well."""
    old, new, other = entry(disabled=True), entry(OTHER), entry("oc_live_x", id="other")
    assert ring(old, other, new).named("web") == [old, new]
    assert ring(old, other, new).named("nobody") == []
