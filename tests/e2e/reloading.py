"""A gateway that follows its file, and hands that change the file as people and machines do."""

import asyncio
import io
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from gateway.app import Gateway
from gateway.config.file import ConfigFile
from gateway.core.events import Json
from gateway.observe.logs import build_logger
from gateway.wire import json
from tests.e2e.running import Running, eventually
from tests.e2e.scripted import PATIENCE

SUCCESSFUL = "oc_gateway_config_last_reload_successful"
SUCCESS_AT = "oc_gateway_config_last_reload_success_timestamp_seconds"

Write = Callable[[Path, str], object]


def in_place(path: Path, text: str) -> None:
    """As `cat > file` does."""
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    """As editors do: a new file that takes the old one's name."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def with_backup(path: Path, text: str) -> None:
    """As other editors do: the old file becomes the backup, and the new one is written."""
    if path.exists():
        path.rename(path.with_name(f"{path.name}~"))
    path.write_text(text)


def mount(path: Path, text: str) -> None:
    """As Kubernetes mounts a ConfigMap, and changes it: the name is a link through `..data`, which
    leads to a folder, and is exchanged as a whole."""
    folder = Path(tempfile.mkdtemp(prefix="..", dir=path.parent))
    (folder / path.name).write_text(text)
    data = path.parent / "..data"
    (path.parent / "..data_tmp").symlink_to(folder.name)
    old = data.resolve() if data.is_symlink() else None
    (path.parent / "..data_tmp").replace(data)
    if not path.is_symlink():
        path.unlink(missing_ok=True)
        path.symlink_to(Path("..data") / path.name)
    if old is not None:
        (old / path.name).unlink()
        old.rmdir()


def behind_a_link(path: Path, text: str) -> None:
    """The name is a link to a file in a folder of its own, and that file is written."""
    real = path.parent / "elsewhere" / path.name
    real.parent.mkdir(exist_ok=True)
    real.write_text(text)
    if not path.is_symlink():
        path.unlink(missing_ok=True)
        path.symlink_to(real)


@dataclass(slots=True, kw_only=True)
class Following(Running):
    """A gateway with the file that it follows."""

    path: Path

    async def reload(self) -> tuple[int, dict[str, Json]]:
        """`POST /reload`."""
        async with self.session.post(self.gateway.admin.url + "/reload") as response:
            return response.status, json.mapping(json.loads(await response.read()))

    async def until_reloads(self, count: int, result: str = "ok") -> None:
        """Wait until so many were counted."""
        async with asyncio.timeout(PATIENCE):
            while await self.reloads(result) < count:  # noqa: ASYNC110 - a scrape has no events
                await asyncio.sleep(0.01)

    async def reloads(self, result: str = "ok") -> float:
        return (await self.metrics())[f'oc_gateway_config_reloads_total{{result="{result}"}}']

    def lines(self, event: str) -> list[dict[str, Json]]:
        """Those of the log that tell of it."""
        return [line for line in self.log_lines() if line["event"] == event]

    async def logged(self, event: str) -> dict[str, Json]:
        """The first of them."""
        await eventually(lambda: bool(self.lines(event)))
        return self.lines(event)[0]


@asynccontextmanager
async def following(
    path: Path, text: str, write: Write = in_place, **environ: str
) -> AsyncIterator[Following]:
    """A gateway that was started from a file with this text."""
    write(path, text)
    file, log = ConfigFile(path), io.BytesIO()
    gateway = Gateway(
        file.read(), file.base, build_logger("debug", log), {**os.environ, **environ}, file=file
    )
    await gateway.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield Following(gateway, session, log, path=path)
    finally:
        await asyncio.wait_for(gateway.stop(), 15)
