"""A certificate and its key, as the listener takes them."""

import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.config.certificate import Certificate, read_certificate
from gateway.config.listeners import Tls
from gateway.config.load import ConfigError
from gateway.config.secrets import MissingSecret
from tests.certificates import DAY, Pair, pair

TLS = Tls(certificate="site.pem", key="site.key")

Damage = Callable[[Pair, Path], object]


@pytest.fixture(scope="module")
def good() -> Pair:
    return pair("chat.acme.example")


def read(folder: Path, made: Pair, tls: Tls = TLS) -> Certificate:
    made.write(folder)
    return read_certificate(tls, folder)


def test_a_pair(tmp_path: Path, good: Pair) -> None:
    """It can shake hands; what it is for, and until when, is known."""
    certificate = read(tmp_path, good)

    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert certificate.expires == good.expires.timestamp()
    assert certificate.names == ("chat.acme.example",)
    assert certificate.fault(time.time()) == ""


def test_a_newer_version(tmp_path: Path, good: Pair) -> None:
    """TLS 1.2 can be ruled out."""
    tls = TLS.model_copy(update={"min_version": "1.3"})

    assert read(tmp_path, good, tls).context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_what_follows_the_certificate_has_a_time_of_its_own(tmp_path: Path, good: Pair) -> None:
    """Of a chain, the first counts: others may be there for old clients, and be over."""
    old = pair(begins=-2 * DAY, expires=-DAY)
    good.write(tmp_path)
    (tmp_path / "site.pem").write_text(good.certificate + old.certificate)

    assert read_certificate(TLS, tmp_path).expires == good.expires.timestamp()


def test_names_for_a_command_line(tmp_path: Path) -> None:
    """A wildcard is no host, and nothing that a shell would read in another way is one."""
    for name in ("*.acme.example", "a;b", "a b", "$HOME"):
        assert read(tmp_path, pair(name)).names == ()


@pytest.mark.parametrize(
    ("begins", "expires", "said"),
    [(-2 * DAY, -DAY, "it expired on "), (DAY, 2 * DAY, "it is not valid before ")],
)
def test_the_wrong_time(tmp_path: Path, begins: timedelta, expires: timedelta, said: str) -> None:
    """It is read all the same, and says what is wrong, in UTC."""
    fault = read(tmp_path, pair(begins=begins, expires=expires)).fault(time.time())

    assert fault.startswith(said)
    assert fault.endswith("Z")


def test_the_last_second(tmp_path: Path, good: Pair) -> None:
    """From the moment that it names, it is no good."""
    certificate = read(tmp_path, good)

    assert not certificate.fault(certificate.expires - 1)
    assert certificate.fault(certificate.expires)


def _swapped(made: Pair, folder: Path) -> None:
    (folder / "site.pem").write_text(made.key)
    (folder / "site.key").write_text(made.certificate)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda _, folder: (folder / "site.key").write_text(pair().key),
            "server.tls.key: the file 'site.key' is not the key of the certificate 'site.pem'",
        ),
        (
            lambda _, folder: (folder / "site.pem").write_text("s3cret"),
            "server.tls.certificate: the file 'site.pem' holds no certificate in PEM",
        ),
        (
            lambda made, folder: (folder / "site.pem").write_text(made.certificate[:200]),
            "server.tls.certificate: the file 'site.pem' holds no certificate in PEM",
        ),
        (
            _swapped,
            "server.tls.certificate: the file 'site.pem' holds no certificate in PEM",
        ),
        (
            lambda _, folder: (folder / "site.key").write_text("s3cret"),
            "server.tls.key: the file 'site.key' holds no private key in PEM",
        ),
        (
            lambda made, folder: (folder / "site.key").write_text(made.key[:60]),
            "server.tls: the certificate or its key cannot be used: damaged",
        ),
        (
            lambda _, folder: pair(password=b"s3cret").write(folder),
            "server.tls.key: the file 'site.key' is encrypted: store it without a password",
        ),
    ],
)
def test_no_pair(tmp_path: Path, good: Pair, damage: Damage, said: str) -> None:
    """The error names the file and what is wrong with it, never what is in it; and nobody is asked
    for a password."""
    good.write(tmp_path)
    damage(good, tmp_path)

    with pytest.raises(ConfigError) as caught:
        read_certificate(TLS, tmp_path)

    assert str(caught.value) == f"{tmp_path}: {said}"


@pytest.mark.parametrize("file", ["site.pem", "site.key"])
def test_a_file_that_is_not_there(tmp_path: Path, good: Pair, file: str) -> None:
    """It may be where the gateway runs: the same error as for a secret."""
    good.write(tmp_path)
    (tmp_path / file).unlink()

    with pytest.raises(MissingSecret, match="no such file"):
        read_certificate(TLS, tmp_path)
