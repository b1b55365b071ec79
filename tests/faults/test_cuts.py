"""Streams of every kind of upstream, in all their forms, that stop at any byte."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import cycle

import pytest
import pytest_asyncio

from gateway.core.errors import ErrorCode
from tests.e2e.scripted import END, Close, Hang, Reset, Step, chunk
from tests.e2e.stories import FORMS, streamed
from tests.faults.fault import HEAD, KINDS, TRUNCATED, Fault, broken, complete, kind_of
from tests.faults.judging import CLIENTS
from tests.faults.trying import Trial, trial

_WAYS: dict[str, Step] = {"close": Close, "reset": Reset, "stall": Hang}

_STEPS = {"close": (13, 1), "reset": (13, 1), "stall": (150, 10)}
"""From one byte to the next that is tried, and under `--full`."""

_CLOCKS = {"first": ErrorCode.FIRST_EVENT_TIMEOUT, "idle": ErrorCode.IDLE_TIMEOUT}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trials(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trial]:
    """One gateway for all of them."""
    agents = [complete(kind=kind, clock=clock) for kind in KINDS for clock in ("", *_CLOCKS)]
    async with trial(agents, tmp_path_factory.mktemp("cuts")) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Stream:
    """A whole answer as it goes over the wire."""

    kind: str
    data: bytes
    spoken: list[tuple[int, str]]
    """What it says, each piece with the number of bytes that have it complete."""
    heard: int
    """The same for the first piece with its end behind it."""
    finished: int
    """The same for the word that it is done, if that is all that comes."""

    def cut(self, size: int, way: str) -> Fault:
        """What it is, and what must become of it, if this is all that comes."""
        text = "".join(piece for said, piece in self.spoken if said <= size)
        script = (self.data[:size], _WAYS[way])
        clock = ("idle" if size >= self.heard else "first") if way == "stall" else ""
        if size >= self.finished:
            return complete(*script, text=text, kind=self.kind, clock=clock)
        code = _CLOCKS.get(clock, TRUNCATED)
        return broken(code, *script, text=text, kind=self.kind, clock=clock)


def _stream(form: str) -> Stream:
    frames = streamed(form, "text")
    data, spoken, heard, finished = HEAD, [], 0, 0
    for frame in frames:
        begin = len(data) + chunk(frame).index(b"\n") + 1
        # An event is complete without the blank line behind it, if there is no more to come.
        said = begin + len(frame.rstrip(b"\n"))
        if form == "agentsgt-text":
            spoken += [(begin + n, letter) for n, letter in enumerate(frame.decode(), 1)]
        spoken += [(said, word) for word in ("Your ", "order") if f'"{word}"'.encode() in frame]
        finished = said if b"stop" in frame else finished
        heard = heard or (begin + len(frame) if spoken else 0)
        data += chunk(frame)
    data += END
    if form == "agentsgt-text":
        heard, finished = spoken[0][0], len(data)
    return Stream(kind_of(form), data, spoken, heard, finished)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", _WAYS)
async def test_a_stream_may_stop_anywhere(way: str, form: str, trials: Trial, full: bool) -> None:
    """Before the first word there is a status, then an error in the stream, and what was said to be
    done is complete. In turn, each client meets it."""
    stream = _stream(form)
    step = _STEPS[way][full]
    wrong: list[str] = []
    for size, client in zip(range(0, len(stream.data) + 1, step), cycle(CLIENTS), strict=False):
        (cell,) = await trials.of(stream.cut(size, way), [client])
        if cell.wrong:
            wrong.append(f"{client}, after {stream.data[:size][-20:]!r}: {cell.wrong}")
    assert not wrong, "\n".join(wrong)
    assert not await trials.left()
