"""Who begins the traces of requests, by what the config says.

OpenTelemetry is an extra, and costs a fifth of a second to import: `otel` is where it is, and is
loaded only where tracing is on.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Protocol

from gateway.config.tracing import Tracing
from gateway.config.values import Secret
from gateway.observe.logs import Logger
from gateway.observe.trace import NOTHING, UNTRACED, PassedOn, Trace
from gateway.observe.trace_context import Fields, trace_context

_EXTRA = "opentelemetry.exporter.otlp.proto.http"

NOT_INSTALLED = "tracing.enabled: takes an extra that is not installed: oc-gateway[otel]"


class Tracer(Protocol):
    """Begins traces."""

    def begin(self, method: str, path: str, fields: Fields) -> Trace:
        """A request that a route was found for; `path` is the route's, with its parameters by
        their names."""
        ...

    def store(self, operation: str) -> AbstractContextManager[None]:
        """An operation of the store, for whichever request is being served."""
        ...

    async def close(self) -> None:
        """Hand over what is recorded, as far as that is soon done."""
        ...


class Passing:
    """Tracing is off: what clients say is passed on, if anything is taken `from_clients`."""

    def __init__(self, *, from_clients: bool) -> None:
        self._from_clients = from_clients

    def begin(self, method: str, path: str, fields: Fields) -> Trace:
        context = trace_context(fields) if self._from_clients else None
        return PassedOn(context) if context is not None else UNTRACED

    def store(self, operation: str) -> AbstractContextManager[None]:
        return NOTHING

    async def close(self) -> None:
        pass


def build_tracer(tracing: Tracing, reveal: Callable[[Secret], str], logger: Logger) -> Tracer:
    """Raises `ValueError` if the extra is not there, and what `reveal` does."""
    if not tracing.enabled or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Passing(from_clients=tracing.from_clients)
    if not is_installed():
        raise ValueError(NOT_INSTALLED)
    from gateway.observe.otel import build

    headers = {name: reveal(secret) for name, secret in tracing.headers.items()}
    return build(tracing, headers, logger)


def is_installed() -> bool:
    """Whether the extra is there."""
    try:
        return find_spec(_EXTRA) is not None
    except ModuleNotFoundError:  # nor is what it would be in
        return False
