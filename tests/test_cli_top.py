"""`oc-gateway top`: at gateways under load, in a terminal of its own, and where there is none."""

import asyncio
import codecs
import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.http.server import Listener
from tests.e2e.conftest import Start, start, upstream
from tests.e2e.running import Running, config
from tests.e2e.scripted import Hang, ScriptedUpstream, document, openai_text, said
from tests.serving import ROOT, Served, cli, demo_config, environment, served

__all__ = ["start", "upstream"]  # fixtures

QUICK = ("--interval", "500ms")


async def once(
    url: str, *args: str, token: str = "", mine: str = ""
) -> "subprocess.CompletedProcess[str]":
    command = ("top", "--once", *QUICK, "--url", url, *args)
    return await asyncio.to_thread(lambda: cli(*command, OC_ADMIN_TOKEN=token, MINE=mine))


def row(text: str, *cells: str) -> list[str]:
    """The line of a table that begins with these cells, in its cells."""
    beginning = r"\s+".join(map(re.escape, cells))
    (line,) = (line for line in text.splitlines() if re.match(rf"\s*{beginning}\s", line))
    return re.split(r"\s{2,}", line.strip())


BUSY = """
[upstreams.sick]
kind = "openai"
base_url = "{url}"
retries = 0
breaker = {{ failures = 1, open_for = "1h" }}
[limits.tiers.tiny]
requests = "1/1h"
[[agents]]
id = 2
workspace = "acme"
name = "[bold]Sick[/bold]"
targets = [{{ upstream = "sick", model = "s" }}]
[[agents]]
id = 3
workspace = "acme"
name = "Public"
targets = [{{ upstream = "main", model = "m" }}]
public = {{ origins = ["https://a.example"], tier = "tiny" }}
"""


async def load(gateway: Running, over: asyncio.Event) -> None:
    """Turns at all three agents, until it is over."""
    public = {"Origin": "https://a.example"}
    while not over.is_set():
        assert (await gateway.chat_v2()).text == "Hi"
        await gateway.post("/api/v2/agents/2/chat", {"message": "hi"}, X_Request_Id="r-sick")
        await gateway.post("/api/v1/chat", {"agentId": 3, "message": "hi"}, None, **public)
        await asyncio.sleep(0.02)


async def test_one_frame_of_a_busy_gateway(start: Start, upstream: ScriptedUpstream) -> None:
    """What it has to do, what fails and where, which limits bite, and how long it takes."""
    async with ScriptedUpstream() as sick:
        sick.answers(document({"error": {"message": "canary"}}, 500))
        upstream.answers([*said("Hi"), Hang], openai_text("Hi"))
        text = config(upstream.url, upstream="max_streams = 9", more=BUSY.format(url=sick.url))
        gateway = await start(text)
        request = gateway.raw("/api/v2/agents/1/chat", {"message": "hi"}, X_Request_Id="r-open")
        async with request as (reader, _):
            await reader.readuntil(b"Hi")
            over = asyncio.Event()
            loading = asyncio.ensure_future(load(gateway, over))
            done = await once(gateway.gateway.admin.url)
            over.set()
            await loading
    assert (done.returncode, done.stderr) == (0, "")
    head, now, limits, *_ = done.stdout.splitlines()

    assert re.match(rf"oc-gateway \S+  {gateway.gateway.admin.url}  up .+  config [0-9a-f]+ ", head)
    streams, turns, failed, refused = re.findall(r"([\d.]+) (?:streams|turns/s|\w+ed/s)", now)
    assert int(streams) >= 1
    assert min(float(turns), float(failed), float(refused)) > 0
    assert re.search(r"first event p50 [\d.]+ ms p95 [\d.]+ ms", now)
    assert re.search(r"tiny requests refuses [\d.]+/s", limits)

    main = row(done.stdout, "main/m")
    assert (main[1], main[2].split("/")[1], main[4]) == ("closed", "9", "main")
    assert re.fullmatch(r"open 59m \d+s", row(done.stdout, "sick/s")[1])
    assert row(done.stdout, "2")[1] == "[bold]Sick[/bold]"
    agent = row(done.stdout, "1", "Support")
    assert float(agent[4]) > 0
    assert int(agent[3]) >= 1
    assert row(done.stdout, "r-open")[2:6] == ["bookbag-v2", "1", "main/m", "answering"]
    failures = [line for line in done.stdout.splitlines() if line.strip().startswith("r-sick")]
    assert failures
    assert all("upstream_" in line for line in failures)
    assert "canary" not in done.stdout


async def test_a_token(start: Start, upstream: ScriptedUpstream) -> None:
    """It is read from the environment, under the name that the option says."""
    token = "canary-token-of-the-operators"
    text = config(upstream.url).replace("[admin]\n", '[admin]\ntoken = { env = "ADMIN" }\n')
    url = (await start(text, ADMIN=token)).gateway.admin.url
    for wrong in ("", "canary-of-another"):
        refused = await once(url, token=wrong)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"{url}: 401: this needs [admin] token")
        assert "canary" not in refused.stderr
    assert (await once(url, token=token)).returncode == 0
    assert (await once(url, "--token-env", "MINE", mine=token)).returncode == 0


