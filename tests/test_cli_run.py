"""`oc-gateway run`, as a process."""

import asyncio
import http.client
import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.conversations.postgres import PostgresStore
from gateway.conversations.sqlite import SqliteStore
from gateway.conversations.store import Store
from tests.postgres import Postgres
from tests.serving import DEMO_KEY, ROOT, Served, cli, demo_config, environment, served

KEYED = """
[server]
port = 0
[admin]
port = 0
[limits.tiers.standard]
requests = "100/1s"
[upstreams.echo]
kind = "echo"
[[agents]]
id = 7
workspace = "acme"
name = "Support"
targets = [ { upstream = "echo" } ]
[[keys]]
id = "web"
hash = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
workspace = "acme"
tier = "standard"
"""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Served]:
    """The demo that comes with the project, on a free port."""
    with served(["--config", str(demo_config(tmp_path)), "--port", "0"]) as running:
        yield running


def test_greeting(demo: Served) -> None:
    """It says where it listens, where agents lead, that the demo key is public, and what to try."""
    assert f"oc-gateway listens on {demo.url}\n" in demo.greeting
    assert "/healthz /readyz /metrics" in demo.greeting
    assert 'agent 1 "Echo", workspace demo' in demo.greeting
    assert DEMO_KEY in demo.curl


def test_the_line_to_paste_answers(demo: Served) -> None:
    """The greeting's curl line, pasted as it stands, streams an answer."""
    pasted = subprocess.run(
        ["sh", "-c", demo.curl], capture_output=True, text=True, timeout=30, check=True
    )
    lines = [line for line in pasted.stdout.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    frames = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(frame["text"] for frame in frames if frame["type"] == "text-delta")
    assert text == "Where is my order?"
    assert shlex.split(demo.curl)[:2] == ["curl", "-N"]


def test_it_stops(demo: Served) -> None:
    """SIGTERM ends it with 0; of the log, every line is JSON."""
    subprocess.run(["sh", "-c", demo.curl], capture_output=True, timeout=30, check=True)
    parts = urlsplit(demo.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as bad:
        bad.sendall(b"NOT HTTP AT ALL\r\nAuthorization: Bearer canary\r\n\r\n")
        bad.recv(1000)
    code, out, err = demo.stop()
    assert code == 0
    assert "stopping" in out
    lines = [json.loads(line) for line in err.splitlines()]
    assert [(line["event"], line["status"]) for line in lines] == [
        ("request", 200),
        ("request", 400),
    ]
    assert "canary" not in err


def test_interrupt_is_no_failure(demo: Served) -> None:
    """Ctrl-C does the same, and shows no traceback."""
    demo.process.send_signal(signal.SIGINT)
    _, err = demo.process.communicate(timeout=30)
    assert (demo.process.returncode, err) == (0, "")


def test_open_streams_may_finish(demo: Served) -> None:
    """A stream that is open when SIGTERM comes gets its end; nobody else gets in."""
    parts = urlsplit(demo.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    words = " ".join(f"word{number}" for number in range(50))
    headers = {"Authorization": f"Bearer {DEMO_KEY}", "Content-Type": "application/json"}
    connection.request("POST", "/api/v2/agents/1/chat", json.dumps({"message": words}), headers)
    response = connection.getresponse()
    first = response.readline()
    demo.process.terminate()
    assert demo.process.stdout is not None
    while "stopping" not in (line := demo.process.stdout.readline()):
        assert line or demo.process.poll() is None
    rest = response.read()
    connection.close()
    assert b"word0" in first
    assert b"word49" in rest
    assert rest.endswith(b"data: [DONE]\n\n")
    demo.process.communicate(timeout=30)
    assert demo.process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)


def test_the_file_of_the_environment(tmp_path: Path) -> None:
    """OC_GATEWAY_CONFIG names the file; a key that is a secret is not in the line to paste."""
    path = tmp_path / "named.toml"
    path.write_text(KEYED)
    with served([], cwd=tmp_path, OC_GATEWAY_CONFIG=str(path)) as running:
        assert 'agent 7 "Support", workspace acme' in running.greeting
        assert '"Authorization: Bearer $OC_KEY"' in running.curl
        assert "is public" not in running.greeting
        assert running.stop()[0] == 0


def test_the_file_at_hand(tmp_path: Path) -> None:
    """Without a word it is ./gateway.toml; options come before the file."""
    (tmp_path / "gateway.toml").write_text(KEYED.replace("port = 0", "port = 1", 1))
    with served(["--port", "0", "--host", "localhost"], cwd=tmp_path) as running:
        assert not running.url.endswith(":1")
        assert running.stop()[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("port = 0", "prt = 0"), ["server.prt"]),
        (('kind = "echo"', 'kind = "echoo"'), ["upstreams.echo.kind"]),
        (('upstream = "echo"', 'upstream = "nobody"'), ["nobody"]),
        (("id = 7", 'id = "x"\nfoo = 1'), ["agents", "foo"]),
        (("[server]", "[server"), ["is not TOML"]),
    ],
)
def test_wrong_configuration(tmp_path: Path, change: tuple[str, str], said: list[str]) -> None:
    """Exit code 2, and every problem on standard error with its place; no traceback."""
    path = tmp_path / "wrong.toml"
    path.write_text(KEYED.replace(*change, 1))
    done = cli("run", "--config", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(str(path))
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in said), done.stderr


