"""`oc-gateway run`, as a process."""

import http.client
import json
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.serving import DEMO_KEY, ROOT, Served, cli, demo_config, served

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


def test_port_in_use(tmp_path: Path) -> None:
    """Exit code 1 and one line that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = cli("run", "--config", str(demo_config(tmp_path)), "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert port in done.stderr
    assert "address already in use" in done.stderr


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
