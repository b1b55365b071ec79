"""A gateway whose configuration changes while it serves."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.config import reading
from gateway.core.events import Json
from gateway.reload import reloader, watch
from gateway.wire import json
from tests.auth.signers import Signer, key_set, signer
from tests.e2e import reloading
from tests.e2e.conftest import Start
from tests.e2e.reloading import SUCCESS_AT, SUCCESSFUL, Following, Write, following
from tests.e2e.running import CHATS, KEY, KEY_HASH, config, eventually
from tests.e2e.scripted import (
    END,
    SECOND,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    document,
    event,
    finish,
    head,
)
from tests.e2e.scripted import openai_text as text_of
from tests.e2e.talking import metadata

DONE = chunk(b"data: [DONE]\n\n")

WRITES = [
    reloading.in_place,
    reloading.by_rename,
    reloading.with_backup,
    reloading.mount,
    reloading.behind_a_link,
]


def echoing(**changes: str) -> str:
    return config("", kind="echo", target="", **changes)


def said_by_replay(word: str) -> str:
    """A transcript of one word."""
    sent = [event(delta(word)), event(finish()), b"data: [DONE]\n\n"]
    steps: list[Json] = [{"after": 0, "data": data.decode()} for data in sent]
    return "\n".join(json.dumps(line).decode() for line in [{"kind": "openai"}, *steps])


def revoked(text: str) -> str:
    """The file without its key."""
    return text.replace(KEY_HASH, "sha256:" + "0" * 64)


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
async def test_a_revoked_key_stops_working_within_a_second(tmp_path: Path, write: Write) -> None:
    """However the file is written; twice in a row, for what is watched moves with the links."""
    path, text = tmp_path / "gateway.toml", echoing()
    async with following(path, text, write) as gateway:
        for wanted, changed in ((401, revoked(text)), (200, text), (401, revoked(text))):
            assert (await gateway.chat_v2()).status != wanted
            write(path, changed)
            began = time.monotonic()
            while (await gateway.chat_v2()).status != wanted:
                assert time.monotonic() - began < SECOND
                await asyncio.sleep(0.005)


async def test_live_streams_finish_on_what_they_began_with(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """Also if their agent, key and upstream are gone from the file."""
    go_on = asyncio.Event()
    upstream.answers(
        [head(), chunk(event(delta("Hi"))), Wait(go_on), chunk(event(finish())), DONE, END]
    )
    text = config(upstream.url)
    async with following(tmp_path / "gateway.toml", text) as gateway:
        turn = asyncio.ensure_future(gateway.chat_v2())
        await upstream.until_requests(1)
        gateway.path.write_text(echoing().replace("id = 1", "id = 2"))
        assert (await gateway.reload())[0] == 200
        assert (await gateway.chat_v2()).status == 404
        assert (await gateway.chat_v2(agent=2)).text == "hi"
        go_on.set()
        answer = await turn
        assert answer.frames[-1] == ("message", "[DONE]")
        assert "error" not in answer.body.decode()
        await eventually(lambda: upstream.open == 0)


async def test_connections_to_an_unchanged_upstream_are_kept(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """One connection serves before and after; its settings or its credential make it another."""
    upstream.answers(text_of("Hello"))
    secret = tmp_path / "credential"
    secret.write_text("first")
    text = config(upstream.url, upstream='credential = { file = "credential" }\nkeepalive = "1h"')
    async with following(tmp_path / "gateway.toml", text) as gateway:
        for number, changed in enumerate((text, text.replace("Support", "Renamed"))):
            gateway.path.write_text(changed)
            await gateway.reload()
            assert (await gateway.chat_v2()).text == "Hello"
            assert (upstream.accepted, len(upstream.requests)) == (1, number + 1)

        secret.write_text("second")
        await gateway.reload()
        assert (await gateway.chat_v2()).text == "Hello"
        assert upstream.accepted == 2
        assert upstream.requests[-1].headers["authorization"] == "Bearer second"
        await eventually(lambda: upstream.open == 1)

        gateway.path.write_text(text.replace("1h", "2h"))
        await gateway.reload()
        assert (await gateway.chat_v2()).text == "Hello"
        assert upstream.accepted == 3


async def test_what_was_counted_and_kept_survives(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """Buckets, conversations and what is known of targets."""
    upstream.answers(text_of("Hello"))
    text = config(upstream.url, tier='requests = "100/1h"')
    async with following(tmp_path / "gateway.toml", text) as gateway:
        first = await gateway.chat_v2(stream=False)
        conversation = metadata(first)["conversationId"]
        state = next(iter(gateway.gateway.states))
        gateway.path.write_text(text.replace('name = "Support"', 'name = "Renamed"'))
        assert (await gateway.reload())[0] == 200
        second = await gateway.chat_v2("and then?", stream=False, conversationId=conversation)
        assert second.status == 200
        sent = upstream.requests[-1].json["messages"]
        assert isinstance(sent, list)
        assert len(sent) == 3
        left = [int(a.headers["x-ratelimit-remaining"]) for a in (first, second)]
        assert left == [99, 98]
        assert next(iter(gateway.gateway.states)) is state


BROKEN: dict[str, tuple[Callable[[str], str], list[str]]] = {
    "not TOML": (lambda text: text + "[", ["is not TOML"]),
    "two mistakes": (
        lambda text: text.replace('kind = "echo"', 'kind = "ecco"') + "[limits]\nbackend = 3\n",
        ["upstreams.main.kind", "limits"],
    ),
    "a secret that is not there": (
        lambda text: text.replace("[[keys]]", 'identity_secret = { file = "absent" }\n[[keys]]'),
        ["identity_secret", "'absent' cannot be read"],
    ),
    "a CA bundle that is none": (
        lambda text: text.replace(
            'kind = "echo"', 'kind = "openai"\nbase_url = "https://a.test"\nverify = "absent.pem"'
        ).replace('upstream = "main"', 'upstream = "main", model = "m"'),
        ["CA bundle 'absent.pem'"],
    ),
    "a transcript that is not there": (
        lambda text: text.replace('kind = "echo"', 'kind = "replay"\nfile = "absent.jsonl"'),
        ["upstreams.main.file"],
    ),
    "a key set that is not there": (
        lambda text: (
            text + '[[auth.jwks]]\nfile = "absent"\nalgorithms = ["EdDSA"]\nworkspaces = ["acme"]\n'
        ),
        ["auth.jwks[0].file"],
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_file_that_is_no_use_changes_nothing(tmp_path: Path, broken: str) -> None:
    """It is told in the answer of /reload, in the log and in the metrics, until it is mended."""
    breaks, said = BROKEN[broken]
    path, text = tmp_path / "gateway.toml", echoing()
    async with following(path, text) as gateway:
        before = await gateway.metrics()
        assert before[SUCCESSFUL] == 1
        path.write_text(breaks(text))
        await gateway.until_reloads(1, "failed")
        status, told = await gateway.reload()
        assert (status, told["ok"]) == (422, False)
        assert all(word in str(told["problems"]) for word in said), told
        assert str(tmp_path) not in str(told)
        line = await gateway.logged("config_rejected")
        assert all(word in str(line["problems"]) for word in said), line
        values = await gateway.metrics()
        assert values[SUCCESSFUL] == 0
        assert values[SUCCESS_AT] == before[SUCCESS_AT]
        assert (await gateway.chat_v2()).status == 200

        path.write_text(text)
        await gateway.until_reloads(1)
        values = await gateway.metrics()
        assert values[SUCCESSFUL] == 1
        assert values[SUCCESS_AT] > before[SUCCESS_AT]


async def test_a_secret_that_comes_later(tmp_path: Path) -> None:
    """A file that is missing is waited for, also in a folder that is not there yet."""
    path, text = tmp_path / "gateway.toml", echoing()
    async with following(path, text) as gateway:
        path.write_text(text.replace("[[keys]]", 'identity_secret={file="new/secret"}\n[[keys]]'))
        await gateway.until_reloads(1, "failed")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "secret").write_text("0123456789abcdef")
        await gateway.until_reloads(1)


async def test_files_that_the_file_names(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A credential, a transcript and a key set are followed as the file itself is."""
    upstream.answers(text_of("Hello"))
    old, new = signer("EdDSA"), signer("EdDSA", 1)
    (tmp_path / "keys.json").write_bytes(key_set(old.published("old")))
    (tmp_path / "credential").write_text("first")
    jwks = '[[auth.jwks]]\nfile = "keys.json"\nalgorithms = ["EdDSA"]\nworkspaces = ["acme"]\n'
    text = config(upstream.url, upstream='credential = { file = "credential" }', more=jwks)
    async with following(tmp_path / "gateway.toml", text) as gateway:
        assert (await gateway.chat_v2()).status == 200
        (tmp_path / "credential").write_text("second")
        await gateway.until_reloads(1)
        assert (await gateway.chat_v2()).status == 200
        sent = [request.headers["authorization"] for request in upstream.requests]
        assert sent == ["Bearer first", "Bearer second"]

        key = signed(new, "new")
        assert (await gateway.post(*CHATS["v2"], key=key)).status == 401
        (tmp_path / "keys.json").write_bytes(key_set(new.published("new")))
        await gateway.until_reloads(2)
        assert (await gateway.post(*CHATS["v2"], key=key)).status == 200


