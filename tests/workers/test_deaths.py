"""Workers that die, and leave, while others serve."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.e2e.running import written
from tests.e2e.scripted import openai_text, scripted
from tests.e2e.test_restart import load
from tests.workers.several import (
    AGENT,
    Several,
    answering,
    config,
    halt,
    in_front_of,
    logged,
    several,
)

TURNS = "oc_gateway_turns_total"
REQUESTS = "oc_gateway_requests_total"


async def _replaced(gateway: Several, pid: int) -> None:
    """Once there is another one in this one's place."""
    await gateway.until(lambda now: pid not in [w["pid"] for w in now] and all_answer(now))


def all_answer(workers: list[dict[str, Any]]) -> bool:
    return all(worker["answers"] for worker in workers)


async def test_killed_under_load(tmp_path: Path) -> None:
    """The others serve on, and soon there is a new one. What was counted stays counted, and what
    the dead one had open is open no more."""
    async with several(tmp_path, config(3), level="warning") as gateway:
        async with load(gateway.url) as running:
            await running.until_served(30)
            before = await gateway.metrics()
            pid = (await gateway.pids())[1]
            os.kill(pid, signal.SIGKILL)
            # Those that it had on its connections are lost with it, and no others.
            lost = len(running.lost)
            await _replaced(gateway, pid)
            await running.until_served(30)
            lost = len(running.lost) - lost
            during = await gateway.metrics()
            workers = await gateway.workers()
        scrapes = [await gateway.metrics() for _ in range(2)]
        code, err = await gateway.stop()

    assert code == 0
    assert lost <= 12, running.lost  # a request for each client
    assert [worker["restarts"] for worker in workers] == [0, 1, 0]
    for series in (s for s in before if s.startswith((TURNS, REQUESTS))):
        assert before[series] <= during[series] <= scrapes[0][series]
    assert during['oc_gateway_workers{state="ready"}'] == 3
    assert during["oc_gateway_worker_restarts_total"] == 1
    ended = logged(err, "worker_ended")
    assert [(line["worker"], line["pid"], line["ended"]) for line in ended] == [
        (2, pid, "signal SIGKILL")
    ]
    assert not any(scrapes[1][s] for s in scrapes[1] if s.startswith("oc_gateway_active_streams"))


async def test_what_a_dead_one_held(tmp_path: Path) -> None:
    """Its turns are no turns of the key any more, and no open streams."""
    held = asyncio.Event()
    async with (
        scripted(answering(held)) as upstream,
        several(
            tmp_path,
            config(2, tier='requests = "1000/1s"\nconcurrency = 3', **in_front_of(upstream.url)),
        ) as gateway,
    ):
        open_turns = [asyncio.ensure_future(gateway.chat()) for _ in range(3)]
        await upstream.until_requests(3)
        assert (await gateway.chat())[0] == 429
        assert await gateway.total("oc_gateway_active_streams") == 3

        for pid in await gateway.pids():
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*open_turns, return_exceptions=True)
        await gateway.until(lambda now: all(w["restarts"] == 1 for w in now) and all_answer(now))
        streams = await gateway.total("oc_gateway_active_streams")
        _, key = await gateway.asked("/status/keys/web")
        upstream.answers(openai_text("two"))
        status, _ = await gateway.chat()
        held.set()
    assert streams == 0
    assert key["entries"][0]["turns"]["open"] == 0
    assert status == 200


async def test_one_leaves_under_load(tmp_path: Path) -> None:
    """A worker that is told to stop by itself finishes what it has and what is queued up at it, and
    is replaced: nobody notices."""
    async with several(tmp_path, config(2)) as gateway:
        async with load(gateway.url) as running:
            for _ in range(2):
                await running.until_served(24)
                pid = (await gateway.pids())[0]
                os.kill(pid, signal.SIGTERM)
                await _replaced(gateway, pid)
            await running.until_served(24)
        restarts = [worker["restarts"] for worker in await gateway.workers()]
    assert running.lost == []
    assert running.refused == 0
    assert restarts == [2, 0]


