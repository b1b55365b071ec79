"""What backends speak. A new kind is one module, one line and one folder of transcripts."""

from gateway.core.codec import UpstreamKind
from gateway.upstreams.echo import ECHO
from gateway.upstreams.remote import REMOTE
from gateway.upstreams.replay import REPLAY

UPSTREAMS: dict[str, UpstreamKind] = {**REMOTE, ECHO.name: ECHO, REPLAY.name: REPLAY}
