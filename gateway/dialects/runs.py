"""Several events at once: texts in a row, of which a read of an upstream in a hurry has dozens."""

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter

from gateway.core.codec import Encoder
from gateway.core.events import Event, TextDelta
from gateway.wire import json

_text: Callable[[Event], str] = attrgetter("text")


def encode_all(encoder: Encoder, events: Sequence[Event]) -> bytes:
    """The frames of events in their order: what `encode` says of one after the other."""
    said: list[bytes] = []
    for kind, run in groupby(events, type):
        around = encoder.around_text if kind is TextDelta else None
        if around is None:
            said += map(encoder.encode, run)
        else:
            before, after = around
            said += before, json.joined(list(map(_text, run)), after + before), after
    return b"".join(said)
