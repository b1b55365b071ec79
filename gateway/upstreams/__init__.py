"""What backends speak. A new kind is one module, one line here and one folder of transcripts."""

from gateway.core.codec import UpstreamKind
from gateway.upstreams.openai import OPENAI

UPSTREAMS: dict[str, UpstreamKind] = {kind.name: kind for kind in (OPENAI,)}
