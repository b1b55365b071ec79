"""Widget identity: the hash a site vouches with."""

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.identity import identity_matches

SECRET = "s3cret-of-the-widget"
# printf %s user-17 | openssl dgst -sha256 -hmac s3cret-of-the-widget
HASH = "9da9d2f4c3be77e62122928ca2b91a142b66501e0b673cd0d9639af78c725192"


@pytest.mark.parametrize("user_hash", [HASH, HASH.upper()])
def test_the_right_hash_matches(user_hash: str) -> None:
    """In either case of its digits."""
    assert identity_matches(SECRET, "user-17", user_hash)


@pytest.mark.parametrize(
    "user_hash", [None, "", "x", HASH[:-1], HASH + "0", f" {HASH}", "é" * 64, "\ud800", "0" * 64]
)
def test_any_other_hash_does_not(user_hash: str | None) -> None:
    """Whatever a browser sends."""
    assert not identity_matches(SECRET, "user-17", user_hash)


def test_the_hash_is_of_this_user_and_this_secret() -> None:
    """Neither another visitor nor another agent's site can use it."""
    assert not identity_matches(SECRET, "user-18", HASH)
    assert not identity_matches(SECRET + "x", "user-17", HASH)


def test_an_empty_secret_vouches_for_nobody() -> None:
    """Anybody could compute its hashes."""
    known = hmac.new(b"", b"user-17", sha256).hexdigest()
    assert not identity_matches("", "user-17", known)


@given(st.text(min_size=1), st.text())
def test_every_id_has_its_hash(secret: str, user_id: str) -> None:
    """Ids and secrets are UTF-8."""
    expected = hmac.new(secret.encode(), user_id.encode(), sha256).hexdigest()
    assert identity_matches(secret, user_id, expected)
    assert not identity_matches(secret, user_id + "x", expected)
