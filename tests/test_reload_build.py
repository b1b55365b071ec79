"""A snapshot from a config: what it makes, and how often."""

import ssl
import tomllib
from pathlib import Path

import pytest

from gateway.config.load import parse
from gateway.proxy.client import tls_context
from gateway.reload import build
from gateway.reload.build import build_snapshot

UPSTREAM = """
[upstreams.{name}]
kind = "openai"
base_url = "https://{name}.test/v1"
{more}
[[agents]]
id = {number}
workspace = "acme"
name = "{name}"
targets = [{{ upstream = "{name}", model = "m" }}]
"""


def test_upstreams_share_what_they_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is believed of servers is read once, however many there are."""
    made: list[bool | str] = []

    def counted(verify: bool | str, base: Path) -> ssl.SSLContext:
        made.append(verify)
        return tls_context(verify, base)

    monkeypatch.setattr(build, "tls_context", counted)
    more = ["", "", "verify = false", "verify = false", ""]
    text = "".join(
        UPSTREAM.format(name=f"u{number}", number=number, more=said)
        for number, said in enumerate(more, 1)
    )

    snapshot = build_snapshot(parse(tomllib.loads(text), Path("gateway.toml")), Path(), {})

    assert len(snapshot.clients) == 5
    assert made == [True, False]
