"""The proxies of deploy/fronts/, as they are started in front of gateways of the tests'.

A file is taken as it stands, but for the addresses and the certificate.
"""

import os
import socket
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from gateway.wire import json
from tests.deploy.files import DEPLOY, Document, document
from tests.e2e.javascript import CLIENTS

NAME = "chat.example.com"

# What surrounds a site in the worst case: everything on that delays events.
_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    gzip on;
    gzip_proxied any;
    gzip_min_length 0;
    gzip_types *;
    {temporary}
    include {folder}/site.conf;
}}
"""
_ENVOY = CLIENTS / ".python" / "envoy" / "envoy" / "_bin" / "envoy"

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_CADDY = """
{{
	admin off
	auto_https disable_redirects
	storage file_system {folder}
}}
{site}
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Place:
    """Where a front listens, what it is in front of (`host:port`), and with which certificate."""

    folder: Path
    port: int
    gateways: tuple[str, ...]
    admin: int
    certificate: Path


def _changed(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, f"{old} is not in the file"
        text = text.replace(old, new)
    return text


def _nginx(place: Place) -> list[str]:
    servers = "\n".join(f"server {address} fail_timeout=1s;" for address in place.gateways)
    site = _changed(
        (DEPLOY / "fronts" / "nginx.conf").read_text(),
        {
            "server 127.0.0.1:8080 fail_timeout=1s;": servers,
            "listen 443": f"listen 127.0.0.1:{place.port}",
            "listen [::]:443 ssl http2;": "",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "listen [::]:80;": "",
            f"/etc/ssl/certs/{NAME}.pem": str(place.certificate),
            f"/etc/ssl/private/{NAME}.key": str(place.certificate),
        },
    )
    (place.folder / "site.conf").write_text(site)
    temporary = "".join(f"{name}_temp_path {place.folder}/{name};\n" for name in _TEMPORARY)
    user = "user root;" if os.getuid() == 0 else ""
    main = place.folder / "nginx.conf"
    main.write_text(_NGINX.format(folder=place.folder, temporary=temporary, user=user))
    return ["nginx", "-e", "stderr", "-c", str(main)]


def _caddy(place: Place) -> list[str]:
    site = _changed(
        (DEPLOY / "fronts" / "Caddyfile").read_text(),
        {
            f"\n{NAME} {{": f"\nhttps://{NAME}:{place.port} {{\n"
            f"bind 127.0.0.1\ntls {place.certificate} {place.certificate}",
            "127.0.0.1:8080": " ".join(place.gateways),
            "health_port 9090": f"health_port {place.admin}",
        },
    )
    path = place.folder / "Caddyfile"
    path.write_text(_CADDY.format(folder=place.folder, site=site))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(path)]


def _envoy(place: Place) -> list[str]:
    site = document(DEPLOY / "fronts" / "envoy.yaml")
    resources = site["static_resources"]
    (listener,), (cluster,) = resources["listeners"], resources["clusters"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": place.port}
    tls = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    for file in tls["tls_certificates"][0].values():
        file["filename"] = str(place.certificate)
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    (template,) = endpoints["lb_endpoints"]
    endpoints["lb_endpoints"] = [_endpoint(template, place, name) for name in place.gateways]
    path = place.folder / "envoy.json"
    path.write_bytes(json.dumps(site))
    return [str(_ENVOY), "--config-path", str(path), "--concurrency", "2", "--use-dynamic-base-id"]


def _endpoint(template: Document, place: Place, gateway: str) -> Document:
    host, _, port = gateway.rpartition(":")
    one = deepcopy(template)
    one["endpoint"]["address"]["socket_address"] = {"address": host, "port_value": int(port)}
    one["endpoint"]["health_check_config"] = {"port_value": place.admin}
    return one


Command = Callable[[Place], list[str]]

# How each is started, and what it says when it serves.
FRONTS: dict[str, tuple[Command, bytes]] = {
    "nginx": (_nginx, b"start worker process "),
    "caddy": (_caddy, b"serving initial configuration"),
    # It serves when each gateway has been asked once.
    "envoy": (_envoy, b"starting workers"),
}
# What those that ask gateways how they are say when one does not answer.
ASKING = {"caddy": b"HTTP request failed"}
