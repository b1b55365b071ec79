"""One request to an upstream, up to the head of its answer."""

import asyncio
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from gateway.core.codec import UpstreamRequest
from gateway.core.errors import GatewayError
from gateway.proxy.answer import Answer
from gateway.proxy.client import Client
from gateway.proxy.remote import RemoteAnswer

# Of an error's body: enough for its message, and no more than that is worth reading.
MAX_ERROR_BODY = 64 << 10

Refusal = Callable[[int, Mapping[str, str], bytes], GatewayError]
"""What a status other than 2xx means, with its headers and the start of its body."""


def traced(request: UpstreamRequest, headers: Mapping[str, str]) -> UpstreamRequest:
    """The same as a part of a trace, whose headers these are."""
    return replace(request, headers={**request.headers, **headers}) if headers else request


async def ask(
    client: Client,
    request: UpstreamRequest,
    refusal: Refusal,
    request_id: str,
    deadline: float,
    connect: float | None = None,
) -> RemoteAnswer:
    """An answer with a 2xx head, and its body still to come. The deadline is a time of the loop's,
    `connect` the seconds that a new connection may take, if not the upstream's own.

    Raises `GatewayError`: what `refusal` says of another status, `FIRST_EVENT_TIMEOUT`, or why the
    upstream cannot be reached.
    """
    answer = client.send_at_once(request, request_id)
    if answer is None:
        answer = await client.send(request, request_id, connect)
    client.deadlines.start(answer, deadline)
    try:
        await answer.head
        body = None if 200 <= answer.status < 300 else await _start_of(answer)
    except BaseException:
        client.deadlines.stop(answer)
        answer.close()
        del answer  # which keeps what its head failed of, and that keeps this frame
        raise
    client.deadlines.stop(answer)
    if body is None:
        answer.headers.clear()  # nobody asks for those of an answer that may take an hour
        return answer
    answer.release()
    raise _refused(answer, refusal, body)


def _refused(answer: RemoteAnswer, refusal: Refusal, body: bytes) -> GatewayError:
    error = refusal(answer.status, answer.headers, body)
    error.upstream_status = answer.status
    return error


class _Gathered:
    """The start of a body."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data(self, data: bytes) -> None:
        self.body += data[: MAX_ERROR_BODY - len(self.body)]
        if len(self.body) >= MAX_ERROR_BODY:
            self.eof(None)

    def eof(self, error: GatewayError | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def _start_of(answer: Answer) -> bytes:
    gathered = _Gathered()
    answer.relay(gathered)
    await gathered.over
    return bytes(gathered.body)
