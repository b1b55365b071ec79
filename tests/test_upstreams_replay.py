"""Replays: transcripts, and how they are played."""

from pathlib import Path

import pytest

from gateway.core.codec import Pause, Target, Transcript
from gateway.core.conversation import Role
from gateway.core.events import Finish, FinishReason, TextDelta
from gateway.core.turn import Message, Prompt
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.replay import transcript
from tests.golden_cases import GOLDEN, decoded

EXAMPLES = Path(__file__).parent.parent / "config" / "transcripts"

REPLAY = UPSTREAMS["replay"]
KINDS = "openai, bookbag-v1, bookbag-v2, chatbase, sonzai, agentsgt"


def played(recorded: Transcript, *, stream: bool = True) -> list[bytes | Pause]:
    assert REPLAY.script is not None
    prompt = Prompt(messages=(Message(Role.USER, "Hello"),), stream=stream)
    return list(REPLAY.script(Target(upstream="demo", transcript=recorded), prompt))


TEXT = """{"kind": "bookbag-v2"}
{"after": 0.5, "data": "data: {\\"type\\":\\"text-delta\\","}

{"after": 0, "data": "\\"text\\":\\"a\u2028b\\"}\\n\\n"}
{"after": 2, "data": "data: [DONE]\\n\\n"}
"""


def test_transcript() -> None:
    """A transcript is its kind and its steps; blank lines are none, and U+2028 ends no line."""
    assert transcript(TEXT) == Transcript(
        "bookbag-v2",
        (
            (0.5, b'data: {"type":"text-delta",'),
            (0, '"text":"a\u2028b"}\n\n'.encode()),
            (2, b"data: [DONE]\n\n"),
        ),
    )


def test_played_by_the_decoder_of_its_kind() -> None:
    """The bytes are read as those of the kind that sent them, pauses and all."""
    recorded = transcript(TEXT)
    steps = played(recorded)

    assert [step for step in steps if isinstance(step, Pause)] == [Pause(0.5), Pause(2)]
    decoder = REPLAY.decoder(Target(upstream="demo", transcript=recorded))
    assert decoded(decoder, [step for step in steps if isinstance(step, bytes)]) == [
        TextDelta("a\u2028b"),
        Finish(FinishReason.OTHER),
    ]


def test_no_pauses_in_a_whole_answer() -> None:
    """Nobody watches a whole answer come: it comes at once."""
    assert all(isinstance(step, bytes) for step in played(transcript(TEXT), stream=False))


def test_the_example_is_the_golden_transcript() -> None:
    """The example that comes with the project plays the answer of the golden case."""
    recorded = transcript((EXAMPLES / "order.jsonl").read_text(encoding="utf-8"))

    sent = b"".join(step for step in played(recorded) if isinstance(step, bytes))

    assert recorded.kind == "openai"
    assert sent == (GOLDEN / "replay" / "order.sse").read_bytes()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", 'the transcript is empty: its first line must be {"kind": "openai"}'),
        ("\n \n", 'the transcript is empty: its first line must be {"kind": "openai"}'),
        ("hello", "line 1: must be a JSON object of kind"),
        ('{"after": 0, "data": ""}', "line 1: must be a JSON object of kind"),
        (
            '\n{"kind": "echo"}',
            f"line 2: kind must be one of {KINDS}, not 'echo'",
        ),
        (
            '{"kind": ["openai"]}',
            f"line 1: kind must be one of {KINDS}, not ['openai']",
        ),
        ('{"kind": "openai"}\n[]', "line 2: must be a JSON object of after and data"),
        ('{"kind": "openai"}\n{"data": ""}', "line 2: must be a JSON object of after and data"),
        (
            '{"kind": "openai"}\n{"after": -1, "data": ""}',
            "line 2: after must be a number of seconds from 0",
        ),
        (
            '{"kind": "openai"}\n{"after": true, "data": ""}',
            "line 2: after must be a number of seconds from 0",
        ),
        (
            '{"kind": "openai"}\n{"after": 0, "data": null}',
            "line 2: data must be a string, what the upstream sent",
        ),
    ],
)
def test_complaints(text: str, complaint: str) -> None:
    """What is wrong with a transcript is said with its line and what is allowed there."""
    with pytest.raises(ValueError, match=r".") as raised:
        transcript(text)

    assert str(raised.value) == complaint
