"""Which dialect a path speaks: what answers there, and whose words its errors use."""

from gateway.core.codec import Dialect
from gateway.dialects.bookbag_v1 import BOOKBAG_V1
from gateway.dialects.bookbag_v2 import BOOKBAG_V2
from gateway.observe.exchange import Operation

# The path of each dialect's chat requests. `{agent}` is an id, a name or an alias.
CHAT_PATHS: dict[str, Dialect] = {
    "/api/v1/chat": BOOKBAG_V1,
    "/api/v2/agents/{agent}/chat": BOOKBAG_V2,
}

# Where each dialect's requests about an agent's conversations begin.
RECORD_ROOTS: dict[str, Dialect] = {"/api/v2/agents/{agent}": BOOKBAG_V2}

# What follows there; the first that fits, so the word comes before any id.
RECORD_PATHS: tuple[tuple[str, str, Operation], ...] = (
    ("GET", "/conversations", Operation.CONVERSATIONS),
    ("GET", "/conversations/export", Operation.EXPORT),
    ("GET", "/conversations/{conversation}", Operation.CONVERSATION),
    ("GET", "/conversations/{conversation}/messages", Operation.MESSAGES),
    ("GET", "/users/{user}/conversations", Operation.USER_CONVERSATIONS),
    ("POST", "/conversations/{conversation}/retry", Operation.RETRY),
    ("POST", "/conversations/{conversation}/tool-result", Operation.TOOL_RESULT),
    ("PATCH", "/conversations/{conversation}/messages/{message}/feedback", Operation.FEEDBACK),
)

HEALTH_PATH = "/api/v2/health"

# The first prefix that fits decides; v2 for a path that is nobody's.
_PREFIXES: dict[str, Dialect] = {"/api/v1/": BOOKBAG_V1, "": BOOKBAG_V2}


def dialect_of(path: str) -> Dialect:
    """The dialect in which an answer at this path, also an error, is written."""
    return next(dialect for prefix, dialect in _PREFIXES.items() if f"{path}/".startswith(prefix))
