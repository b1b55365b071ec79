"""Clients written in JavaScript: the scripts of `tests/clients`, each in a Node.js of its own."""

import asyncio
from pathlib import Path

from gateway.core.events import Json
from gateway.wire import json

CLIENTS = Path(__file__).parent.parent / "clients"

# Of one script, in seconds: a Node.js that starts on a busy machine takes several.
_TIMEOUT = 120.0


async def run(script: str, given: Json = None, *, stdin: bytes = b"") -> Json:
    """What the script prints, given a value."""
    assert (CLIENTS / "node_modules").is_dir(), "tests/install brings them"
    node = await asyncio.create_subprocess_exec(
        "node",
        CLIENTS / script,
        json.dumps(given).decode(),
        cwd=CLIENTS,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(node.communicate(stdin), _TIMEOUT)
    except TimeoutError:
        node.kill()
        await node.wait()
        raise
    assert node.returncode == 0, err.decode()
    return json.loads(out)
