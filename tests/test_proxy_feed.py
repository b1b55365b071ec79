"""One turn, any number of clients, with clients that are only objects."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import ErrorCode
from gateway.proxy.downstream import ClientStalled
from gateway.proxy.feed import Feed, Reader


class Client:
    """A `ClientStream`, of a client that takes `room` bytes before it is behind."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.got = b""
        self.ended = False
        self.room = room
        self._drained = asyncio.Event()

    async def open(self, first: Callable[[], bytes]) -> None:
        self.write(first())

    def write(self, data: bytes) -> bool:
        self.got += data
        self.room -= len(data)
        return self.room < 0

    async def drain(self) -> None:
        if self.room < 0:
            self._drained.clear()
            await self._drained.wait()

    def read(self, room: int = 1 << 30) -> None:
        """Catch up."""
        self.room = room
        self._drained.set()

    async def finish(self, last: bytes) -> None:
        self.got += last
        self.ended = True


def following(feed: Feed, reader: Reader, client: Client) -> asyncio.Task[None]:
    async def follow() -> None:
        try:
            await reader.follow(client)  # type: ignore[arg-type]
        finally:
            feed.leave(reader)

    return asyncio.create_task(follow())


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


WORD = b"data: 1234567\n\n"


async def test_each_client_sees_all_of_it() -> None:
    """From the beginning, from where it was, and one that comes when all is over."""
    feed = Feed()
    feed.remember("m", 1 << 20)
    clients = [Client() for _ in range(3)]
    first = following(feed, feed.join(1, ids=True), clients[0])
    feed.write(WORD)
    await rounds()
    second = following(feed, feed.join(2, ids=True), clients[1])
    await rounds()
    feed.write(WORD)
    feed.end(WORD)
    third = following(feed, feed.join(1, ids=True), clients[2])
    await asyncio.gather(first, second, third)

    frames = [b"id: m:%d\n%b" % (n, WORD) for n in (1, 2, 3)]
    assert [client.got for client in clients] == [
        b"".join(frames),
        b"".join(frames[1:]),
        b"".join(frames),
    ]
    assert all(client.ended for client in clients)


async def test_the_upstream_waits_only_for_all() -> None:
    """One client that is behind is no reason while another reads; it catches up from the log."""
    feed = Feed()
    feed.remember("m", 1 << 20)
    fast, slow = Client(), Client(room=10)
    tasks = [following(feed, feed.join(1, ids=True), client) for client in (fast, slow)]
    await rounds()
    assert not feed.write(WORD)
    assert not feed.write(WORD)
    assert slow.got == b"id: m:1\n" + WORD
    fast.room = 0
    assert feed.write(WORD)
    waiting = asyncio.create_task(feed.drain())
    await rounds()
    assert not waiting.done()

    slow.read()
    await asyncio.wait_for(waiting, 5)
    assert slow.got.count(WORD) == 3
    fast.read()
    feed.end(WORD)
    await asyncio.gather(*tasks)
    assert fast.got == slow.got


async def test_while_all_wait_nothing_goes() -> None:
    """A log that is too small for what was on its way loses none of it to a single slow client."""
    feed = Feed()
    client = Client(room=1)
    task = following(feed, feed.join(1, ids=True), client)
    await rounds()
    assert feed.write(WORD)
    assert feed.write(WORD + WORD)
    client.read()
    await rounds()
    assert client.got == WORD * 3
    feed.end(b"data: x\n\n")
    await task
    assert client.got == WORD * 3 + b"data: x\n\n"
    assert feed.log.size == 0


async def test_a_client_that_falls_out_of_the_log_is_cut() -> None:
    """The others go on."""
    feed = Feed()
    feed.remember("m", 60)
    fast, slow = Client(), Client(room=1)
    tasks = [following(feed, feed.join(1, ids=True), client) for client in (fast, slow)]
    await rounds()
    for _ in range(9):
        feed.write(WORD)
    slow.read()
    with pytest.raises(ClientStalled):
        await tasks[1]
    feed.end(WORD)
    await tasks[0]
    assert fast.got.count(WORD) == 10


async def test_nobody_reads() -> None:
    """The upstream does not wait; who comes later finds what the log has."""
    feed = Feed()
    feed.remember("m", 1 << 20)
    reader = feed.join(1, ids=True)
    assert feed.write(WORD)  # one is on its way
    waiting = asyncio.create_task(feed.drain())
    await rounds()
    feed.leave(reader)
    feed.leave(reader)
    await asyncio.wait_for(waiting, 5)
    assert not feed.write(WORD)
    client = Client()
    task = following(feed, feed.join(2, ids=True), client)
    feed.end(b"")
    await task
    assert client.got == b"id: m:2\n" + WORD


async def test_a_failure_without_words_is_none() -> None:
    """Before it is known what the turn is called there is nobody to tell."""
    feed = Feed()
    feed.fail(ErrorCode.INTERNAL, "no")
    assert not feed.over


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "join", "read", "leave", "turn"]), st.integers(0, 3)),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 200))
def test_whatever_happens_nothing_is_lost_or_doubled(
    steps: list[tuple[str, int]], room: int
) -> None:
    """Clients come back where they left, are slow, and leave again: what each saw is the stream."""
    asyncio.run(_story(steps, room))


async def _story(steps: list[tuple[str, int]], room: int) -> None:
    feed = Feed()
    feed.remember("m", 1 << 20)
    whole, seen = b"", [b""] * 4
    at: dict[int, tuple[Client, asyncio.Task[None]]] = {}

    async def leave(number: int) -> None:
        client, task = at.pop(number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        seen[number] += client.got

    for count, (step, number) in enumerate(steps):
        if step == "write":
            said = b"data: %d\n\n" % count * (number + 1)
            before = feed.log.next
            feed.write(said)
            whole += b"".join(
                b"id: m:%d\ndata: %d\n\n" % (before + n, count) for n in range(number + 1)
            )
        elif step == "join" and number not in at:
            client = Client(room)
            reader = feed.join(1 + seen[number].count(b"\n\n"), ids=True)
            at[number] = client, following(feed, reader, client)
        elif step == "read" and number in at:
            at[number][0].read(room)
        elif step == "leave" and number in at:
            await leave(number)
        else:
            await rounds(3)
    feed.end(b"")
    for client, task in at.values():
        client.read()
        await asyncio.wait_for(task, 5)
    for number, (client, _) in at.items():
        assert seen[number] + client.got == whole
    assert all(whole.startswith(part) for part in seen)
