"""The head of an answer to a client, as bytes.

aiohttp builds a multidict of it and looks through that several times, for a sixth of what a short
request costs. Those of errors and of all that is not a turn still come that way.
"""

from collections.abc import Mapping
from typing import Protocol, cast

from aiohttp import HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time

# By whether connections outlive an answer of which nothing is said.
_BEGINNINGS = ("HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\n")


class _Connection(Protocol):
    """`http.connection.Connection`, which is of a layer above."""

    @property
    def last_answer(self) -> bool: ...


def persists(request: web.BaseRequest) -> bool:
    """Whether the connection is to be used again after this answer."""
    return request.keep_alive and not cast("_Connection", request.protocol).last_answer


def head(
    request: web.BaseRequest, own: str, fields: Mapping[str, str], *, keep_alive: bool
) -> bytes:
    """With status 200; `own` are lines that are ready. Raises `ValueError` for a field with a line
    end or another control character, or what is no text."""
    if not "".join(fields.values()).isprintable():
        raise ValueError("a header has more in it than text")
    lines = "\r\n".join(map(": ".join, fields.items()))
    persistent = request.version >= HttpVersion11
    if keep_alive != persistent:
        own = f"{own}Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
    begun = f"{_BEGINNINGS[persistent]}{own}Date: {rfc822_formatted_time()}\r\n"
    return f"{begun}{lines}\r\n\r\n".encode()