async def test_a_gateway_that_stops(start: Start, upstream: ScriptedUpstream) -> None:
    """It is seen that it wants no more, and why a reload failed."""
    upstream.answers([*said("Hi"), Hang])
    gateway = await start(config(upstream.url, server='drain_timeout = "60s"'))
    async with gateway.raw("/api/v2/agents/1/chat", {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hi")
        stopping = asyncio.ensure_future(gateway.gateway.stop())
        await asyncio.sleep(0)
        done = await once(gateway.gateway.admin.url)
    await stopping
    assert "draining" in done.stdout.splitlines()[0]


async def test_a_reload_that_failed(start: Start, upstream: ScriptedUpstream) -> None:
    """With the first of its problems: here that there is no file to read."""
    gateway = await start(config(upstream.url))
    async with gateway.session.post(gateway.gateway.admin.url + "/reload") as response:
        assert response.status == 422
    done = await once(gateway.gateway.admin.url)
    assert "the last reload failed: the gateway was not started from a file" in done.stdout


@pytest.mark.parametrize("body", ["<html>Prometheus</html>", "{}", "[]", '{"status": "success"}'])
@pytest.mark.parametrize("status", [200, 404])
async def test_who_is_no_gateway(body: str, status: int) -> None:
    """Prometheus has the same port, and pages at the same paths."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=body, status=status)

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    listener = Listener(app, "admin", "127.0.0.1", 0)
    await listener.start()
    done = await once(listener.url)
    await listener.stop()
    assert (done.returncode, done.stdout) == (1, "")
    assert "no oc-gateway's admin listener" in done.stderr


STEERING = "\x1b]0;mine\x07\x1b[2J\u009b31m\u202e"


@pytest.mark.parametrize("status", [200, 401])
async def test_whoever_listens_does_not_steer_the_terminal(status: int) -> None:
    """Not by what it knows, nor by how it refuses; what is no scrape is told of."""
    known = {
        "version": STEERING,
        "config": {"last_reload": {"ok": False, "problems": [{"problem": STEERING}]}},
        "agents": [{"id": 1, "name": STEERING}],
        "targets": [{"target": STEERING, "breaker": STEERING}],
        "recent_errors": [{"request_id": STEERING}],
        "error": {"message": STEERING},
    }
    refused = f'oc_gateway_rate_limit_rejections_total{{tier="{STEERING}",limit="a\\nb"}} '
    scrapes = iter([refused + "1\n", refused + "2\n"])

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/status":
            return web.json_response(known, status=status)
        return web.Response(text=next(scrapes, refused + "many\n"))

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    listener = Listener(app, "admin", "127.0.0.1", 0)
    await listener.start()
    done = await once(listener.url)
    then = await once(listener.url)
    await listener.stop()
    said = done.stdout + done.stderr
    assert "]0;mine" in said
    assert not [c for c in said if c != "\n" and c in STEERING and not c.isprintable()]
    assert "Traceback" not in then.stderr
    assert status != 200 or (" a\ufffdb refuses " in said and then.returncode == 1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def test_nobody_there() -> None:
    """Exit code 1 and one line."""
    at = f"127.0.0.1:{free_port()}"  # http:// where nothing else is said
    done = cli("top", "--once", "--url", at)
    assert (done.returncode, done.stderr) == (
        1,
        f"no answer from http://{at}: connection refused\n",
    )


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("http://127.0.0.1:99999", ""),
        ("http://[::1", ""),
        ("http://127.0.0.1:9", "canary\nX-Evil: 1"),
        ("http://127.0.0.1:9", "canary\u2028"),
    ],
)
async def test_what_cannot_be_sent(url: str, token: str) -> None:
    """Exit code 1, and nothing of the token."""
    done = await once(url, token=token)
    assert done.returncode == 1
    assert "cannot be sent" in done.stderr
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("interval", ["1", "0s", "50ms", "2h", "soon"])
def test_intervals(interval: str) -> None:
    """Exit code 2."""
    done = cli("top", "--interval", interval)
    assert done.returncode == 2
    assert "--interval" in done.stderr


def test_without_a_terminal() -> None:
    """It says what to do instead."""
    done = cli("top")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--once" in done.stderr


def test_without_rich(tmp_path: Path) -> None:
    """It says how to get it."""
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError")
    done = cli("top", "--once", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "oc-gateway top needs rich: pip install 'oc-gateway[top]'\n"


# In a terminal.


class Terminal:
    """A pseudo-terminal with `oc-gateway top` in it."""

    def __init__(self, *args: str, columns: int = 160, lines: int = 50) -> None:
        self.seen = ""
        # A reading may end in the middle of a character.
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._ours, self.theirs = pty.openpty()
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, size)
        self.modes = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "top", *args],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            cwd=ROOT,
            env=environment(TERM="xterm-256color"),
            start_new_session=True,
        )

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def until(self, shown: Callable[[str], bool], within: float = 30.0) -> None:
        """Until something is shown that has not been looked at before."""
        deadline = time.monotonic() + within
        while not shown(self.seen):
            assert time.monotonic() < deadline, self.seen[-3000:]
            self._read(0.2)
        self.seen = ""

    def end(self) -> int:
        """The exit code, once everything that it wrote has been read."""
        deadline = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            self._read(0.1)
        self._read(0.1)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self.theirs)

    def _read(self, within: float) -> None:
        if select.select([self._ours], [], [], within)[0]:
            self.seen += self._text.decode(os.read(self._ours, 1 << 16))


@contextmanager
def terminal(*args: str, columns: int = 160, lines: int = 50) -> Iterator[Terminal]:
    opened = Terminal(*args, columns=columns, lines=lines)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def at(tmp_path: Path) -> Iterator[tuple[str, Callable[[], Served]]]:
    """A place for an admin listener, and what starts a gateway that has it there."""
    url = f"http://127.0.0.1:{free_port()}"
    path = demo_config(tmp_path)
    text = path.read_text().replace("port = 0", f"port = {url.rpartition(':')[2]}")
    path.write_text(text.replace("sqlite:///oc-gateway.db", "memory://"))
    running = []

    def serve() -> Served:
        context = served(["--config", str(path), "--port", "0"])
        running.append(context)
        return context.__enter__()

    yield url, serve
    for context in running:
        context.__exit__(None, None, None)


def frames(text: str, but: str) -> list[str]:
    """Each that has been seen from its beginning, but for those that say this."""
    return [each for each in text.split("\x1b[H")[1:] if but not in each]


def test_a_gateway_that_is_restarted(at: tuple[str, Callable[[], Served]]) -> None:
    """It is watched until q is pressed, also while it is not there; and then the terminal is as it
    was."""
    url, serve = at
    first = serve()
    with terminal("--url", url, "--interval", "200ms") as shown:
        shown.until(lambda text: "Echo" in text and "turns/s" in text)
        assert cli("chat", "1", "hi", "--url", first.url).returncode == 0
        shown.until(lambda text: bool(re.search(r"(?<!\d)(?!0\.0 )[\d.]+ turns/s", text)))
        first.stop()
        shown.until(lambda text: f"no answer from {url}: connection refused" in text)
        serve()
        shown.until(lambda text: any("Echo" in each for each in frames(text, "no answer")))
        assert termios.tcgetattr(shown.theirs) != shown.modes
        shown.press("x")
        shown.until(lambda text: "turns/s" in text)
        shown.press("q")
        assert shown.end() == 0
        assert "\x1b[?1049l" in shown.seen  # back to the screen that there was
        assert termios.tcgetattr(shown.theirs) == shown.modes


@pytest.mark.parametrize(("number", "code"), [(2, 0), (15, 143)])
def test_a_gateway_that_is_not_there_yet(
    number: int, code: int, at: tuple[str, Callable[[], Served]]
) -> None:
    """It is waited for. Ctrl-C ends it as q does, and a SIGTERM leaves the terminal as it was."""
    url, serve = at
    with terminal("--url", url, "--interval", "200ms") as shown:
        shown.until(lambda text: "no answer" in text)
        serve()
        shown.until(lambda text: "Echo" in text)
        shown.process.send_signal(number)
        assert shown.end() == code
        assert "\x1b[?1049l" in shown.seen
        assert termios.tcgetattr(shown.theirs) == shown.modes


def test_the_smallest_terminal(at: tuple[str, Callable[[], Served]]) -> None:
    """Every line is whole at 80 columns, and each table has a row within 24 lines."""
    url, serve = at
    gateway = serve()
    with terminal("--url", url, "--interval", "200ms", columns=80, lines=24) as shown:
        shown.until(lambda text: "Echo" in text)
        assert cli("chat", "1", "hi", "--url", gateway.url).returncode == 0
        shown.until(lambda text: bool(whole(text, lambda screen: "Echo" in screen)))
        shown.until(lambda text: bool(whole(text, lambda screen: re.search(_TURNED, screen))))


_TURNED = r"\n1 +Echo .* 1 +0 *\n"


def whole(text: str, right: Callable[[str], object]) -> list[str]:
    """The frames that are right, in plain text; each has to fit."""
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", each) for each in frames(text, "no answer")[:-1]]
    for screen in plain:
        lines = screen.splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        assert "\N{HORIZONTAL ELLIPSIS}" not in screen
    return [screen.replace("\r", "") for screen in plain if right(screen.replace("\r", ""))]
