"""A real nginx for the tests, in front of gateways, as Debian packages it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    upstream gateways {{
        {servers}
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateways;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""

_TIMEOUT = 20.0


def free_port() -> int:
    """One that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def nginx(folder: Path, ports: Sequence[int]) -> Iterator[str]:
    """The URL of one that shares requests between what listens at these ports."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert binary, "nginx is missing: run tests/install"
    folder.mkdir()
    port = free_port()
    path = folder / "nginx.conf"
    # By default it asks one that refused a connection only ten seconds later again, and the tests
    # have restarted the other one by then.
    servers = "\n        ".join(f"server 127.0.0.1:{number} max_fails=0;" for number in ports)
    # As root it would give its workers to a user that may not enter the folder.
    user = "user root;" if Path("/proc/self").stat().st_uid == 0 else ""
    path.write_text(_CONFIG.format(folder=folder, port=port, servers=servers, user=user))
    process = subprocess.Popen([binary, "-c", str(path), "-e", str(folder / "error.log")])
    try:
        await_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_TIMEOUT)


def await_port(port: int) -> None:
    """Until something listens there."""
    end = time.monotonic() + _TIMEOUT
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise AssertionError(f"nothing listens at port {port}")
