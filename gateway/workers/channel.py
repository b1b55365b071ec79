"""What a supervisor and one of its workers say to each other: JSON, a line each, over a pair of
sockets. When either of them is gone, however it went, the other reads the end.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count

from gateway.core.events import Json
from gateway.observe.logs import Logger
from gateway.wire import json

Told = Callable[[Json], None]
Answer = Callable[[Json], Awaitable[Json]]

# Bytes of a line: the status of ten thousand agents is a few million.
_LONGEST = 1 << 30

# Bytes that wait for a reader who is busy, or was stopped.
_UNREAD = 1 << 20


class NoAnswer(Exception):
    """The other side has gone, or has taken too long."""


class Channel:
    """One end of it. `told` is called with what is told by this name, `answers` with what is asked;
    what is called otherwise is of another version, and is passed over."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        logger: Logger,
        *,
        told: Mapping[str, Told],
        answers: Mapping[str, Answer] | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._logger = logger
        self._told = told
        self._answers = answers or {}
        self._gone = False
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Json]] = {}
        self._answering: set[asyncio.Future[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether what was told is not being read."""
        waiting: int = self._writer.transport.get_write_buffer_size()
        return waiting > _UNREAD

    def tell(self, name: str, value: Json = None) -> None:
        """Nobody hears it where the other side has gone."""
        self._write({"tell": name, "value": value})

    async def ask(self, name: str, value: Json = None, *, within: float) -> Json:
        """The answer. Raises `NoAnswer`, after `within` seconds at the latest."""
        if self._gone:
            raise NoAnswer
        number = next(self._numbers)
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._write({"ask": name, "value": value, "number": number})
        try:
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            raise NoAnswer from None
        finally:
            self._asked.pop(number, None)

    async def listen(self) -> None:
        """Until the other side is gone."""
        with suppress(ConnectionError):
            while (line := await self._reader.readline()).endswith(b"\n"):
                self._take(json.mapping(json.loads_own(line)))
        self._gone = True
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(NoAnswer())

    async def close(self) -> None:
        """Once all that was told has been handed over."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def _write(self, said: dict[str, Json]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(said) + b"\n")

    def _take(self, said: dict[str, Json]) -> None:
        value = said.get("value")
        if told := self._told.get(json.text(said.get("tell"))):
            told(value)
        elif answer := self._asked.get(json.count(said.get("answer")) or 0):
            if not answer.done():
                answer.set_result(value)
        elif asked := self._answers.get(json.text(said.get("ask"))):
            answering = asyncio.ensure_future(self._answer(asked, value, said["number"]))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    async def _answer(self, asked: Answer, value: Json, number: Json) -> None:
        try:
            said = await asked(value)
        except Exception as exc:
            self._logger.error("internal_error", exc_info=exc)
        else:
            self._write({"answer": number, "value": said})


async def open_channel(
    end: socket.socket,
    logger: Logger,
    *,
    told: Mapping[str, Told],
    answers: Mapping[str, Answer] | None = None,
) -> Channel:
    """The channel over this end of a pair."""
    reader, writer = await asyncio.open_unix_connection(sock=end, limit=_LONGEST)
    return Channel(reader, writer, logger, told=told, answers=answers)
