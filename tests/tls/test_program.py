"""`oc-gateway` as its users start it, over TLS."""

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import DAY, Pair, pair
from tests.serving import Served, cli, demo_config, served
from tests.tls.shaking import shake, until_shown


@pytest.fixture
def first() -> Pair:
    return pair()


@contextmanager
def serving(folder: Path, made: Pair) -> Iterator[Served]:
    config = demo_config(folder)
    config.write_text(config.read_text() + made.write(folder))
    with served(["--config", str(config), "--port", "0"]) as running:
        yield running


def test_the_line_to_paste_answers(tmp_path: Path, first: Pair) -> None:
    """As it stands, where the certificate is trusted."""
    with serving(tmp_path, first) as gateway:
        assert gateway.url.startswith("https://127.0.0.1:")
        pasted = subprocess.run(
            ["sh", "-c", gateway.curl],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "CURL_CA_BUNDLE": str(tmp_path / "site.pem")},
        )
        assert pasted.stdout.splitlines()[-2:] == ["data: [DONE]", ""]
        assert gateway.stop()[0] == 0


def test_chat(tmp_path: Path, first: Pair) -> None:
    """A conversation, with a certificate that is trusted; with another one, why there is none."""
    with serving(tmp_path, first) as gateway:
        bundle = str(tmp_path / "site.pem")
        done = cli("chat", "1", "Hello", "--url", gateway.url, SSL_CERT_FILE=bundle)
        assert (done.returncode, done.stdout.partition("\n")[0]) == (0, "Hello")

        strange = cli("chat", "1", "Hello", "--url", gateway.url)
        assert (strange.returncode, strange.stdout) == (1, "")
        assert "CERTIFICATE_VERIFY_FAILED" in strange.stderr


async def test_a_signal_has_it_read_again(tmp_path: Path, first: Pair) -> None:
    """SIGHUP, as renewal hooks send it. The admin's listener stays as it is."""
    new = pair(expires=2 * DAY)
    with serving(tmp_path, first) as gateway:
        assert (await shake(gateway.url)).serial == first.serial
        new.write(tmp_path)
        gateway.process.send_signal(signal.SIGHUP)
        await until_shown(gateway.url, new)
        assert _expiry(gateway) == new.expires.timestamp()
        assert gateway.stop()[0] == 0


def _expiry(gateway: Served) -> float:
    admin = gateway.greeting.partition("metrics on ")[2].split()[0]
    with urllib.request.urlopen(f"{admin}/metrics", timeout=10) as response:
        text: str = response.read().decode()
    return float(
        text.partition("\noc_gateway_tls_certificate_expiry_timestamp_seconds ")[2].split()[0]
    )


def test_a_wrong_pair_does_not_start(tmp_path: Path, first: Pair) -> None:
    """Exit code 2, and what is wrong, by its place in the file."""
    config = demo_config(tmp_path)
    config.write_text(config.read_text() + first.write(tmp_path))
    (tmp_path / "site.key").write_text(pair().key)
    done = cli("run", "--config", str(config), "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{config}: server.tls.key: the file 'site.key' is not the key of the certificate"
        " 'site.pem'\n"
    )


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_key_with_a_password_asks_nobody(tmp_path: Path, command: str) -> None:
    """Not even at a terminal."""
    config = demo_config(tmp_path)
    config.write_text(config.read_text() + pair(password=b"s3cret").write(tmp_path))
    args = ["check", str(config)] if command == "check" else ["run", "--config", str(config)]
    done = cli(*args, stdin="s3cret\n")
    assert done.returncode == 2
    assert "'site.key' is encrypted: store it without a password" in done.stderr


@pytest.mark.parametrize(
    ("made", "code", "said"),
    [
        (pair(), 0, ""),
        (pair(expires=-DAY / 24), 2, "clients will not take 'site.pem': it expired on "),
        (pair(begins=DAY / 24), 2, "clients will not take 'site.pem': it is not valid before "),
    ],
)
def test_check(tmp_path: Path, made: Pair, code: int, said: str) -> None:
    """It sees what clients would complain of."""
    config = demo_config(tmp_path)
    config.write_text(config.read_text() + made.write(tmp_path))
    done = cli("check", str(config))
    assert done.returncode == code
    assert said in done.stderr
    assert bool(said) == done.stderr.startswith(f"{config}: server.tls.certificate: ")


def test_check_elsewhere(tmp_path: Path, first: Pair) -> None:
    """Files that are not here may be where the gateway runs: warnings, as for secrets."""
    config = demo_config(tmp_path)
    config.write_text(config.read_text() + first.write(tmp_path))
    (tmp_path / "site.key").unlink()
    done = cli("check", str(config))
    assert done.returncode == 0
    assert done.stderr == (
        f"{config}: warning: server.tls.key: the file 'site.key' cannot be read: no such file or"
        " directory\n"
    )
