"""Whom `oc-gateway run` believes: the publisher of a key set and an upstream, both behind TLS."""

import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.wire import json
from tests.auth.signers import key_set, signer
from tests.certificates import Pair, pair
from tests.serving import served

SIGNER = signer("EdDSA")
SAYING = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})

CONFIG = """
[server]
port = 0
workers = {workers}
[admin]
port = 0
[store]
url = "sqlite:///conversations.db"
[limits.tiers.standard]
requests = "100/1s"
[upstreams.far]
kind = "openai"
base_url = "{url}/v1"
[[agents]]
id = 1
workspace = "acme"
name = "Support"
targets = [ {{ upstream = "far", model = "m" }} ]
[[auth.jwks]]
url = "{url}/jwks.json"
algorithms = ["EdDSA"]
workspaces = ["acme"]
"""


class Far(BaseHTTPRequestHandler):
    """Both of them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(key_set(SIGNER.published()))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(SAYING)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def made(tmp_path: Path) -> Pair:
    made = pair()
    made.write(tmp_path)
    return made


@pytest.fixture
def far(made: Pair, tmp_path: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "site.pem", tmp_path / "site.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Far) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_address[1]}"
        server.shutdown()


def asked(url: str) -> tuple[int, bytes]:
    token = SIGNER.token(exp=int(time.time()) + 60, tier="standard")
    headers = {"Authorization": f"Bearer oc_live_{token}", "Content-Type": "application/json"}
    body = json.dumps({"message": "hi", "stream": False})
    request = urllib.request.Request(f"{url}/api/v2/agents/1/chat", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_system_s_certificates(far: str, tmp_path: Path, workers: int) -> None:
    """Those that OpenSSL is told of are believed."""
    path = tmp_path / "far.toml"
    path.write_text(CONFIG.format(url=far, workers=workers))
    bundle = str(tmp_path / "site.pem")
    with served(["--config", str(path)], cwd=tmp_path, SSL_CERT_FILE=bundle) as gateway:
        status, said = asked(gateway.url)
        assert status == 200, said
        assert b"Hello" in said
        assert gateway.stop()[0] == 0


def test_a_stranger(far: str, tmp_path: Path) -> None:
    """Nobody else is."""
    path = tmp_path / "far.toml"
    path.write_text(CONFIG.format(url=far, workers=1))
    with served(["--config", str(path)], cwd=tmp_path) as gateway:
        assert asked(gateway.url)[0] == 401
        code, _, log = gateway.stop()
    assert code == 0
    assert '"event":"key_set_failed"' in log
