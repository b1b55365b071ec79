"""What the tests of fronts share: a gateway on real sockets, and its upstream."""

from tests.e2e.conftest import start, upstream

__all__ = ["start", "upstream"]
