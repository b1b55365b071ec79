"""nginx as a plain reverse proxy, in one process: what a hop costs in C.

`python -m tests.bench.nginx MOCK_PORT` has it for a child.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.process import announce
from tests.nginx import await_port, free_port

# One process, so that it can be pinned and measured as the others are.
_CONFIG = """
daemon off;
master_process off;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b;
    proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    {upstreams}
    server {{
        listen 127.0.0.1:{port} backlog=8192;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
        location / {{ proxy_pass http://mock1; }}
        location /20x {{ proxy_pass http://mock2; }}
    }}
}}
"""

_UPSTREAM = """
    upstream mock{number} {{
        server 127.0.0.{number}:{port}; keepalive 1024; keepalive_requests 1000000000;
    }}"""


def binary() -> str | None:
    """Where it is, if it is installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def serve(mock: int, folder: Path) -> None:
    """Until the process is ended."""
    found, port = binary(), free_port()
    assert found is not None
    upstreams = "".join(_UPSTREAM.format(number=number, port=mock) for number in (1, 2))
    files = os.sysconf("SC_OPEN_MAX")
    path = folder / "nginx.conf"
    path.write_text(_CONFIG.format(folder=folder, port=port, files=files, upstreams=upstreams))
    process = subprocess.Popen([found, "-c", str(path), "-e", str(folder / "error.log")])
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    await_port(port)
    announce("nginx", port)
    process.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        serve(int(sys.argv[1]), Path(made))
