"""A recorded answer, played again: demos without an upstream, and faults that can be repeated.

A transcript is JSON Lines. The first line says which kind sent it, `{"kind": "openai"}`; each other
line what was sent how many seconds after the one before, `{"after": 0.05, "data": "data: ..."}`.
"""

from collections.abc import Iterator

from gateway.core.codec import Decoder, Pause, Target, Transcript, UpstreamKind
from gateway.core.events import Json
from gateway.core.turn import Prompt
from gateway.upstreams.remote import REMOTE
from gateway.wire import json


def transcript(text: str) -> Transcript:
    """A transcript file's content. Raises `ValueError`: the line, and what is allowed there."""
    # Not splitlines(): a line of JSON may hold what Unicode calls a line separator.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise ValueError('the transcript is empty: its first line must be {"kind": "openai"}')
    first, *steps = lines
    return Transcript(_kind(*first), tuple(_step(number, line) for number, line in steps))


def _kind(number: int, line: str) -> str:
    kind = _object(number, line, {"kind"})["kind"]
    if not isinstance(kind, str) or kind not in REMOTE:
        raise ValueError(f"line {number}: kind must be one of {', '.join(REMOTE)}, not {kind!r}")
    return kind


def _step(number: int, line: str) -> tuple[float, bytes]:
    said = _object(number, line, {"after", "data"})
    after, data = json.amount(said["after"]), said["data"]
    if after is None:
        raise ValueError(f"line {number}: after must be a number of seconds from 0")
    if not isinstance(data, str):
        raise ValueError(f"line {number}: data must be a string, what the upstream sent")
    return after, data.encode()


def _object(number: int, line: str, keys: set[str]) -> dict[str, Json]:
    try:
        said = json.loads(line.encode())
    except json.InvalidJson:
        said = None
    if not isinstance(said, dict) or said.keys() != keys:
        raise ValueError(f"line {number}: must be a JSON object of {' and '.join(sorted(keys))}")
    return said


def _script(target: Target, prompt: Prompt) -> Iterator[bytes | Pause]:
    for after, data in _transcript(target).steps:
        if after and prompt.stream:
            yield Pause(after)
        yield data


def _decoder(target: Target) -> Decoder:
    return REMOTE[_transcript(target).kind].decoder(target)


def _transcript(target: Target) -> Transcript:
    assert target.transcript is not None, "the config gives every replay its transcript"
    return target.transcript


REPLAY = UpstreamKind(name="replay", family="replay", decoder=_decoder, script=_script)
