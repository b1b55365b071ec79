"""The short way in: past aiohttp's router and middlewares, for paths that they have led to a chat.

Of a request that is answered at once they would take a tenth.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from aiohttp import hdrs, web

from gateway.core.codec import Dialect
from gateway.http.middleware import Answer, Outermost

# Anybody may ask for an agent that is not there, under a name as long as a head may be.
_MAX_PATHS = 4096
_MAX_LENGTH = 256


_Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Chat(NamedTuple):
    """What the router found at a path."""

    match: web.UrlMappingMatchInfo
    path: str
    dialect: Dialect
    answer: Answer


class Front:
    """Remembers for what paths there are chats."""

    def __init__(self, outermost: Outermost) -> None:
        self._outermost = outermost
        self._chats: dict[str, _Chat] = {}
        self._otherwise: _Serve

    def before(self, otherwise: _Serve) -> _Serve:
        """What serves all requests: others than known chats go on to `otherwise`."""
        self._otherwise = otherwise
        return self._serve

    def learn(self, request: web.Request, dialect: Dialect, answer: Answer) -> None:
        """The router has led this chat to what answers it, beneath the middlewares."""
        match = request.match_info
        resource = match.route.resource
        if resource is None or len(request.raw_path) > _MAX_LENGTH:
            return
        if len(self._chats) >= _MAX_PATHS:
            self._chats.clear()
        self._chats[request.raw_path] = _Chat(match, resource.canonical, dialect, answer)

    def _serve(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        assert isinstance(request, web.Request)
        chat = self._chats.get(request.raw_path)
        if chat is None or request.method != hdrs.METH_POST or hdrs.EXPECT in request.headers:
            return self._otherwise(request)
        request._match_info = chat.match
        return self._outermost.serve(request, chat.answer, chat.dialect, chat.path)


FRONT: Final = web.AppKey("front", Front)
"""An application's, if it has chats."""
