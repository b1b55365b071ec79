"""The numbers of the files in deploy/fronts/ fit the gateway's: it is its clocks and limits that
decide, for it has words for each."""

import re
from typing import Any

import pytest

from gateway.config.model import Server
from gateway.config.upstreams import Timeouts
from gateway.http.server import _HEAD, _KEEPALIVE
from tests.deploy.files import DEPLOY, config, document

FRONTS = DEPLOY / "fronts"
NGINX = (FRONTS / "nginx.conf").read_text("utf-8")
CADDY = (FRONTS / "Caddyfile").read_text("utf-8")
ENVOY = document(FRONTS / "envoy.yaml")["static_resources"]

(LISTENER,) = ENVOY["listeners"]
(CLUSTER,) = ENVOY["clusters"]
MANAGER: dict[str, Any] = LISTENER["filter_chains"][0]["filters"][0]["typed_config"]
ROUTE: dict[str, Any] = MANAGER["route_config"]["virtual_hosts"][0]["routes"][0]["route"]

_UNITS = {"s": 1, "m": 1 << 20, "MB": 1_000_000}


def _number(text: str, key: str) -> int:
    """The number of a directive: seconds, or bytes."""
    found = re.search(rf"^\s*{key} (\d+)(s|m|MB);?$", text, re.MULTILINE)
    assert found, key
    return int(found[1]) * _UNITS[found[2]]


def _seconds(value: str) -> int:
    """Of Envoy: "60s"."""
    return int(value.removesuffix("s"))


# Seconds that a turn may be silent, an idle connection be kept, and a head take; bytes of a body;
# seconds between two questions. A front that is not named has no such limit.
SILENCE = {
    "nginx": _number(NGINX, "proxy_read_timeout"),
    "envoy": _seconds(MANAGER["stream_idle_timeout"]),
}
IDLE = {
    "nginx": _number(NGINX, "keepalive_timeout"),
    "caddy": _number(CADDY, "keepalive"),
    "envoy": _seconds(
        next(iter(CLUSTER["typed_extension_protocol_options"].values()))[
            "common_http_protocol_options"
        ]["idle_timeout"]
    ),
}
HEADS = {
    "nginx": _number(NGINX, "client_header_timeout"),
    "envoy": _seconds(MANAGER["request_headers_timeout"]),
}
BODIES = {
    "nginx": _number(NGINX, "client_max_body_size"),
    "caddy": _number(CADDY, "max_size"),
}
ASKED = {
    "caddy": _number(CADDY, "health_interval"),
    "envoy": _seconds(CLUSTER["health_checks"][0]["interval"]),
}


@pytest.mark.parametrize("front", SILENCE)
def test_it_waits_longer_than_a_turn_may_take(front: str) -> None:
    """A turn that is not streamed says nothing until it is complete."""
    assert SILENCE[front] > Timeouts().total


def test_envoy_puts_no_clock_on_a_whole_answer() -> None:
    """By default that is 15 seconds, streams included."""
    assert ROUTE["timeout"] == "0s"


@pytest.mark.parametrize("front", IDLE)
def test_it_gives_up_an_idle_connection_first(front: str) -> None:
    """Else it sends a turn on one that the gateway is closing."""
    assert IDLE[front] < _KEEPALIVE


@pytest.mark.parametrize("front", HEADS)
def test_it_waits_as_long_for_a_head(front: str) -> None:
    assert HEADS[front] == _HEAD


@pytest.mark.parametrize("front", BODIES)
def test_it_lets_the_gateway_refuse_a_body(front: str) -> None:
    """In the client's dialect."""
    assert BODIES[front] > Server().max_body


@pytest.mark.parametrize("front", ASKED)
def test_it_knows_of_a_stop_before_the_gateway_refuses(front: str) -> None:
    """`drain_delay` in each of our files is longer than it takes to ask once more."""
    delays = [config(folder).server.drain_delay for folder in ("config", "kubernetes")]

    assert ASKED[front] + 2 < min(delays)  # and the answer may take two seconds


def test_they_ask_where_the_gateway_answers() -> None:
    """The gateways' default ports, and the path that says whether one wants traffic."""
    (endpoint,) = CLUSTER["load_assignment"]["endpoints"][0]["lb_endpoints"]
    admin = config("config").admin.port
    public = f"127.0.0.1:{Server().port}"

    assert endpoint["endpoint"]["health_check_config"]["port_value"] == admin
    assert endpoint["endpoint"]["address"]["socket_address"]["port_value"] == Server().port
    assert CLUSTER["health_checks"][0]["http_health_check"]["path"] == "/readyz"
    assert f"health_port {admin}\n" in CADDY
    assert "health_uri /readyz\n" in CADDY
    assert (f"reverse_proxy {public} {{" in CADDY, f"server {public} " in NGINX) == (True, True)


def test_caddy_hears_of_clients_that_leave() -> None:
    """With this setting, which many pages recommend for streams, it would not."""
    assert not re.search(r"^\s*flush_interval", CADDY, re.MULTILINE)
