"""One certificate, presented by several processes."""

import asyncio
from pathlib import Path

import aiohttp

from tests.certificates import DAY, pair
from tests.tls.shaking import anyone, shake
from tests.workers.several import AGENT, HEADERS, Several, config, several

SUCCESSFUL = "oc_gateway_config_last_reload_successful"
EXPIRY = "oc_gateway_tls_certificate_expiry_timestamp_seconds"

# So many new connections, that the kernel leaves no worker out.
MANY = 24


async def _shown(gateway: Several) -> set[int]:
    """The certificates that new connections see."""
    return {(await shake(gateway.url)).serial for _ in range(MANY)}


async def _talking(url: str, stop: asyncio.Event, *, kept: bool) -> int:
    """A client that asks until it is told to stop, on one connection or on a new one each time.
    How many whole answers it had; raises what went wrong with any."""
    had = 0
    connector = aiohttp.TCPConnector(ssl=anyone(), force_close=not kept)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
        while not stop.is_set():
            async with session.post(f"{url}{AGENT}/chat", json={"message": "Hello"}) as answer:
                assert answer.status == 200
                assert (await answer.read()).endswith(b"data: [DONE]\n\n")
            had += 1
    return had


async def test_a_renewal_loses_nobody(tmp_path: Path) -> None:
    """All workers present the new certificate once `POST /reload` has answered, and clients in the
    middle of everything notice nothing."""
    pairs = [pair(expires=days * DAY) for days in (1, 2, 3, 4)]
    text = config(3) + pairs[0].write(tmp_path)
    async with several(tmp_path, text) as gateway:
        stop = asyncio.Event()
        clients = [
            asyncio.ensure_future(_talking(gateway.url, stop, kept=kept))
            for kept in (True, True, False, False)
        ]
        for new in pairs[1:]:
            new.write(tmp_path)
            assert (await gateway.asked("/reload", "POST"))[0] == 200
            assert await _shown(gateway) == {new.serial}
            assert (await gateway.metrics())[EXPIRY] == new.expires.timestamp()
        stop.set()
        assert min(await asyncio.gather(*clients)) > 0


async def test_a_broken_pair_changes_nothing(tmp_path: Path) -> None:
    """In none of them; the metric and `POST /reload` say so, and the mended one is taken up."""
    first, new = pair(), pair()
    async with several(tmp_path, config(3) + first.write(tmp_path)) as gateway:
        (tmp_path / "site.key").write_text(new.key)
        status, told = await gateway.asked("/reload", "POST")

        assert (status, told["problems"][0]["where"]) == (422, "server.tls.key")
        metrics = await gateway.metrics()
        assert (metrics[SUCCESSFUL], metrics[EXPIRY]) == (0, first.expires.timestamp())
        assert await _shown(gateway) == {first.serial}

        new.write(tmp_path)
        assert (await gateway.asked("/reload", "POST"))[0] == 200
        assert await _shown(gateway) == {new.serial}
