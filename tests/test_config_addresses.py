"""Addresses and headers that a config may name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.addresses import base_url, header_name, header_value, key_set_url, origin


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://vllm_1.internal.", "http://vllm_1.internal."),
    ],
)
def test_base_urls(written: str, kept: str) -> None:
    """An upstream's address is kept without a final slash."""
    assert base_url(written) == kept


NO_ADDRESS = [
    "",
    "llm:8000",
    "llm.example/v1",
    "ftp://llm.example",
    "https://",
    "https:///v1",
    "https://user@llm.example",
    "https://user:pass@llm.example",
    "https://llm.example:port",
    "https://llm.example:0",
    "https://llm.example:99999",
    "https://[::1",
    "https://[::x]",
    "https://llm example",
    "https://llm.example/\n",
    "https://llm.exam\tple",
    "https://llm*.example",
    "https://-llm.example",
    "https://münchen.example",
]


@pytest.mark.parametrize("written", [*NO_ADDRESS, "https://a.example?key=1", "https://a.example#x"])
def test_what_is_no_base_url(written: str) -> None:
    """Neither a secret (user, query) nor what would be cut from the request may be in it."""
    with pytest.raises(ValueError, match="an address such as"):
        base_url(written)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("*", "*"),
        ("https://www.acme.com", "https://www.acme.com"),
        ("HTTPS://WWW.ACME.com", "https://www.acme.com"),
        ("https://www.acme.com:443", "https://www.acme.com"),
        ("http://www.acme.com:443", "http://www.acme.com:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_origins(written: str, kept: str) -> None:
    """An origin is kept as browsers send it, or it would never match."""
    assert origin(written) == kept


@pytest.mark.parametrize(
    "written",
    [
        *NO_ADDRESS,
        "null",
        "https://acme.com/",
        "https://acme.com/shop",
        "https://acme.com?",
        "https://acme.com#",
        "https://*.acme.com",
        "**",
    ],
)
def test_what_is_no_origin(written: str) -> None:
    """An origin has no path, and only "*" alone stands for others."""
    with pytest.raises(ValueError, match="an origin such as"):
        origin(written)


@pytest.mark.parametrize(
    "written",
    [
        "https://id.acme.com/jwks.json?tenant=1",
        "http://127.0.0.1:9000/jwks",
        "http://[::1]/jwks",
        "http://localhost/jwks",
    ],
)
def test_key_set_urls(written: str) -> None:
    """https, or this machine."""
    assert key_set_url(written) == written


@pytest.mark.parametrize(
    "written",
    [*NO_ADDRESS, "http://id.acme.com/jwks", "http://10.0.0.1/jwks", "http://localhost.acme.com/"],
)
def test_what_is_no_key_set_url(written: str) -> None:
    """Anybody on the way of plain http could put in a key of their own."""
    with pytest.raises(ValueError, match="an https address"):
        key_set_url(written)


@pytest.mark.parametrize("name", ["X-Title", "HTTP-Referer", "OpenAI-Organization", "User-Agent"])
def test_header_names(name: str) -> None:
    """Headers that say who asks are the operator's to set."""
    assert header_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "api-key",
        "X-API-Key",
        "apikey",
        "X-Auth-Token",
        "X-Goog-Api-Key",
        "X_Secret",
        "Password",
    ],
)
def test_credentials_are_no_headers(name: str) -> None:
    """A header that carries a credential would put a secret into the file."""
    with pytest.raises(ValueError, match="no credential"):
        header_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "keep-alive",
        "te",  # codespell:ignore te
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Proxy-Connection",
        "Host",
        "Content-Length",
        "Content-Type",
        "Accept-Encoding",
    ],
)
def test_the_gateways_own_headers(name: str) -> None:
    """What is of one connection, or what the gateway says itself, cannot be set."""
    with pytest.raises(ValueError, match="sets itself"):
        header_name(name)


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X-Ü", "X-A\r\n", "X(A)"])
def test_what_is_no_header_name(name: str) -> None:
    """A header's name is a token (RFC 9110, section 5.6.2)."""
    with pytest.raises(ValueError, match="a header's name"):
        header_name(name)


@pytest.mark.parametrize("value", ["", " a", "a ", "a\r\nHost: b", "a\0", "ü", "a\x7f"])
def test_what_is_no_header_value(value: str) -> None:
    """No line end, so that nothing follows it that was not asked for."""
    with pytest.raises(ValueError, match="one line"):
        header_value(value)


@given(st.text() | st.from_regex(r"https?://[\[\]:@/?#.a-z0-9%-]*", fullmatch=True))
def test_any_text(written: str) -> None:
    """Every reader answers with a text or a ValueError; what it keeps, it keeps again."""
    for read in (base_url, key_set_url, origin, header_name, header_value):
        try:
            kept = read(written)
        except ValueError:
            continue
        assert read(kept) == kept