def test_no_configuration(tmp_path: Path) -> None:
    """A file that is not there: exit code 2, and which one it was."""
    done = cli("run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gateway.toml: cannot be read: no such file or directory\n"


def test_missing_secret(tmp_path: Path) -> None:
    """A credential whose variable is not set: exit code 2, before anything listens."""
    path = tmp_path / "secret.toml"
    upstream = 'kind = "openai"\nbase_url = "http://127.0.0.1:9"\n'
    upstream += 'credential = { env = "NOT_SET_ANYWHERE" }'
    text = KEYED.replace('kind = "echo"', upstream)
    path.write_text(text.replace('upstream = "echo"', 'upstream = "echo", model = "m"'))
    done = cli("run", "--config", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(str(path))
    assert "NOT_SET_ANYWHERE" in done.stderr


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (".", "is a directory"),
        ("nowhere/gateway.toml", "no such file"),
        (sys.executable, "is not UTF-8"),
    ],
    ids=["a folder", "no folder", "a program"],
)
def test_a_configuration_that_cannot_be_read(tmp_path: Path, path: str, said: str) -> None:
    """Exit code 2, and one line that names it."""
    done = cli("run", "--config", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"{path}: ")
    assert said in done.stderr


NAMED = {
    "a CA bundle": (
        ('kind = "echo"', 'kind = "openai"\nbase_url = "https://a.test"\nverify = "absent"'),
        ('upstream = "echo"', 'upstream = "echo", model = "m"'),
    ),
    "a transcript": (('kind = "echo"', 'kind = "replay"\nfile = "absent"'),),
    "a key set": (
        (
            "[[keys]]",
            '[[auth.jwks]]\nfile = "absent"\nalgorithms = ["EdDSA"]\n'
            'workspaces = ["acme"]\n[[keys]]',
        ),
    ),
    "an identity secret": (("targets", 'identity_secret = { file = "absent" }\ntargets'),),
}


@pytest.mark.parametrize("named", NAMED)
def test_a_file_that_is_named_and_not_there(tmp_path: Path, named: str) -> None:
    """Exit code 2, and one line with its name and its place in the configuration."""
    path, text = tmp_path / "naming.toml", KEYED
    for change in NAMED[named]:
        text = text.replace(*change, 1)
    path.write_text(text)
    done = cli("run", "--config", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"{path}: ")
    assert "'absent'" in done.stderr
    assert done.stderr.count(str(tmp_path)) == 1


def test_what_is_out_there_may_be_down(tmp_path: Path) -> None:
    """Upstreams and publishers of key sets that cannot be reached are no reason not to start: the
    log tells of the key set."""
    path = tmp_path / "alone.toml"
    text = KEYED.replace('kind = "echo"', 'kind = "openai"\nbase_url = "http://127.0.0.1:9"')
    jwks = '[[auth.jwks]]\nurl = "http://127.0.0.1:9/jwks.json"\n'
    jwks += 'algorithms = ["EdDSA"]\nworkspaces = ["acme"]\n'
    path.write_text(text.replace('upstream = "echo"', 'upstream = "echo", model = "m"') + jwks)
    with served(["--config", str(path)], cwd=tmp_path) as running:
        code, _, err = running.stop()
    assert code == 0
    (line,) = err.splitlines()
    assert json.loads(line)["event"] == "key_set_failed"


