"""The headers that tie a request to a trace: `traceparent` and `tracestate` (W3C Trace Context).

What is not exactly in their form is taken for not sent: it is a client's text, and goes on to
upstreams.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

PARENT, STATE = "traceparent", "tracestate"

_PARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})"
    r"-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-[!-~]*)?"
)
_MEMBER = re.compile(r"(?P<key>[a-z0-9][a-z0-9_*/@-]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_MAX_MEMBERS = 32
# What has to be passed on at least. More would be a client's way to have a server refuse the head
# of every request of ours, and so to open its breaker.
_MAX_STATE = 512

_SAMPLED = 0x01


class Fields(Protocol):
    """A request's headers; names in any case."""

    def __contains__(self, name: object, /) -> bool: ...

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]: ...


class TraceContext(Struct, frozen=True):
    """Of which trace something is a part, and beneath which span; the ids in hex."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @property
    def headers(self) -> Mapping[str, str]:
        """What tells the next one of it."""
        parent = f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"
        return {PARENT: parent, STATE: self.state} if self.state else {PARENT: parent}


def trace_context(fields: Fields) -> TraceContext | None:
    """What a request says; None if nothing, or nothing right."""
    if PARENT not in fields:
        return None
    parents = fields.getall(PARENT, ())
    found = _PARENT.fullmatch(parents[0].strip(" \t")) if len(parents) == 1 else None
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return None
    flags = int(found["flags"], 16)
    if found["version"] != "00":
        flags &= _SAMPLED  # what else a later version says with them is not known
    state = _state(fields.getall(STATE, ()))
    return TraceContext(found["trace"], found["span"], flags, state)


def _state(values: Sequence[str]) -> str:
    """All of it or nothing: half of a vendor's state is worth less than none."""
    members = [member.strip(" \t") for value in values for member in value.split(",")]
    members = [member for member in members if member]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in found if match}
    state = ",".join(members)
    if len(keys) != len(members) or len(members) > _MAX_MEMBERS or len(state) > _MAX_STATE:
        return ""
    return state
