"""The relay's own promises, with an upstream and a client that are only objects."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from gateway.core.codec import Pause
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Event, Failure, Finish, FinishReason, TextDelta
from gateway.proxy.embedded import EmbeddedAnswer
from gateway.proxy.relay import Relay
from tests.e2e.scripted import PATIENCE

FINISH = Finish(FinishReason.STOP)


class Clocks(NamedTuple):
    """Seconds."""

    first_event: float
    idle: float
    total: float


CLOCKS = Clocks(first_event=5.0, idle=5.0, total=5.0)


class Words:
    """A decoder for which every read is a word, "." the finish, and "!" a bug."""

    def __init__(self, at_the_end: list[Event] | None = None) -> None:
        failure = Failure(ErrorCode.UPSTREAM_TRUNCATED, "cut")
        self._end: list[Event] = [failure] if at_the_end is None else at_the_end

    def feed(self, data: bytes) -> list[Event]:
        if data == b"!":
            raise ZeroDivisionError
        return [FINISH if c == "." else TextDelta(c) for c in data.decode() if c != " "]

    def eof(self) -> list[Event]:
        return self._end

    def lost(self) -> list[Event]:
        return self.eof()


class Client:
    """A client that falls behind at the words it is told."""

    def __init__(self, behind: bytes = b"") -> None:
        self.got = b""
        self.drained = 0
        self._behind = behind

    def write(self, data: bytes) -> bool:
        self.got += data
        return data in self._behind if self._behind else False

    async def drain(self) -> None:
        await asyncio.sleep(0)
        self.drained += 1


class Plain:
    """An encoder to plain text."""

    dropped: Mapping[str, int] = {}
    around_text = None

    def encode(self, event: Event) -> bytes:
        return event.text.encode() if isinstance(event, TextDelta) else b""


def relay(*script: bytes | Pause, decoder: Words | None = None, clocks: Clocks = CLOCKS) -> Relay:
    answer = EmbeddedAnswer(iter(script))
    return Relay(answer, decoder or Words(), clocks, asyncio.get_running_loop().time())


async def test_what_came_before_the_client_was_ready_comes_first() -> None:
    """Held events are the first frames; the rest follows as it comes."""
    turn = relay(b"ab", Pause(0.001), b"c", b"d.")
    await turn.opened()
    client = Client()
    first = turn.begin(Plain(), client)

    assert await turn.pour() is FINISH
    assert (first, client.got) == (b"ab", b"cd")
    assert turn.reply.folded().text == "abcd"
    assert turn.events == 5
    turn.close()


async def test_a_client_that_is_behind_pauses_the_upstream() -> None:
    """It is resumed when the client has caught up, and nothing is lost."""
    turn = relay(b"a", Pause(0.001), b"b", b"c", b"d", b".")
    await turn.opened()
    client = Client(behind=b"bc")
    turn.begin(Plain(), client)

    assert await turn.pour() is FINISH
    assert (client.got, client.drained) == (b"bcd", 2)
    turn.close()


async def test_nothing_follows_the_end() -> None:
    """What a decoder gives after its terminal event is not heard."""
    turn = relay(b"a.", b"b")
    await turn.opened()

    assert turn.begin(Plain(), Client()) == b"a"
    assert turn.terminal is FINISH
    assert turn.events == 2


async def test_a_failure_before_content_is_raised() -> None:
    """With the code of what went wrong."""
    turn = relay()
    with pytest.raises(GatewayError) as raised:
        await turn.opened()
    assert raised.value.code is ErrorCode.UPSTREAM_TRUNCATED
    turn.close()


async def test_an_end_without_events_leaves_the_turn_open() -> None:
    """A decoder that has said its last already says nothing at the end."""
    turn = relay(b"a", decoder=Words(at_the_end=[]))
    await turn.opened()
    assert turn.terminal is None
    turn.close()


@pytest.mark.parametrize("script", [[b"!"], [b"a", Pause(0.001), b"!"]])
async def test_a_bug_is_raised_to_the_turn(script: list[bytes | Pause]) -> None:
    """Not to the transport, which would only log it."""
    turn = relay(*script)
    with pytest.raises(ZeroDivisionError):
        await _whole(turn)
    turn.close()


async def _whole(turn: Relay) -> None:
    await turn.opened()
    turn.begin(Plain(), Client())
    await turn.pour()


async def test_a_bug_in_a_whole_answer_is_raised_as_well() -> None:
    """`fold` is the other way to the end."""
    turn = relay(b"a", Pause(0.001), b"!")
    await turn.opened()
    with pytest.raises(ZeroDivisionError):
        await turn.fold()
    turn.close()


@pytest.mark.parametrize(
    ("clocks", "code"),
    [
        (Clocks(0.02, 90, 90), ErrorCode.FIRST_EVENT_TIMEOUT),
        (Clocks(90, 0.02, 0.05), ErrorCode.TOTAL_TIMEOUT),
        (Clocks(0.0, 90, 90), ErrorCode.FIRST_EVENT_TIMEOUT),
    ],
)
async def test_a_clock_that_runs_out_is_a_failure(clocks: Clocks, code: ErrorCode) -> None:
    """Also one that has run out before the relay begins; the idle one waits for content."""
    turn = relay(Pause(60), clocks=clocks)
    with pytest.raises(GatewayError) as raised:
        await turn.opened()
    assert raised.value.code is code
    turn.close()


async def test_the_idle_clock_does_not_wait_for_the_first_events() -> None:
    """However long a first event may take, silence after it is noticed in time."""
    turn = relay(b"a", Pause(60), clocks=Clocks(first_event=60, idle=0.03, total=90))
    async with asyncio.timeout(PATIENCE):
        await turn.opened()
        turn.begin(Plain(), Client())
        terminal = await turn.pour()
    assert isinstance(terminal, Failure)
    assert terminal.code is ErrorCode.IDLE_TIMEOUT
    turn.close()


async def test_an_embedded_upstream_stops_when_it_is_closed() -> None:
    """Its script is not played on for nobody."""
    played: list[int] = []

    def script() -> Iterator[bytes | Pause]:
        for number in range(3):
            played.append(number)
            yield b"a"
            yield Pause(0.001)

    turn = Relay(EmbeddedAnswer(script()), Words(), CLOCKS, asyncio.get_running_loop().time())
    await turn.opened()
    turn.close()
    await asyncio.sleep(0.01)
    assert played == [0]


async def test_an_embedded_upstream_waits_while_it_is_paused() -> None:
    """Its pauses run on, and nothing is said until it is resumed."""
    answer = EmbeddedAnswer(iter([b"a", Pause(0.001), b"b", b"."]))
    turn = Relay(answer, Words(), CLOCKS, asyncio.get_running_loop().time())
    await turn.opened()
    answer.pause()
    answer.resume()  # within a pause: the timer goes on by itself
    answer.pause()
    await asyncio.sleep(0.005)
    assert turn.terminal is None
    answer.resume()
    assert turn.terminal is FINISH
    turn.close()
