"""A page in a real browser speaks to a public agent, across origins and without a key."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import config
from tests.e2e.scripted import END, ScriptedUpstream, Wait, chunk, delta, finish, head, sse

# What a widget does: POST JSON to another origin, read the stream as it arrives, show its text.
_PAGE = """<!doctype html><meta charset="utf-8"><p id="text"></p><p id="end"></p>
<script>
const show = (id, text) => { document.getElementById(id).textContent += text }
async function chat() {
  const response = await fetch("GATEWAY/api/v1/chat", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ agentId: 1, message: "Where is my order?" }),
  })
  const id = response.headers.get("X-Request-Id")
  const left = response.headers.get("X-RateLimit-Remaining")
  show("end", `status ${response.status}, id ${id !== null}, left ${left}. `)
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ""
  for (;;) {
    const { value, done } = await reader.read()
    if (done) break
    rest += value
    const frames = rest.split("\\n\\n")
    rest = frames.pop()
    for (const frame of frames) {
      const name = /^event: (.*)$/m.exec(frame)?.[1]
      if (name === undefined) continue
      const data = JSON.parse(/^data: (.*)$/m.exec(frame)[1])
      if (name === "token") {
        show("text", data.text)
        await fetch("/saw", { method: "POST", body: data.text })
      }
      else show("end", name + " ")
    }
  }
}
chat().catch(error => show("end", "refused: " + error.name)).then(() => {
  const shown = id => document.getElementById(id).innerText
  fetch("/over", { method: "POST", body: JSON.stringify([shown("text"), shown("end")]) })
})
</script>
"""


@dataclass(slots=True)
class Site:
    """A website, on two origins: `localhost` and `127.0.0.1` are not the same to a browser."""

    port: int
    saw: asyncio.Queue[str]
    over: asyncio.Queue[Json]
    """What the page shows in the end: the text, and how it went."""
    page: str = ""

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def other_origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Serves the page, and hears from it what it has seen."""
    known = Site(0, asyncio.Queue(), asyncio.Queue())

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=known.page, content_type="text/html")

    async def saw(request: web.Request) -> web.Response:
        await known.saw.put(await request.text())
        return web.Response()

    async def over(request: web.Request) -> web.Response:
        await known.over.put(json.loads(await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_post("/saw", saw)
    app.router.add_post("/over", over)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    known.port = runner.addresses[0][1]
    yield known
    await runner.cleanup()


_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--remote-debugging-port=0"),
)


@asynccontextmanager
async def browsing(url: str, profile: Path) -> AsyncIterator[None]:
    """A headless Chromium on this page, until the block ends."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "tests/install brings it"
    process = await asyncio.create_subprocess_exec(
        chromium,
        *_OPTIONS,
        f"--user-data-dir={profile}",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        # With its renderers: they are in its process group.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def public(upstream: ScriptedUpstream, site: Site) -> str:
    agent = f'public = {{ origins = ["{site.origin}"], tier = "standard" }}'
    return config(upstream.url, agent=agent, tier='requests = "100/1h"')


async def test_widget(start: Start, upstream: ScriptedUpstream, site: Site, tmp_path: Path) -> None:
    """A page of an allowed origin passes the preflight, shows each word when it comes, before the
    next is even sent, and may read the headers that tell of its limits."""
    seen = asyncio.Event()
    first, second = (b"data: " + json.dumps(delta(word)) + b"\n\n" for word in ("Dein ", "Käse 🧀"))
    last = b"data: " + json.dumps(finish()) + b"\n\ndata: [DONE]\n\n"
    upstream.answers([head(), chunk(first), Wait(seen), chunk(second), chunk(last), END])
    gateway = await start(public(upstream, site))
    site.page = _PAGE.replace("GATEWAY", gateway.url)
    async with browsing(site.origin, tmp_path / "profile"):
        assert await site.saw.get() == "Dein "
        seen.set()
        assert await site.saw.get() == "Käse 🧀"
        assert await site.over.get() == ["Dein Käse 🧀", "status 200, id true, left 99. done"]
    lines = [line for line in gateway.log_lines() if line["event"] == "request"]
    assert [line["status"] for line in lines] == [204, 200]


async def test_page_of_another_origin(
    start: Start, upstream: ScriptedUpstream, site: Site, tmp_path: Path
) -> None:
    """The browser stops a page of any other origin at the preflight: no upstream hears of it."""
    upstream.answers(sse(delta("Hi"), finish()))
    gateway = await start(public(upstream, site))
    site.page = _PAGE.replace("GATEWAY", gateway.url)
    async with browsing(site.other_origin, tmp_path / "profile"):
        assert await site.over.get() == ["", "refused: TypeError"]
    assert site.saw.empty()
    assert not upstream.requests


async def test_page_reads_errors(
    start: Start, upstream: ScriptedUpstream, site: Site, tmp_path: Path
) -> None:
    """An error before the stream reaches the page with its status, not as a network error."""
    upstream.answers([head(500, Content_Length="0")])
    gateway = await start(public(upstream, site))
    site.page = _PAGE.replace("GATEWAY", gateway.url)
    async with browsing(site.origin, tmp_path / "profile"):
        assert await site.over.get() == ["", "status 502, id true, left 99."]
