"""Text as it is, without frames (the AI SDK's "text stream protocol"): the end of the body is the
end of the answer."""

from codecs import getincrementaldecoder

from gateway.core.errors import ErrorCode
from gateway.core.events import Event, Finish, FinishReason, TextDelta
from gateway.upstreams.refusals import failed

_Utf8 = getincrementaldecoder("utf-8")


class TextDecoder:
    """What is no UTF-8 becomes U+FFFD; a character that the network cut is put together again."""

    def __init__(self) -> None:
        self._utf8 = _Utf8("replace")
        self._said = False
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        text = self._utf8.decode(data)
        self._said = self._said or bool(text)
        return [TextDelta(text)] if text else []

    def eof(self) -> list[Event]:
        """Complete, unless nothing was said, or half a character was the last of it."""
        if self._over:
            return []
        self._over = True
        cut, _ = self._utf8.getstate()
        if cut or not self._said:
            return [failed(ErrorCode.UPSTREAM_TRUNCATED)]
        return [Finish(FinishReason.OTHER)]

    def lost(self) -> list[Event]:
        if self._over:
            return []
        self._over = True
        return [failed(ErrorCode.UPSTREAM_TRUNCATED)]
