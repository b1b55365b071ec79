"""Which dialect a path speaks: what answers there, and whose words its errors use."""

from collections.abc import Iterable, Mapping

from gateway.core.codec import Dialect
from gateway.dialects import DIALECTS
from gateway.dialects.bookbag_v2 import BOOKBAG_V2
from gateway.dialects.openai import OPENAI
from gateway.observe.exchange import Operation

# What follows an agent's path; the first that fits, so the word comes before any id.
RECORDS: tuple[tuple[str, str, Operation], ...] = (
    ("GET", "/conversations", Operation.CONVERSATIONS),
    ("GET", "/conversations/export", Operation.EXPORT),
    ("GET", "/conversations/{conversation}", Operation.CONVERSATION),
    ("GET", "/conversations/{conversation}/messages", Operation.MESSAGES),
    ("GET", "/users/{user}/conversations", Operation.USER_CONVERSATIONS),
    ("POST", "/conversations/{conversation}/retry", Operation.RETRY),
    ("POST", "/conversations/{conversation}/tool-result", Operation.TOOL_RESULT),
    ("PATCH", "/conversations/{conversation}/messages/{message}/feedback", Operation.FEEDBACK),
)

_HEALTH = "/api/v2/health"
_MODELS = "/v1/models"


class Paths:
    """The public paths, with each family of dialects behind its mount; `variants` are spoken in the
    place of the dialects of their names."""

    def __init__(self, mounts: Mapping[str, str], variants: Iterable[Dialect] = ()) -> None:
        self.chats: dict[str, Dialect] = {}
        self.roots: dict[str, Dialect] = {}
        """Where requests about an agent's conversations begin."""
        self.streams: dict[str, Dialect] = {}
        """Where clients come back to a stream that they lost."""
        self.health = mounts[BOOKBAG_V2.family] + _HEALTH
        self.models = mounts[OPENAI.family] + _MODELS
        """Behind it, after a slash, is each of them."""
        beginnings: list[tuple[str, Dialect]] = []
        spoken = DIALECTS | {variant.name: variant for variant in variants}
        for dialect in spoken.values():
            mount = mounts[dialect.family]
            self.chats.update({mount + path: dialect for path in dialect.chats})
            if dialect.root is not None:
                self.roots[mount + dialect.root] = dialect
            if dialect.resuming is not None:
                self.streams[mount + dialect.resuming.path] = dialect
            beginnings.append((mount + dialect.beginning, dialect))
        # The longest that fits decides.
        self._beginnings = sorted(beginnings, key=lambda known: -len(known[0]))

    def dialect_of(self, path: str) -> Dialect:
        """The dialect in which an answer at this path, also an error, is written; Bookbag v2 for a
        path that is nobody's."""
        fits = (d for beginning, d in self._beginnings if f"{path}/".startswith(beginning))
        return next(fits, BOOKBAG_V2)
