"""What browsers are told, origin by origin."""

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.config.routes import Origins
from gateway.http.cors import cors_headers, is_preflight, preflight

SITE = "https://a.example"


@pytest.mark.parametrize(
    ("origin", "allowed", "admitted"),
    [
        (SITE, {SITE}, True),
        (SITE, {"*"}, True),
        ("null", {"*"}, True),
        ("null", {SITE}, False),
        ("https://\u00e9.example", {"*"}, False),
        ("https://\udcff.example", {"*"}, False),
        (SITE + ".evil.example", {SITE}, False),
        ("*", {SITE}, False),
        ("", {SITE}, False),
        (None, {SITE}, False),
        (None, {"*"}, False),
        (SITE, set(), False),
    ],
)
def test_origin(origin: str | None, allowed: set[str], admitted: bool) -> None:
    """An allowed origin is named, never "*": the answer differs by origin, and says so."""
    headers = cors_headers(origin, Origins(frozenset(allowed)))
    assert headers["Vary"] == "Origin"
    assert headers.get("Access-Control-Allow-Origin") == (origin if admitted else None)
    assert ("Access-Control-Expose-Headers" in headers) == admitted


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("OPTIONS", {"Origin": SITE, "Access-Control-Request-Method": "POST"}, True),
        ("OPTIONS", {"Origin": SITE}, False),
        ("OPTIONS", {"Access-Control-Request-Method": "POST"}, False),
        ("POST", {"Origin": SITE, "Access-Control-Request-Method": "POST"}, False),
    ],
)
def test_preflight(method: str, headers: dict[str, str], expected: bool) -> None:
    """Fetch standard: OPTIONS with both headers. Any other OPTIONS is a method like others."""
    assert is_preflight(make_mocked_request(method, "/api/v1/chat", headers)) is expected


def test_what_a_preflight_allows() -> None:
    """The headers that clients of some dialect send beside the body's own."""
    allowed = preflight("POST").headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "X-Agent-Identifier"} <= set(allowed)
