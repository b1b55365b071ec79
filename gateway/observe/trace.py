"""What a request tells of itself while it is served: its trace, and its attempts at upstreams.

`UNTRACED` says nothing. A client's trace that is not ours to record is `PassedOn`. With tracing on,
`otel` has others, that record spans.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from gateway.config.routes import RouteTarget
from gateway.core.events import Failure, Finish
from gateway.core.turn import Reply
from gateway.observe.trace_context import TraceContext

if TYPE_CHECKING:
    from gateway.observe.exchange import Exchange

NOTHING = nullcontext()
"""A step that nobody looks at."""

_NO_HEADERS: Mapping[str, str] = {}


class Attempt(Protocol):
    """One request to an upstream. The last that it hears is `failed` or `ended`."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the upstream is told of the trace."""
        ...

    def answered(self) -> None:
        """The first content is here."""
        ...

    def failed(self, exc: BaseException) -> None:
        """There is no answer, or nobody waits for it any more."""
        ...

    def ended(self, reply: Reply, terminal: Finish | Failure | None) -> None:
        """What the answer was; without a terminal event it was given up."""
        ...


class Trace(Protocol):
    """One request of a client's. The last that it hears is `end`."""

    @property
    def id(self) -> str:
        """The trace's, in hex; `""`: there is none."""
        ...

    @property
    def recorded(self) -> bool:
        """Whether it can be looked up by its id."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """What an upstream is told of it that is asked in no attempt."""
        ...

    def step(self, name: str) -> AbstractContextManager[None]:
        """A part of the gateway's own work; it has failed if the block raises."""
        ...

    def attempt(
        self, target: RouteTarget, model: str | None, conversation: str, *, stream: bool
    ) -> Attempt:
        """`model` is the one that is asked for, if it is not the target's; `conversation` what the
        gateway calls it, if it does; `stream` whether the answer is to be one."""
        ...

    def end(self, exchange: "Exchange") -> None:
        """The record of the request is complete."""
        ...


class PassedOn:
    """A trace that nothing is added to. It is its own attempt: the headers stay as they are."""

    __slots__ = ("headers", "id")

    recorded = False

    def __init__(self, context: TraceContext | None) -> None:
        self.id = context.trace_id if context else ""
        self.headers = context.headers if context else _NO_HEADERS

    def step(self, name: str) -> AbstractContextManager[None]:
        return NOTHING

    def attempt(
        self, target: RouteTarget, model: str | None, conversation: str, *, stream: bool
    ) -> "PassedOn":
        return self

    def answered(self) -> None:
        pass

    def failed(self, exc: BaseException) -> None:
        pass

    def ended(self, reply: Reply, terminal: Finish | Failure | None) -> None:
        pass

    def end(self, exchange: "Exchange") -> None:
        pass


UNTRACED = PassedOn(None)
