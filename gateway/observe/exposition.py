"""A registry as the text that Prometheus scrapes, in the format that it likes best."""

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics


class Exposition(NamedTuple):
    """A scrape's answer."""

    body: bytes
    content_type: str


# Only OpenMetrics has words for exemplars.
_FORMATS: dict[str, tuple[Callable[[CollectorRegistry], bytes], str]] = {
    "application/openmetrics-text": (openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST),
    "text/plain": (generate_latest, CONTENT_TYPE_LATEST),
}


def exposition(registry: CollectorRegistry, accept: str = "") -> Exposition:
    """All that is registered, as the `Accept` header of a scrape wants it."""
    write, content_type = _FORMATS[preferred(accept)]
    return Exposition(write(registry), content_type)


def preferred(accept: str) -> str:
    """The name of the format that an `Accept` header wants, which asks for it as well."""
    return next((name for name in _by_preference(accept) if name in _FORMATS), "text/plain")


def _by_preference(accept: str) -> list[str]:
    """Media types, the most wanted first."""
    ranges = [part.replace(" ", "").split(";") for part in accept.lower().split(",")]
    return [name for name, *_ in sorted(ranges, key=_quality, reverse=True)]


def _quality(media_range: list[str]) -> float:
    for parameter in media_range[1:]:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
