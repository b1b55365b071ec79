"""Clients behind proxies: whose limit is taken, and who is in the log."""

from pathlib import Path

import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.reloading import following, in_place
from tests.e2e.running import Running, config

SITE = "https://www.acme.example"
PUBLIC = f"""
[limits.tiers.widget]
requests = "1/1h"
[[agents]]
id = 2
workspace = "acme"
name = "Public"
targets = [ {{ upstream = "main" }} ]
public = {{ origins = ["{SITE}"], tier = "widget" }}
"""
TRUSTING = 'trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]'


def echoing(server: str) -> str:
    return config("", kind="echo", target="", server=server, more=PUBLIC)


async def status(gateway: Running, said: str, header: str = "X_Forwarded_For") -> int:
    """Of a visitor's turn; each address has one."""
    body: Json = {"agentId": 2, "message": "hi"}
    sent = {"Origin": SITE, header: said}
    return (await gateway.post("/api/v1/chat", body, None, **sent)).status


async def test_each_visitor_has_a_bucket(start: Start) -> None:
    """Behind proxies that are trusted; what a visitor says in front of their words is no other."""
    gateway = await start(echoing(TRUSTING))
    assert await status(gateway, "198.51.100.1") == 200
    assert await status(gateway, "198.51.100.1") == 429
    assert await status(gateway, "198.51.100.2, 10.0.0.1") == 200
    assert await status(gateway, "203.0.113.9, 198.51.100.2") == 429
    assert await status(gateway, "::ffff:198.51.100.2") == 429
    assert await status(gateway, "2001:db8:1:2::1") == 200
    assert await status(gateway, "[2001:db8:1:2::ffff]:80") == 429
    assert await status(gateway, "nonsense") == 200
    assert await status(gateway, "nonsense, other nonsense") == 429

    clients = [line["client"] for line in gateway.log_lines() if line["status"] == 200]
    assert clients == ["198.51.100.1", "198.51.100.2", "2001:db8:1:2::1", "127.0.0.1"]


@pytest.mark.parametrize("server", ["", 'trusted_proxies = ["10.0.0.0/8"]'])
async def test_strangers_share_their_own(start: Start, server: str) -> None:
    """By default nobody is trusted, whatever is said."""
    gateway = await start(echoing(server))
    assert await status(gateway, "198.51.100.1") == 200
    assert await status(gateway, "198.51.100.2") == 429
    assert {line["client"] for line in gateway.log_lines()} == {"127.0.0.1"}


async def test_the_other_header(start: Start) -> None:
    """One header counts, the other one is what a client says."""
    gateway = await start(echoing(TRUSTING + '\nclient_header = "Forwarded"'))
    assert await status(gateway, 'for="[2001:db8::1]:80";proto=https', "Forwarded") == 200
    assert await status(gateway, "for=198.51.100.7", "Forwarded") == 200
    assert await status(gateway, "198.51.100.8") == 200
    assert await status(gateway, "198.51.100.9") == 429
    clients = [line["client"] for line in gateway.log_lines()]
    assert clients == ["2001:db8::1", "198.51.100.7", "127.0.0.1", "127.0.0.1"]


async def test_it_is_the_same_for_keys(start: Start) -> None:
    """The log says who asked; the limit is the key's, wherever it is used."""
    gateway = await start(echoing(TRUSTING))
    answer = await gateway.post(
        "/api/v2/agents/1/chat", {"message": "hi"}, X_Forwarded_For="198.51.100.1"
    )
    nowhere = await gateway.request("GET", "/nowhere", X_Forwarded_For="198.51.100.2")
    assert (answer.status, nowhere.status) == (200, 404)
    clients = [line["client"] for line in gateway.log_lines()]
    assert clients == ["198.51.100.1", "198.51.100.2"]


async def test_who_is_trusted_follows_a_reload(tmp_path: Path) -> None:
    """The next request knows it."""
    async with following(tmp_path / "gateway.toml", echoing("")) as gateway:
        assert [await status(gateway, "198.51.100.1") for _ in range(2)] == [200, 429]
        in_place(gateway.path, echoing(TRUSTING))
        assert await gateway.reload() == (200, {"ok": True, "needs_restart": []})
        assert await status(gateway, "198.51.100.1") == 200
