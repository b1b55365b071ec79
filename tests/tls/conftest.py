"""What the tests of TLS share: a gateway on real sockets, on both event loops."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop

from tests.e2e.conftest import start, upstream

__all__ = ["start", "upstream"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Each has its own TLS, and they differ where a connection ends."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