@pytest.mark.parametrize(
    ("section", "host"),
    [("server", "203.0.113.1"), ("server", "no.such.host.invalid"), ("admin", "203.0.113.1")],
)
def test_an_address_that_is_not_ours(tmp_path: Path, section: str, host: str) -> None:
    """Exit code 1, and one line that says which one and where it stands."""
    path = tmp_path / "elsewhere.toml"
    path.write_text(KEYED.replace(f"[{section}]", f'[{section}]\nhost = "{host}"'))
    done = cli("run", "--config", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"cannot listen on {host}:0: " in done.stderr
    assert f"[{section}]" in done.stderr
    assert "unknown" not in done.stderr


@contextmanager
def running(config: Path) -> Iterator["subprocess.Popen[str]"]:
    """`oc-gateway run` from its very beginning."""
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()


def _reloaded(running: Served) -> tuple[int, dict[str, object]]:
    """`POST /reload`."""
    parts = urlsplit(running.greeting.partition("metrics on ")[2].split()[0])
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    with closing(connection):
        connection.request("POST", "/reload")
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_what_the_command_line_says_holds_after_a_reload(tmp_path: Path) -> None:
    """--host and --port come before the file, whenever that is read; what else has changed there
    is taken up, or said to take a restart."""
    path = tmp_path / "changing.toml"
    text = KEYED.replace("port = 0", 'host = "203.0.113.1"\nport = 1', 1)
    path.write_text(text)
    with served(["--config", str(path), "--host", "localhost", "--port", "0"]) as running:
        assert _reloaded(running) == (200, {"ok": True, "needs_restart": []})
        path.write_text(text.replace("[server]", '[server]\nmounts = { openai = "/x" }'))
        mounts = {"ok": True, "needs_restart": ["server.mounts"]}
        assert _reloaded(running) == (200, mounts)
        path.write_text("[")
        status, told = _reloaded(running)
        assert (status, told["ok"]) == (422, False)


def test_a_signal_has_the_file_read(tmp_path: Path) -> None:
    """SIGHUP, which would end a process that does not expect it; also if nothing has changed."""
    path = tmp_path / "signalled.toml"
    path.write_text(KEYED)
    with served(["--config", str(path)]) as running:
        running.process.send_signal(signal.SIGHUP)
        assert running.process.stderr is not None
        assert json.loads(running.process.stderr.readline())["event"] == "config_reloaded"
        assert running.stop()[0] == 0


@pytest.mark.parametrize("signals", [1, 2], ids=["the time is up", "a second signal"])
def test_streams_that_do_not_end_are_ended(tmp_path: Path, signals: int) -> None:
    """In their dialect's words, after `drain_timeout` or with the second signal; the exit code is
    0 all the same."""
    path = demo_config(tmp_path)
    window = "100ms" if signals == 1 else "1h"
    path.write_text(path.read_text().replace("port = 8080", f'drain_timeout = "{window}"'))
    with served(["--config", str(path), "--port", "0"]) as running:
        parts = urlsplit(running.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        headers = {"Authorization": f"Bearer {DEMO_KEY}", "Content-Type": "application/json"}
        message = json.dumps({"message": "word " * 10_000})  # minutes of it
        with closing(connection):
            connection.request("POST", "/api/v2/agents/1/chat", message, headers)
            response = connection.getresponse()
            response.readline()
            running.process.terminate()
            assert running.process.stdout is not None
            while "stopping" not in (line := running.process.stdout.readline()):
                assert line or running.process.poll() is None
            if signals == 2:
                running.process.terminate()
            rest = response.read()
        assert b"the gateway is restarting, try again" in rest
        assert rest.endswith(b"data: [DONE]\n\n")
        running.process.communicate(timeout=30)
        assert running.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts(tmp_path: Path, number: signal.Signals) -> None:
    """Who publishes a key set takes their time, and nobody waits for that: it ends at once, with 0
    and without a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        path = tmp_path / "waiting.toml"
        jwks = f'[[auth.jwks]]\nurl = "http://127.0.0.1:{port}/"\nalgorithms = ["EdDSA"]\n'
        path.write_text(f'{KEYED}{jwks}workspaces = ["acme"]\n')
        with running(path) as process:
            asked, _ = silent.accept()
            with asked:
                process.send_signal(number)
                began = time.monotonic()
                assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0
        assert time.monotonic() - began < 5  # half of what the publisher has


def test_a_hangup_before_it_can_read(tmp_path: Path) -> None:
    """It is one for later, and no end."""
    path = tmp_path / "pipe.toml"
    os.mkfifo(path)
    with running(path) as process:
        with path.open("w") as pipe:  # it has begun to read
            process.send_signal(signal.SIGHUP)
            pipe.write(KEYED)
        assert process.stderr is not None
        line = json.loads(process.stderr.readline())
        # The second reading finds nothing in the pipe.
        assert line["event"] == "config_rejected"
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("gone", ["stdout", "stderr"])
def test_who_reads_what_it_says_may_leave(tmp_path: Path, gone: str) -> None:
    """As the other side of a pipe does. Everybody is served, and it stops as it would have."""
    with served(["--config", str(demo_config(tmp_path)), "--port", "0"]) as demo, demo.process:
        stream = getattr(demo.process, gone)
        stream.close()
        for _ in range(2):
            done = subprocess.run(
                ["sh", "-c", demo.curl], capture_output=True, text=True, timeout=30, check=True
            )
            assert done.stdout.endswith("data: [DONE]\n\n")
        assert _reloaded(demo)[0] == 200
        demo.process.terminate()
        assert demo.process.wait(timeout=30) == 0


def test_port_in_use(tmp_path: Path) -> None:
    """Exit code 1 and one line that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = cli("run", "--config", str(demo_config(tmp_path)), "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert port in done.stderr
    assert "address already in use" in done.stderr


def _stored(folder: Path, url: str, more: str = "") -> Path:
    path = folder / "stored.toml"
    path.write_text(f'{KEYED}[store]\nurl = "{url}"\n{more}')
    return path


def _cannot_open(config: Path, password: str = "") -> str:
    """The one line that it ends with: exit code 1, before anything listens."""
    done = cli("run", "--config", str(config), PASSWORD=password)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def _of_the_future(file: Path) -> None:
    asyncio.run(_opened_once(SqliteStore(file)))
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


async def _opened_once(store: Store) -> None:
    await store.open()
    await store.close()


@pytest.mark.parametrize(
    ("file", "make", "said"),
    [
        ("absent/kept.db", lambda _: None, "folder"),
        ("kept.db", Path.mkdir, "is a directory"),
        ("kept.db", lambda file: file.write_text("canary " * 1000), "not a database"),
        ("kept.db", _of_the_future, "version 99"),
        ("../../../../../../../../../proc/kept.db", lambda _: None, "folder"),
    ],
    ids=["no folder", "a folder", "not a database", "newer", "not writable"],
)
def test_a_file_that_cannot_be_opened(
    tmp_path: Path, file: str, make: Callable[[Path], object], said: str
) -> None:
    """What is wrong with it, and which one it is."""
    make(tmp_path / file)
    line = _cannot_open(_stored(tmp_path, f"sqlite:///{file}"))
    assert Path(file).name in line
    assert said in line.lower()
    assert "canary" not in line


SECRET = 'password = { env = "PASSWORD" }'


@pytest.mark.parametrize(
    ("change", "password", "said"),
    [
        (("gateway@", "guarded@"), "canary", "password"),
        (("gateway@", "nobody@"), "canary", "password"),
        (("/test", "/absent"), "", "no such database"),
    ],
    ids=["wrong password", "unknown user", "no database"],
)
def test_a_database_that_cannot_be_opened(
    tmp_path: Path, database: str, change: tuple[str, str], password: str, said: str
) -> None:
    """What the server says, and which one it is; never the password."""
    config = _stored(tmp_path, database.replace(*change), SECRET if password else "")
    line = _cannot_open(config, password)
    assert "127.0.0.1" in line
    assert said in line
    assert "canary" not in line


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """It refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    line = _cannot_open(_stored(tmp_path, f"postgresql://gw@127.0.0.1:{port}/chats"))
    assert str(port) in line
    assert "reached" in line


def test_a_server_that_does_not_answer(tmp_path: Path, database: str, postgres: Postgres) -> None:
    """It is not waited for longer than a few seconds."""
    with postgres.hung():
        began = time.monotonic()
        line = _cannot_open(_stored(tmp_path, database))
        assert time.monotonic() - began < 30  # its own start included
    assert "does not answer" in line


def test_a_database_of_the_future(tmp_path: Path, database: str, postgres: Postgres) -> None:
    """A newer gateway's schema is left alone."""
    asyncio.run(_opened_once(PostgresStore(database, None, 1)))
    name = database.rpartition("/")[2]
    postgres.sql("UPDATE oc_gateway_schema SET version = 99", name)
    assert "version 99" in _cannot_open(_stored(tmp_path, database))
    assert postgres.sql("SELECT version FROM oc_gateway_schema", name) == "99"


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_port_that_is_none(port: str) -> None:
    """Exit code 2, by the command line's own check."""
    done = cli("run", "--port", port)
    assert done.returncode == 2
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_is_right() -> None:
    """The file that comes with the project serves as it stands; other tests only move its port."""
    done = cli("check", str(ROOT / "gateway.toml"))
    assert done.returncode == 0, done.stderr
