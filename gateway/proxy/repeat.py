"""A request that was answered before, answered again from what was kept."""

import re
from hashlib import sha256

from aiohttp import web

from gateway.conversations.repeats import Asked, Repeated
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Event, Finish, FinishReason, Metadata
from gateway.core.turn import ChatRequest, Reply
from gateway.dialects.runs import encode_all
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED
from gateway.proxy.admission import Caller
from gateway.proxy.call import Call
from gateway.proxy.downstream import ClientStalled, client_stream
from gateway.proxy.turn import whole_answer

HEADER = "Idempotency-Key"

_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)


def asked(call: Call, caller: Caller, body: bytes) -> Asked | None:
    """The request by its Idempotency-Key; None without one, or without an API key that could say
    whose it is. Raises `GatewayError(INVALID_BODY)` for what can be no such key."""
    key = call.request.headers.get(HEADER)
    if key is None or caller.principal is None:
        return None
    if not _KEY.fullmatch(key):
        raise GatewayError(
            ErrorCode.INVALID_BODY,
            f"the header {HEADER} must be 1 to 255 printable ASCII characters without spaces",
        )
    user = caller.principal.user or ""
    request = f"{call.request.path}\0{user}\0".encode() + body
    return Asked(subject=caller.subject, key=key, fingerprint=sha256(request).hexdigest())


async def again(call: Call, ask: ChatRequest, repeated: Repeated) -> web.StreamResponse:
    """The same answer: as a stream, if a stream was asked for."""
    dialect, turn, said = call.dialect, repeated.turn, repeated.message
    metadata = Metadata(usage=said.usage)
    finish = said.finish or FinishReason.OTHER
    if dialect.reply is not None and not ask.stream:
        reply = Reply(parts=list(said.parts), metadata=metadata, finish=finish)
        return await whole_answer(call, ask, turn, reply)
    events: tuple[Event, ...] = (*said.parts, metadata, Finish(finish))
    encoder = dialect.encoder(turn, ask)
    frames = encode_all(encoder, events)
    call.exchange.dropped = encoder.dropped
    stream = client_stream(call)
    try:
        await stream.open(lambda: b"")
        await stream.finish(frames)
    except ClientStalled:
        call.exchange.outcome = CLIENT_STALLED
        stream.abort()
    except ConnectionError:
        call.exchange.outcome = CLIENT_GONE
        stream.abort()
    finally:
        stream.close()
    return stream.response
