"""A real nginx in front of two gateways, as it stands in front of them in production."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.scripted import PATIENCE

_CONFIG = """
worker_processes 1;
daemon off;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s;
  upstream gateways {{
    {servers}
    keepalive 64;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_read_timeout 60s;
    }}
  }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, port: int, behind: list[int]) -> AsyncIterator[str]:
    """Its address, once it accepts."""
    servers = "\n    ".join(f"server 127.0.0.1:{number} fail_timeout=1s;" for number in behind)
    path = folder / "nginx.conf"
    path.write_text(_CONFIG.format(servers=servers, port=port))
    process = await asyncio.create_subprocess_exec(
        "nginx", "-p", folder, "-c", path, "-e", folder / "error.log"
    )
    try:
        await _accepts(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE)


async def _accepts(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
