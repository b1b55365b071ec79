"""Chatbase's agents, API v2: the AI SDK's stream in any of the three forms that its pages show."""

from functools import partial

from gateway.core.codec import Target, UpstreamKind, UpstreamRequest
from gateway.core.turn import Prompt
from gateway.upstreams import hosted
from gateway.upstreams.refusals import refusal
from gateway.upstreams.stream import decoder
from gateway.upstreams.ui_stream import UIStreamReader


def _reader() -> UIStreamReader:
    return UIStreamReader(
        metadata=hosted.metadata,
        document=partial(hosted.answer, parts=hosted.Parts("chatbase")),
    )


def _request(target: Target, prompt: Prompt) -> UpstreamRequest:
    return hosted.chat(target, prompt, prompt.conversation_id)


CHATBASE = UpstreamKind(
    name="chatbase",
    family="chatbase",
    decoder=decoder(_reader),
    stateful=True,
    request=_request,
    result=hosted.result,
    passage=hosted.passage,
    error=refusal,
)
