"""The upstream kinds that are reached over the network."""

from gateway.core.codec import UpstreamKind
from gateway.upstreams.agentsgt import AGENTSGT
from gateway.upstreams.bookbag import BOOKBAG_V1, BOOKBAG_V2
from gateway.upstreams.chatbase import CHATBASE
from gateway.upstreams.openai import OPENAI
from gateway.upstreams.sonzai import SONZAI

REMOTE: dict[str, UpstreamKind] = {
    kind.name: kind for kind in (OPENAI, BOOKBAG_V1, BOOKBAG_V2, CHATBASE, SONZAI, AGENTSGT)
}
