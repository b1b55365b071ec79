"""Certificates are exchanged while the gateway serves."""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.cli.run import greeting
from tests.certificates import DAY, Pair, pair
from tests.e2e.reloading import SUCCESSFUL, Following, by_rename, following, in_place
from tests.e2e.running import config, eventually
from tests.e2e.scripted import END, ScriptedUpstream, Wait, chunk, delta, event, finish, head
from tests.tls.shaking import anyone, shake, until_shown

EXPIRY = "oc_gateway_tls_certificate_expiry_timestamp_seconds"
TABLE = '[server.tls]\ncertificate = "site.pem"\nkey = "site.key"\n'

Renew = Callable[[Path, Pair], object]


def echoing(**changes: str) -> str:
    return config("", kind="echo", target="", **changes)


def one_by_one(folder: Path, new: Pair) -> None:
    """As `cat > file` does, and the key last: for a moment they are no pair."""
    in_place(folder / "site.pem", new.certificate)
    in_place(folder / "site.key", new.key)


def renamed(folder: Path, new: Pair) -> None:
    """As careful scripts do."""
    by_rename(folder / "site.key", new.key)
    by_rename(folder / "site.pem", new.certificate)


def mounted(folder: Path, new: Pair) -> None:
    """As Kubernetes mounts a Secret, and cert-manager changes it: both at once, by one link."""
    version = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    new.write(version)
    data = folder / "..data"
    old = data.resolve() if data.is_symlink() else None
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").replace(data)
    for name in ("site.pem", "site.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    if old is not None:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def archived(folder: Path, new: Pair) -> None:
    """As certbot does: `live` holds links into an archive, which are exchanged one after the
    other."""
    archive = folder / "archive"
    archive.mkdir(exist_ok=True)
    version = Path(tempfile.mkdtemp(dir=archive))
    new.write(version)
    for name in ("site.pem", "site.key"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(Path("archive") / version.name / name)


RENEWALS = [one_by_one, renamed, mounted, archived]


@asynccontextmanager
async def serving(
    folder: Path, first: Pair, renew: Renew = one_by_one, text: str = echoing() + TABLE
) -> AsyncIterator[Following]:
    renew(folder, first)
    async with following(folder / "gateway.toml", text) as gateway:
        yield gateway


@pytest.mark.parametrize("renew", RENEWALS, ids=lambda renew: renew.__name__)
async def test_new_connections_are_shown_the_new_certificate(tmp_path: Path, renew: Renew) -> None:
    """However the files are exchanged, and again: what is watched moves with the links."""
    first = pair()
    async with serving(tmp_path, first, renew) as gateway:
        assert gateway.url.startswith("https://127.0.0.1:")
        assert (await shake(gateway.url)).serial == first.serial
        for new in (pair(), pair()):
            renew(tmp_path, new)
            await until_shown(gateway.url, new)
            assert _expiry(gateway) == new.expires.timestamp()
        assert (await gateway.metrics())[SUCCESSFUL] == 1


def _expiry(gateway: Following) -> float | None:
    return gateway.gateway.metrics.registry.get_sample_value(EXPIRY)


async def test_every_client_is_shown_it(tmp_path: Path) -> None:
    """With a name or without, in each version; also one with another kind of key."""
    first, new = pair(), pair("chat.acme.example", rsa=True)
    older, newer = anyone(), anyone()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    newer.minimum_version = ssl.TLSVersion.TLSv1_3
    async with serving(tmp_path, first) as gateway:
        renamed(tmp_path, new)
        await until_shown(gateway.url, new)
        for context in (older, newer):
            for name in ("", "localhost", "chat.acme.example", "nobody.example"):
                assert (await shake(gateway.url, context, name)).serial == new.serial


async def test_open_streams_go_on(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """What was shaken hands upon stays, to the stream's end and for the next request."""
    first, new, go_on = pair(), pair(), asyncio.Event()
    rest = [chunk(event(finish()) + b"data: [DONE]\n\n"), END]
    upstream.answers([head(), chunk(event(delta("Hi"))), Wait(go_on), *rest])
    async with serving(tmp_path, first, text=config(upstream.url) + TABLE) as gateway:
        gateway.tls = first.trusting()
        shown = asyncio.Event()
        stream = asyncio.ensure_future(gateway.stepwise("v2", (b"Hi", shown)))
        await shown.wait()
        renamed(tmp_path, new)
        await until_shown(gateway.url, new)
        go_on.set()
        assert (await stream).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def _other_key(folder: Path) -> None:
    in_place(folder / "site.key", pair().key)


def _no_certificate(folder: Path) -> None:
    by_rename(folder / "site.pem", "-----BEGIN CERTIFICATE-----\n")


def _gone(folder: Path) -> None:
    (folder / "site.key").unlink()


@pytest.mark.parametrize(
    ("damage", "field", "said"),
    [
        (_other_key, "key", "the file 'site.key' is not the key of the certificate 'site.pem'"),
        (_no_certificate, "certificate", "the file 'site.pem' holds no certificate in PEM"),
        (_gone, "key", "the file 'site.key' cannot be read: no such file or directory"),
    ],
)
async def test_a_broken_pair_changes_nothing(
    tmp_path: Path, damage: Callable[[Path], object], field: str, said: str
) -> None:
    """The log, the metric and `POST /reload` say so; once it is mended, it is taken up."""
    first, new = pair(), pair()
    async with serving(tmp_path, first) as gateway:
        damage(tmp_path)
        await gateway.until_reloads(1, "failed")
        status, body = await gateway.reload()
        assert status == 422
        assert body["problems"] == [{"where": f"server.tls.{field}", "problem": said}]
        rejected = await gateway.logged("config_rejected")
        assert rejected["problems"] == [f"server.tls.{field}: {said}"]
        assert (await gateway.metrics())[SUCCESSFUL] == 0
        assert (await shake(gateway.url, first.trusting(), "127.0.0.1")).serial == first.serial
        assert _expiry(gateway) == first.expires.timestamp()

        renamed(tmp_path, new)
        await until_shown(gateway.url, new)
        await eventually(lambda: bool(gateway.lines("config_reloaded")))


async def test_it_is_taken_up_when_told_to(tmp_path: Path) -> None:
    """`POST /reload` has it in force when it answers."""
    first, new = pair(), pair()
    async with serving(tmp_path, first) as gateway:
        renamed(tmp_path, new)
        assert (await gateway.reload())[0] == 200
        assert (await shake(gateway.url)).serial == new.serial


async def test_another_pair_in_the_file(tmp_path: Path) -> None:
    """The files may have other names from now on; these are watched as well."""
    first, new = pair(), pair()
    async with serving(tmp_path, first) as gateway:
        for name in ("two", "three"):
            (tmp_path / name).mkdir()
            new = pair()
            new.write(tmp_path / name)
            in_place(gateway.path, echoing() + TABLE.replace('"site', f'"{name}/site'))
            await until_shown(gateway.url, new)
        newest = pair()
        renamed(tmp_path / "three", newest)
        await until_shown(gateway.url, newest)


@pytest.mark.parametrize("changed", ["", TABLE + 'min_version = "1.3"\n'])
async def test_what_takes_a_restart(tmp_path: Path, changed: str) -> None:
    """To speak TLS no more, or only a newer one: it says so, and goes on as it was."""
    first = pair()
    async with serving(tmp_path, first) as gateway:
        in_place(gateway.path, echoing() + changed)
        reloaded = await gateway.logged("config_reloaded")
        assert reloaded["needs_restart"] == ["server.tls"]
        older = anyone()
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await shake(gateway.url, older)).serial == first.serial


async def test_to_speak_tls_takes_a_restart(tmp_path: Path) -> None:
    """It says so, and goes on in the clear."""
    async with serving(tmp_path, pair(), text=echoing()) as gateway:
        in_place(gateway.path, echoing() + TABLE)
        reloaded = await gateway.logged("config_reloaded")
        assert reloaded["needs_restart"] == ["server.tls"]
        assert gateway.url.startswith("http://")
        assert (await gateway.chat_v2()).status == 200
        assert EXPIRY not in await gateway.metrics()


@pytest.mark.parametrize(
    ("begins", "expires", "said"),
    [(-2 * DAY, -DAY, "it expired on"), (DAY, 2 * DAY, "it is not valid before")],
)
async def test_a_certificate_at_the_wrong_time(
    tmp_path: Path, begins: timedelta, expires: timedelta, said: str
) -> None:
    """It is served, for there is none better, and the log says what is wrong with it."""
    wrong = pair(begins=begins, expires=expires)
    async with serving(tmp_path, wrong) as gateway:
        assert said in str((await gateway.logged("certificate_not_valid"))["problem"])
        assert (await shake(gateway.url)).serial == wrong.serial
        assert _expiry(gateway) == wrong.expires.timestamp()


async def test_an_older_version_is_ruled_out(tmp_path: Path) -> None:
    """With `min_version`, also once the certificate is another one."""
    first, new, older = pair(), pair(), anyone()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    text = echoing() + TABLE + 'min_version = "1.3"\n'
    async with serving(tmp_path, first, text=text) as gateway:
        for shown in (first, new):
            renamed(tmp_path, shown)
            await until_shown(gateway.url, shown)
            assert (await shake(gateway.url)).version == "TLSv1.3"
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await shake(gateway.url, older)


async def test_the_greeting(tmp_path: Path) -> None:
    """Its line to paste finds the gateway by a name that the certificate is for."""
    async with serving(tmp_path, pair("chat.acme.example")) as gateway:
        port = gateway.url.rpartition(":")[2]
        said = greeting(gateway.gateway)
        assert f"listens on https://127.0.0.1:{port}\n" in said
        assert (
            f"curl -N --resolve chat.acme.example:{port}:127.0.0.1"
            f" https://chat.acme.example:{port}/api/v2/agents/1/chat" in said
        )
