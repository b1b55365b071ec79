"""Several processes that serve as one gateway."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.scripted import SECOND, Hang, openai_text, said, scripted
from tests.serving import cli, served
from tests.workers.several import (
    alive,
    answering,
    config,
    gone,
    halt,
    in_front_of,
    logged,
    several,
    until,
)

SUCCESSFUL = "oc_gateway_config_last_reload_successful"


async def test_requests_are_spread(tmp_path: Path) -> None:
    """Every worker has its part, says which one it is in the log, and one turn is counted once."""
    async with several(tmp_path, config(3), level="info") as gateway:
        answers = await asyncio.gather(*(gateway.chat() for _ in range(60)))
        assert {status for status, _ in answers} == {200}

        agents = (await gateway.status())["agents"]
        counted = await gateway.total("oc_gateway_turns_total")
        code, err = await gateway.stop()

    served = [line["worker"] for line in logged(err, "request")]
    assert set(served) == {1, 2, 3}
    assert code == 0
    assert len(served) == agents[0]["turns"] == counted == 60


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_a_conversation_goes_on_in_any_of_them(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What one of them has kept the others know. While a turn runs in one of them, another one
    refuses the next, and the same request again; once it has ended, any of them repeats it."""
    let_go = asyncio.Event()
    async with scripted(openai_text("Hello")) as upstream:
        text = config(4, **in_front_of(upstream.url))
        if store == "postgres":
            url = request.getfixturevalue("database")
            text = text.replace("[admin]", f'[store]\nurl = "{url}"\n[admin]')
        async with several(tmp_path, text) as gateway:
            _, body = await gateway.chat("first", stream=False)
            number = int(_conversation(body))
            for turn in range(8):
                status, body = await gateway.chat(f"{turn}", conversationId=number, stream=False)
                assert (status, _conversation(body)) == (200, str(number))

            upstream.answers(answering(let_go))
            asked = len(upstream.requests)
            running = asyncio.ensure_future(gateway.chat("long", "k", conversationId=number))
            await upstream.until_requests(asked + 1)
            refused = [
                await gateway.chat("long", key, conversationId=number) for key in (None, "k") * 4
            ]
            let_go.set()
            first, _ = await running
            again = [await gateway.chat("long", "k", conversationId=number) for _ in range(8)]
    assert {status for status, _ in refused} == {409}
    assert {first, *(status for status, _ in again)} == {200}
    assert len(upstream.requests) == asked + 1


def _conversation(body: bytes) -> str:
    return str(json.loads(body)["data"]["metadata"]["conversationId"])


async def test_all_take_up_a_change(tmp_path: Path) -> None:
    """By SIGHUP, by /reload and by themselves; a file that is wrong changes nothing in any."""
    text = config(3)
    async with several(tmp_path, text) as gateway:
        gateway.signal(signal.SIGHUP)
        await gateway.until(lambda workers: all(w["config"]["number"] == 2 for w in workers))

        gateway.config.write_text(text.replace("workers = 3", "workers = 4"))
        status, told = await gateway.asked("/reload", "POST")
        assert (status, told) == (200, {"ok": True, "needs_restart": ["server.workers"]})

        gateway.config.write_text("wrong = 1\n" + text)
        status, told = await gateway.asked("/reload", "POST")
        assert (status, told["problems"][0]["where"]) == (422, "wrong")
        assert (await gateway.metrics())[SUCCESSFUL] == 0
        assert (await gateway.status())["config"]["in_all_workers"]
        assert (await gateway.chat())[0] == 200


async def test_a_key_that_is_revoked(tmp_path: Path) -> None:
    """All of them refuse it within a second."""
    text = config(3)
    async with several(tmp_path, text) as gateway:
        first = [worker["config"]["digest"] for worker in await gateway.all_ready()]
        gateway.config.write_text(text.replace('"web"', '"web"\ndisabled = true'))
        async with asyncio.timeout(SECOND):
            await gateway.until(lambda now: first[0] not in [w["config"]["digest"] for w in now])
        answers = [(await gateway.chat())[0] for _ in range(30)]
    assert set(first) == {first[0]}
    assert set(answers) == {401}


async def test_a_token_that_a_reload_brings(tmp_path: Path) -> None:
    """The admin listener is the supervisor's, and asks for what the file says by now."""
    token = tmp_path / "token"
    token.write_text("first-token-of-all\n")
    text = config(2).replace("[admin]\n", '[admin]\ntoken = { file = "token" }\n')
    async with several(tmp_path, text) as gateway:
        url = gateway.admin + "/status"

        async def status(said: str) -> int:
            headers = {"Authorization": f"Bearer {said}"}
            async with gateway.session.get(url, headers=headers) as response:
                return response.status

        assert [await status("first-token-of-all"), await status("wrong")] == [200, 401]
        token.write_text("second-token-of-all\n")

        async def taken_up() -> bool:
            return await status("second-token-of-all") == 200

        await until(taken_up)
        assert await status("first-token-of-all") == 401


async def test_supervisor_killed(tmp_path: Path) -> None:
    """Nobody is left to look after the workers: they end by themselves, once their turns have, and
    the port is free."""
    let_go = asyncio.Event()
    async with (
        scripted(answering(let_go)) as upstream,
        several(tmp_path, config(3, **in_front_of(upstream.url))) as gateway,
    ):
        pids = await gateway.pids()
        running = asyncio.ensure_future(gateway.chat())
        await upstream.until_requests(1)
        gateway.signal(signal.SIGKILL)
        let_go.set()
        status, body = await running
        await gone(pids)
    assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
    assert b"error" not in body


