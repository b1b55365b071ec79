"""What the tests of tracing share: a gateway on real sockets, upstreams, and a collector."""

import os
from collections.abc import AsyncIterator

import pytest

from gateway.observe import otel_export
from tests.e2e.conftest import start, upstream
from tests.e2e.scripted import PATIENCE
from tests.faults.conftest import second
from tests.tracing.collector import Collector, collecting

__all__ = ["collector", "second", "start", "upstream"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's variables: none but a short delay, so that spans are sent soon."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setattr(otel_export, "FLUSH", PATIENCE)  # of a stop that is to send all there is


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running:
        yield running
