"""The certificate of a listener, read from its files and ready for handshakes."""

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from msgspec import Struct

from gateway.config.listeners import Tls, TlsVersion
from gateway.config.problems import ConfigError, Problem
from gateway.config.secrets import reveal
from gateway.config.values import Secret

_VERSIONS: dict[TlsVersion, ssl.TLSVersion] = {
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

_HOST = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")

# OpenSSL's words for a pair that is none.
_MISMATCHES = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"})


class Certificate(Struct, frozen=True):
    """What a server is known by; `begins` and `expires` are in Unix seconds."""

    context: ssl.SSLContext
    begins: float
    expires: float
    names: tuple[str, ...]
    """The hosts that it is for, as DNS has them; wildcards are left out."""

    def fault(self, now: float) -> str:
        """Why clients do not take it at this time; `""` if they do."""
        if now >= self.expires:
            return f"it expired on {_date(self.expires)}"
        return f"it is not valid before {_date(self.begins)}" if now < self.begins else ""


class _EncryptedKey(Exception):
    pass


def read_certificate(tls: Tls, base: Path) -> Certificate:
    """The pair that the files hold now, whether or not its time has come. `base` is the folder that
    their paths are relative to.

    Raises `ConfigError` for what is not there, or is no pair.
    """
    chain = reveal(Secret(file=tls.certificate), base, where="server.tls.certificate")
    key = reveal(Secret(file=tls.key), base, where="server.tls.key")
    try:
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError as exc:
        raise _no_use(base, "certificate", tls.certificate, "holds no certificate in PEM") from exc
    if "PRIVATE KEY-----" not in key:
        raise _no_use(base, "key", tls.key, "holds no private key in PEM")
    return Certificate(
        context=_context(tls, base),
        begins=leaf.not_valid_before_utc.timestamp(),
        expires=leaf.not_valid_after_utc.timestamp(),
        names=_names(leaf),
    )


def _context(tls: Tls, base: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    # A client that may have a handshake done again and again has us do the costlier half of it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password of ours, OpenSSL would ask for one at the terminal, and wait.
        context.load_cert_chain(base / tls.certificate, base / tls.key, password=_no_password)
    except _EncryptedKey as exc:
        raise _no_use(base, "key", tls.key, "is encrypted: store it without a password") from exc
    except ssl.SSLError as exc:
        if exc.reason in _MISMATCHES:
            said = f"is not the key of the certificate {tls.certificate!r}"
            raise _no_use(base, "key", tls.key, said) from exc
        said = f"cannot be used: {(exc.reason or 'damaged').lower().replace('_', ' ')}"
        raise ConfigError(
            base, [Problem("server.tls", f"the certificate or its key {said}")]
        ) from exc
    except OSError as exc:  # gone since it was read
        said = f"cannot be read: {(exc.strerror or '').lower()}"
        raise _no_use(base, "certificate", tls.certificate, said) from exc
    return context


def _no_password() -> NoReturn:
    raise _EncryptedKey


def _no_use(base: Path, field: str, file: str, said: str) -> ConfigError:
    return ConfigError(base, [Problem(f"server.tls.{field}", f"the file {file!r} {said}")])


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names = found.value.get_values_for_type(x509.DNSName)
    return tuple(name for name in names if _HOST.fullmatch(name))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds").replace("+00:00", "Z")