@pytest.mark.parametrize("how", ["once", "twice", "everybody"])
async def test_stop(how: str, tmp_path: Path) -> None:
    """A signal lets turns end by themselves, also if the workers are signalled as well, as systemd
    and terminals do it; a second one ends them now. 0 in all cases."""
    let_go = asyncio.Event()
    script = [*said("one"), Hang] if how == "twice" else answering(let_go)
    async with (
        scripted(script) as upstream,
        several(tmp_path, config(2, **in_front_of(upstream.url))) as gateway,
    ):
        pids = await gateway.pids()
        chats = [asyncio.ensure_future(gateway.chat()) for _ in range(6)]
        await upstream.until_requests(6)
        gateway.signal(signal.SIGTERM)
        for pid in pids if how == "everybody" else ():
            os.kill(pid, signal.SIGTERM)

        async def refused() -> bool:
            return not await _accepts(gateway.url)

        await until(refused)
        if how == "twice":
            gateway.signal(signal.SIGTERM)
        let_go.set()
        answers = await asyncio.gather(*chats)
        code, err = await gateway.ended()
    assert (code, err) == (0, "")
    assert all(body.endswith(b"data: [DONE]\n\n") for _, body in answers)
    assert all((b"error" in body) == (how == "twice") for _, body in answers)


async def test_one_that_hangs(tmp_path: Path) -> None:
    """It says nothing, and the others speak for the gateway; it is told of as one that does not
    answer, and a stop waits for it no longer than for a turn."""
    text = config(2, server='drain_timeout = "10ms"')
    async with several(tmp_path, text) as gateway:
        pids = await gateway.pids()
        await halt(pids[:1])
        status = await gateway.status()
        async with gateway.session.get(gateway.admin + "/readyz") as response:
            ready = response.status
        stopped, err = await gateway.stop()
    assert [worker["answers"] for worker in status["workers"]] == [False, True]
    assert ready == 200
    assert stopped == 0
    assert logged(err, "workers_killed")[0]["workers"] == [1]
    assert not alive(pids[0])


async def _accepts(url: str) -> bool:
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.transport.abort()
    return True


def _same_as_alone(tmp_path: Path, text: str, *options: str) -> tuple[int, str]:
    """How it ends, with several workers as with one; the ports must not be any."""
    said = []
    for workers in (1, 3):
        path = tmp_path / "wrong.toml"
        path.write_text(text.replace("workers = 2", f"workers = {workers}"))
        done = cli("run", "--config", str(path), *options)
        said.append((done.returncode, done.stdout, done.stderr))
    assert said[0] == said[1]
    return said[0][0], said[0][2]


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """One clear line, also where somebody else would share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, err = _same_as_alone(tmp_path, config(2), "--port", port)
    assert (code, "address already in use" in err) == (1, True)


def test_an_admin_address_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = config(2).replace("[admin]\nport = 0", f"[admin]\nport = {taken.getsockname()[1]}")
        code, err = _same_as_alone(tmp_path, text)
    assert (code, "[admin] in the configuration" in err) == (1, True)


@pytest.mark.parametrize(
    ("instead", "code", "said"),
    [
        ('[store]\nurl = "sqlite:///nowhere/x.db"\n[admin]', 1, "its folder does not exist"),
        ("[nonsense]\n[admin]", 2, "nonsense: unknown key"),
        ('[server.tls]\ncertificate = "a"\nkey = "b"\n[admin]', 2, "certificate"),
        ('[tracing]\nenabled = true\nendpoint = "nowhere"\n[admin]', 2, "tracing.endpoint"),
    ],
)
def test_what_keeps_it_from_starting(instead: str, code: int, said: str, tmp_path: Path) -> None:
    """The same words and the same exit code as from a single process, once."""
    found, err = _same_as_alone(tmp_path, config(2).replace("[admin]", instead))
    assert (found, said in err) == (code, True)


def test_a_secret_that_is_missing(tmp_path: Path) -> None:
    upstream = 'kind = "openai"\nbase_url = "http://127.0.0.1:1"\ncredential = { env = "NOBODY" }'
    text = config(2, upstream=upstream, target=', model = "m"')
    code, err = _same_as_alone(tmp_path, text)
    assert (code, "NOBODY" in err) == (2, True)


def test_a_pipe_is_no_file_to_read_again(tmp_path: Path) -> None:
    done = cli("run", "--config", "/dev/stdin", stdin=config(2))
    assert (done.returncode, "it cannot be a pipe" in done.stderr) == (2, True)


async def test_one_host_with_two_addresses(tmp_path: Path) -> None:
    """A name such as localhost stands for both."""
    async with several(tmp_path, config(2), "--host", "localhost") as gateway:
        assert [(await gateway.chat())[0] for _ in range(4)] == [200] * 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process has all cores")
def test_auto_on_one_core(tmp_path: Path) -> None:
    """It is a single process then, without anybody above it."""
    path = tmp_path / "auto.toml"
    path.write_text(config("auto"))
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with served(["--config", str(path)]) as gateway:
            children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
            assert children.read_text() == ""
            assert gateway.stop()[0] == 0
    finally:
        os.sched_setaffinity(0, allowed)
