"""Certificates that tests make for themselves."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A self-signed certificate and its key, in PEM."""

    certificate: str
    key: str
    serial: int
    expires: datetime

    def write(self, folder: Path) -> str:
        """Put both into a folder; the table of the config that names them."""
        (folder / "site.pem").write_text(self.certificate)
        (folder / "site.key").write_text(self.key)
        return '[server.tls]\ncertificate = "site.pem"\nkey = "site.key"\n'

    def trusting(self) -> ssl.SSLContext:
        """A client that takes this certificate and no other."""
        return ssl.create_default_context(cadata=self.certificate)


def pair(
    host: str = "localhost",
    *,
    begins: timedelta = -DAY,
    expires: timedelta = DAY,
    password: bytes | None = None,
    rsa: bool = False,
) -> Pair:
    """For this host and 127.0.0.1; its times are counted from now."""
    key = generate_private_key(65537, 2048) if rsa else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    hosts = x509.SubjectAlternativeName(
        [x509.DNSName(host), x509.IPAddress(ip_address("127.0.0.1"))]
    )
    now = datetime.now(UTC).replace(microsecond=0)
    serial = x509.random_serial_number()
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(now + begins)
        .not_valid_after(now + expires)
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        signed.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        ).decode(),
        serial,
        now + expires,
    )