async def test_all_stop_under_load(tmp_path: Path) -> None:
    """Nothing that was accepted is lost when all of them leave, and the next gateway has the
    address."""
    text = config(3)
    async with several(tmp_path, text) as first:
        port = first.url.rpartition(":")[2]
        async with load(first.url) as running:
            await running.until_served(36)
            assert await first.stop() == (0, "")
            async with several(tmp_path, text, "--port", port):
                await running.until_served(36)
                running.over = True
    assert running.lost == []
    assert running.refused > 0


async def test_queued_up_at_a_dead_one(tmp_path: Path) -> None:
    """A client that the kernel has connected to a worker that died, and that nobody has accepted,
    is served by the one after it."""
    async with several(tmp_path, config(2)) as gateway, AsyncExitStack() as stack:
        pids = await gateway.pids()
        await halt(pids)
        host, _, port = gateway.url.removeprefix("http://").rpartition(":")
        clients = []
        for _ in range(8):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            writer.write(written(f"{AGENT}/chat", {"message": "hi"}))
            clients.append(reader)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        answers = [await reader.readuntil(b"\r\n\r\n") for reader in clients]
    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200"] * 8


async def test_one_that_hangs(tmp_path: Path) -> None:
    """It is ready as far as anybody knows, and connections still lead to it: a scrape, which asks
    it, says that it does not answer, and is written all the same."""
    workers = "oc_gateway_workers"
    async with several(tmp_path, config(2)) as gateway:
        answering = [await gateway.total(workers, 'state="answering"')]
        pids = await gateway.pids()
        await halt(pids[:1])
        answering.append(await gateway.total(workers, 'state="answering"'))
        ready = await gateway.total(workers, 'state="ready"')
        os.kill(pids[0], signal.SIGCONT)
        await gateway.all_ready()
        answering.append(await gateway.total(workers, 'state="answering"'))
    assert answering == [2, 1, 2]
    assert ready == 2


async def test_a_file_that_is_no_use_any_more(tmp_path: Path) -> None:
    """A worker that dies while the file is wrong cannot be replaced, and the log says why; others
    serve, and once the file is mended there are as many as before."""
    text = config(2)
    async with several(tmp_path, text, level="warning") as gateway:
        gateway.config.write_text("wrong = 1\n" + text)
        assert (await gateway.asked("/reload", "POST"))[0] == 422
        pid = (await gateway.pids())[0]
        os.kill(pid, signal.SIGKILL)
        # The one after it has failed as well, and nobody waits for the next.
        await gateway.until(lambda now: now[0]["restarts"] >= 2)
        answers = [(await gateway.chat())[0] for _ in range(5)]
        ready = await gateway.total("oc_gateway_workers", 'state="ready"')
        gateway.config.write_text(text)
        await gateway.until(all_answer)
        _, err = await gateway.stop()
    assert answers == [200] * 5
    assert ready == 1
    problems = [str(line.get("problem")) for line in logged(err, "worker_ended")]
    assert any("wrong: unknown key" in problem for problem in problems)


async def test_settings_that_take_a_restart(tmp_path: Path) -> None:
    """A worker that takes another one's place keeps conversations where the others do, whatever the
    file says by now."""
    text = config(2)
    async with several(tmp_path, text) as gateway:
        gateway.config.write_text(
            text.replace("[admin]", '[store]\nurl = "sqlite:///other.db"\n[admin]')
        )
        assert (await gateway.asked("/reload", "POST"))[1]["needs_restart"] == ["store.url"]
        for pid in await gateway.pids():
            os.kill(pid, signal.SIGKILL)
        await gateway.until(lambda now: all(w["restarts"] == 1 for w in now) and all_answer(now))
        assert (await gateway.chat())[0] == 200
        assert (await gateway.asked("/reload", "POST"))[1]["needs_restart"] == ["store.url"]
    assert (tmp_path / "oc-gateway.db").exists()
    assert not (tmp_path / "other.db").exists()
