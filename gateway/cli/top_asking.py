"""What `oc-gateway top` asks a gateway's admin listener."""

import http.client
import re
import time
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.cli.top_figures import Scrape, read
from gateway.core.events import Json
from gateway.wire import json

_NO_GATEWAY = "this is no oc-gateway's admin listener: see [admin] in its configuration"

# A gateway that is up answers at once; one that does not is told of soon.
_TIMEOUT = 5.0

# What the screen is made of. The buckets, and not the sum and the count, of histograms.
_SERIES = (
    "active_streams",
    "turns_total",
    "events_total",
    "tokens_total",
    "failures_total",
    "upstream_errors_total",
    "rate_limit_rejections_total",
    "first_event_seconds_bucket",
)


# What would steer a terminal, or turn the direction of what is behind it.
_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class NoAnswer(Exception):
    """Nobody is there, for now."""


class Refused(Exception):
    """It would be so the next time as well: says why."""


class Look(Struct, frozen=True):
    """What a gateway said at one moment."""

    status: dict[str, Json]
    scrape: Scrape

    @property
    def process(self) -> str:
        """Another one after a restart, which counts from 0 again."""
        return json.text(self.status.get("started"))


def look(url: str, token: str | None) -> Look:
    """Raises `NoAnswer` and `Refused`."""
    status = _status(_get(url, "/status", token))
    text = _get(url, "/metrics", token)
    try:
        scrape = read(text.decode(), _SERIES, time.monotonic())
    except ValueError:
        raise Refused(_NO_GATEWAY) from None
    return Look(status, scrape)


def shown(text: str) -> str:
    """The text as a terminal may have it: who listens at the address need not be a gateway."""
    return _STEERS.sub("\N{REPLACEMENT CHARACTER}", text)


def _all_shown(value: Json) -> Json:
    """The same for every text in it; no name in it is ever shown."""
    match value:
        case str():
            return shown(value)
        case list():
            return [_all_shown(each) for each in value]
        case dict():
            return {name: _all_shown(each) for name, each in value.items()}
        case _:
            return value


def _status(body: bytes) -> dict[str, Json]:
    try:
        status = json.mapping(_all_shown(json.loads(body)))
    except json.InvalidJson:
        status = {}
    # Prometheus, whose own port is the same, has pages at these paths as well.
    if not json.text(status.get("version")):
        raise Refused(_NO_GATEWAY)
    return status


def _get(url: str, path: str, token: str | None) -> bytes:
    try:
        return _answer(url, path, token)
    except (OSError, http.client.HTTPException) as exc:
        said = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
        raise NoAnswer(said.lower()) from exc
    except ValueError:  # whose text would show the token
        raise Refused("the URL or the token cannot be sent as they are") from None


def _answer(url: str, path: str, token: str | None) -> bytes:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status in (401, 403, 404):
        raise Refused(f"{response.status}: {_complaint(body)}")
    if response.status != 200:
        raise NoAnswer(f"status {response.status}")
    return body


def _complaint(body: bytes) -> str:
    try:
        error = json.mapping(json.mapping(json.loads(body)).get("error"))
    except json.InvalidJson:
        error = {}
    return shown(json.text(error.get("message"))) or "this is no oc-gateway's admin listener"
