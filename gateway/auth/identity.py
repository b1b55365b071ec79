"""Widget identity: a site vouches for its visitor's id with an HMAC.

The site's server computes `user_hash`, the hexadecimal HMAC-SHA256 of the user's id with the
agent's signing secret, and the widget sends both (Bookbag's widget documentation).
"""

import hmac
from hashlib import sha256


def identity_matches(secret: str, user_id: str, user_hash: str | None) -> bool:
    """Whether the hash vouches for the id; upper-case hexadecimal digits will do too.

    Never true with an empty secret, which everybody knows.
    """
    if user_hash is None or not secret:
        return False
    expected = hmac.new(_bytes(secret), _bytes(user_id), sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), _bytes(user_hash.lower()))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
