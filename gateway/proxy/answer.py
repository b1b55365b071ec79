"""What the relay sees of an upstream, whatever HTTP client (or none) is underneath."""

from collections.abc import Mapping
from typing import Protocol

from gateway.core.errors import GatewayError


class Sink(Protocol):
    """Takes an answer's body as it arrives, in plain calls from the transport's read."""

    def data(self, data: bytes) -> None: ...

    def eof(self, error: GatewayError | None) -> None:
        """The body is over; `error` is set where it broke off."""
        ...


class Answer(Protocol):
    """An upstream's answer: its head is here, its body comes to the sink."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of repeated ones the last. They are kept of a refusal only."""
        ...

    def relay(self, sink: Sink) -> None:
        """Send the body to `sink`, beginning with what has arrived already."""
        ...

    def pause(self) -> None:
        """Stop reading: the client is slow, and the upstream is to notice."""
        ...

    def resume(self) -> None: ...

    def release(self) -> None:
        """The turn is over. The connection serves again once the last bytes are in."""
        ...

    def close(self) -> None:
        """End it now, whatever is still to come: the upstream sees its client leave."""
        ...
