"""What these tests share: a gateway on real sockets, on both event loops, whose clocks differ."""

from tests.e2e.conftest import start, upstream
from tests.faults.conftest import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories", "start", "upstream"]