async def test_a_credential_that_was_mended_is_tried_at_once(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """What was learned of the upstream with the old one does not count any more."""
    upstream.answers(document({}, 401), text_of("Hello"))
    (tmp_path / "credential").write_text("wrong")
    slow = 'credential = { file = "credential" }\nbreaker = { open_for = "1h" }'
    async with following(tmp_path / "gateway.toml", config(upstream.url, upstream=slow)) as gateway:
        assert (await gateway.chat_v2()).status == 502
        assert (await gateway.chat_v2()).status == 503
        (tmp_path / "credential").write_text("right")
        await gateway.until_reloads(1)
        assert (await gateway.chat_v2()).text == "Hello"


def signed(by: Signer, kid: str) -> str:
    """A signed key that holds for a minute."""
    return "oc_live_" + by.token(kid, exp=int(time.time()) + 60, tier="standard")


async def test_a_transcript_is_followed(tmp_path: Path) -> None:
    """A replay plays what its file says now."""
    recorded = tmp_path / "answer.jsonl"
    recorded.write_text(said_by_replay("first"))
    text = config("", kind="replay", target="", upstream='file = "answer.jsonl"')
    async with following(tmp_path / "gateway.toml", text) as gateway:
        assert (await gateway.chat_v2()).text == "first"
        reloading.by_rename(recorded, said_by_replay("second"))
        await gateway.until_reloads(1)
        assert (await gateway.chat_v2()).text == "second"


class Publisher:
    """Publishes a key set, and may be told to answer with something else, or later."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked = 0
        self.url = ""
        self.ready = asyncio.Event()
        self.ready.set()

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await self.ready.wait()
        return web.Response(body=self.body)


@asynccontextmanager
async def published(body: bytes) -> AsyncIterator[Publisher]:
    publisher = Publisher(body)
    app = web.Application()
    app.router.add_get("/jwks.json", publisher.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    publisher.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    yield publisher
    await runner.cleanup()


def trusting(publisher: Publisher) -> str:
    return (
        f'[[auth.jwks]]\nurl = "{publisher.url}"\nalgorithms = ["EdDSA"]\nworkspaces = ["acme"]\n'
    )


def refreshers() -> int:
    """Tasks that keep key sets fresh."""
    return sum(task.get_name() == "jwks" for task in asyncio.all_tasks())


async def test_key_sets_are_taken_over(tmp_path: Path) -> None:
    """One that is unchanged serves on though its publisher is broken by now; a new one is there
    before the first request that needs it; each is fetched by one task."""
    first, second = signer("EdDSA"), signer("EdDSA", 1)
    async with (
        published(key_set(first.published("1"))) as one,
        published(key_set(second.published("2"))) as two,
    ):
        text = echoing(more=trusting(one))
        async with following(tmp_path / "gateway.toml", text) as gateway:
            one.body = b"no key set"
            gateway.path.write_text(text + trusting(two))
            assert (await gateway.reload())[0] == 200
            for key in (signed(first, "1"), signed(second, "2")):
                assert (await gateway.post(*CHATS["v2"], key=key)).status == 200
            assert two.asked == 1
            assert refreshers() == 2
            gateway.path.write_text(text.replace(trusting(one), trusting(two)))
            assert (await gateway.reload())[0] == 200
            assert (await gateway.post(*CHATS["v2"], key=signed(first, "1"))).status == 401
            assert refreshers() == 1
        assert refreshers() == 0


async def test_limits_of_bodies_and_origins_follow(tmp_path: Path) -> None:
    """What the listener itself looks at, whether a body tells its length or not."""
    text = echoing(server='max_body = "1KiB"')
    body = b'{"message": "hi", "stream": false' + b" " * 2000 + b"}"
    preflight = {"Origin": "https://new.test", "Access_Control_Request_Method": "POST"}

    async def dripping() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    async def seen(gateway: Following) -> tuple[int, int, bool]:
        known = await gateway.post(CHATS["v2"][0], body)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        url = gateway.url + CHATS["v2"][0]
        async with gateway.session.post(url, data=dripping(), headers=headers) as response:
            unknown = response.status
        asked = await gateway.request("OPTIONS", CHATS["v1"][0], key=None, **preflight)
        return known.status, unknown, "access-control-allow-origin" in asked.headers

    async with following(tmp_path / "gateway.toml", text) as gateway:
        assert await seen(gateway) == (413, 413, False)
        public = 'public = { origins = ["https://new.test"], tier = "standard" }\n[[keys]]'
        changed = text.replace("1KiB", "4KiB").replace("[[keys]]", public)
        gateway.path.write_text(changed)
        assert (await gateway.reload())[0] == 200
        assert await seen(gateway) == (200, 200, True)


async def test_what_takes_a_restart_is_said(tmp_path: Path) -> None:
    """And the rest is in force."""
    text = echoing()
    async with following(tmp_path / "gateway.toml", text) as gateway:
        address = gateway.url
        changed = (
            revoked(text)
            .replace("[server]\nport = 0", '[server]\nhost = "0.0.0.0"\nport = 1')
            .replace('url = "memory://"', 'url = "memory://"\ntimeout = "9s"\nttl = "1h"')
            .replace("[admin]\nport = 0", "[admin]\nport = 2\n[server.mounts]\nopenai = '/x'")
        )
        gateway.path.write_text(changed)
        settings = ["server.host", "server.port", "server.mounts", "admin.port", "store.timeout"]
        assert await gateway.reload() == (200, {"ok": True, "needs_restart": settings})
        line = await gateway.logged("config_reloaded")
        assert (line["level"], line["needs_restart"]) == ("warning", settings)
        assert gateway.url == address
        assert (await gateway.chat_v2()).status == 401


async def test_reloads_come_one_after_the_other(tmp_path: Path) -> None:
    """Of those that are asked for while one is going on, there is one."""
    async with following(tmp_path / "gateway.toml", echoing()) as gateway:
        answers = await asyncio.gather(*(gateway.reload() for _ in range(20)))
        assert [status for status, _ in answers] == [200] * 20
        assert 1 <= await gateway.reloads() < 10
        assert len(gateway.lines("config_reloaded")) == await gateway.reloads()


async def test_a_burst_of_changes_is_one(tmp_path: Path) -> None:
    """And the last of them is in force."""
    path, text = tmp_path / "gateway.toml", echoing()
    async with following(path, text) as gateway:
        for number in range(100):
            reloading.by_rename(path, text.replace("Support", f"Support {number}"))
        routes = gateway.gateway.snapshot.routes
        assert next(iter(routes)).name == "Support"
        await eventually(lambda: next(iter(gateway.gateway.snapshot.routes)).name == "Support 99")
        assert await gateway.reloads() < 5


async def test_noise_in_the_folder_is_no_change(tmp_path: Path) -> None:
    """A database may be written there with each turn, and the file is followed all the same."""
    path, text = tmp_path / "gateway.toml", echoing(store='url = "sqlite:///kept.db"')
    async with following(path, text) as gateway:

        async def chatting() -> None:
            while (await gateway.chat_v2()).status == 200:
                pass

        chats = asyncio.ensure_future(chatting())
        await eventually(lambda: len(gateway.lines("request")) > 20)
        assert await gateway.reloads() == 0
        began = time.monotonic()
        path.write_text(revoked(text))
        await chats
        assert time.monotonic() - began < SECOND
        assert await gateway.reloads() == 1


async def test_a_kernel_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no watches left the files are looked at, and the log says so once."""
    asked = 0

    def deaf(*_paths: Path, **_options: object) -> Iterator[set[object]]:
        nonlocal asked
        asked += 1
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(watch, "watch", deaf)
    monkeypatch.setattr(watch, "_LOOK", 20)
    path, text = tmp_path / "gateway.toml", echoing()
    async with following(path, text) as gateway:
        await eventually(lambda: asked > 2)
        path.write_text(revoked(text))
        await gateway.until_reloads(1)
        assert (await gateway.chat_v2()).status == 401
        assert len(gateway.lines("config_watch_failed")) == 1


async def test_a_bug_in_a_reload_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told without a word of what it said, and the next reload is done."""

    said = "".join(["can", "ary"])  # a traceback shows the line that raised

    def broken(*_: object) -> None:
        raise RuntimeError(said)

    async with following(tmp_path / "gateway.toml", echoing()) as gateway:
        with monkeypatch.context() as patched:
            patched.setattr(gateway.gateway._reloader, "_build", broken)
            status, told = await gateway.reload()
        assert status == 422
        assert "canary" not in f"{told}{gateway.log.getvalue().decode()}"
        assert gateway.lines("internal_error")
        assert (await gateway.reload())[0] == 200


async def test_a_gateway_without_a_file(start: Start) -> None:
    """There is nothing to read, and that is no reason to fail."""
    gateway = await start(echoing())
    async with gateway.session.post(gateway.gateway.admin.url + "/reload") as response:
        assert response.status == 422
    assert (await gateway.chat_v2()).status == 200


async def test_a_stop_gives_a_reload_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for a publisher leaves nothing behind, whoever asked for it hears of that, and
    none begins any more."""
    first = signer("EdDSA")
    async with published(key_set(first.published("1"))) as slow:
        slow.ready.clear()
        monkeypatch.setattr(reloader, "_FIRST_SETS", 60.0)
        monkeypatch.setattr(watch.Watch, "start", lambda _: None)  # only who asks is heard
        text = echoing()
        async with following(tmp_path / "gateway.toml", text) as gateway:
            gateway.path.write_text(text + trusting(slow))
            asked = asyncio.ensure_future(gateway.reload())
            await eventually(lambda: slow.asked == 1)
            await gateway.gateway.stop()
            status, told = await asked
            assert (status, told["ok"]) == (422, False)
            assert "the gateway is stopping" in str(told["problems"])
            assert not gateway.lines("config_reloaded")
        assert refreshers() == 0


async def test_a_slow_publisher_holds_nothing_up(tmp_path: Path) -> None:
    """Its key set is there when it comes; a key that was revoked in the same file, or in one after
    it, stops working within a second."""
    first = signer("EdDSA")
    async with published(key_set(first.published("1"))) as slow:
        slow.ready.clear()
        text = echoing() + trusting(slow)
        async with following(tmp_path / "gateway.toml", echoing()) as gateway:
            for wanted, changed in ((401, revoked(text)), (200, text), (401, revoked(text))):
                gateway.path.write_text(changed)
                began = time.monotonic()
                while (await gateway.chat_v2()).status != wanted:
                    assert time.monotonic() - began < SECOND
                    await asyncio.sleep(0.005)
            assert (await gateway.logged("key_set_failed"))["problem"] == "it has not answered yet"
            key = signed(first, "1")
            assert (await gateway.post(*CHATS["v2"], key=key)).status == 401
            slow.ready.set()
            (refresher,) = gateway.gateway.snapshot.keyring.refreshers
            await eventually(lambda: bool(refresher.keys))
            assert (await gateway.post(*CHATS["v2"], key=key)).status == 200


async def test_a_pipe_in_the_place_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody writes into it. That is a file that is no use, and it does not hold up a stop."""
    path, text = tmp_path / "gateway.toml", echoing()
    async with following(path, text) as gateway:
        with monkeypatch.context() as patched:
            patched.setattr(reading, "_PATIENCE", 0.05)
            path.unlink()
            os.mkfifo(path)
            status, told = await gateway.reload()
        assert (status, told["ok"]) == (422, False)
        assert "a pipe that nobody writes into" in str(told["problems"])
        reloading.by_rename(path, revoked(text))
        await gateway.until_reloads(1)
        assert (await gateway.chat_v2()).status == 401
