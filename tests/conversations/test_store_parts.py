"""Whatever a model, a user or a tool says comes back from every store as it was said."""

import pytest
from msgspec.structs import replace

from gateway.conversations.store import Store
from gateway.core.conversation import MAX_ID, Feedback, Part, Place, StoredMessage
from gateway.core.events import (
    Citation,
    Citations,
    FinishReason,
    Json,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.wire import json
from tests.conversations.records import ACME, EVERYTHING, NOW, answer, kept, new, question, row


def nested(depth: int) -> Json:
    value: Json = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


TEXTS = {
    "scripts": "Größe, 注文は, заказ, שלום, 👩‍🚀",
    "nul": "a\0b\0",
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029",
    "mended": json.text(json.loads(rb'"half an emoji: \ud83d, and \udc00"')),
    "beyond": "\ufffe\uffff\U0010ffff",
    "quotes": """' '' " \\ \\\\ `$1` :name ? %s -- ;""",
    "blank": " \n\t ",
    "large": "5 MB of text. " * 357_143,
}

PARTS: dict[str, tuple[Part, ...]] = {
    "none": (),
    "text": (TextDelta("hello"),),
    "reasoning": (ReasoningDelta("Hm."), TextDelta("hello")),
    "call": (ToolCall("call_1", "look_up", {"order": 7, "express": None}),),
    "call-without-arguments": (ToolCall("call_1", "look_up", None),),
    "call-of-text": (ToolCall("call_1", "look_up", '{"not": json'),),
    "call-with-echo": (ToolCall("call_1", "f", {}, {"thought": "x\0"}, "call_of_theirs"),),
    "call-with-empty-echo": (ToolCall("call_1", "f", {}, {}),),
    "output": (ToolCall("call_1", "f", {}), ToolOutput("call_1", [1, {"a": "b"}])),
    "output-of-nothing": (ToolOutput("call_1", None),),
    "citations": (
        TextDelta("See"),
        Citations([Citation("https://a.example", "A", "…"), Citation(title="B"), Citation()]),
    ),
    "many-calls": tuple(ToolCall(f"call_{n}", f"f{n}", {"n": n}) for n in range(1000)),
    "deep-arguments": (ToolCall("call_1", "f", nested(199)),),
    "deep-output": (ToolOutput("call_1", nested(199)),),
    "numbers": (ToolOutput("c", [0, -1, 1.5, -0.25, 1e300, (1 << 63) - 1, -(1 << 63), True]),),
    "names": (ToolCall("\0 call", "名\0", {"": 1, "\0": 2, "ключ": [[], {}, ""]}),),
}


async def written(store: Store, *parts: Part) -> tuple[Part, ...]:
    change = new(1, question(0), answer(1, finish=FinishReason.STOP))
    change = replace(change, messages=(question(0), replace(answer(1), parts=parts)))
    await store.save(change, ())
    return (await kept(store, change))[1].parts


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
async def test_every_kind_of_part_comes_back(store: Store, parts: tuple[Part, ...]) -> None:
    """With each of its fields, in its order."""
    assert await written(store, *parts) == parts


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_every_text_comes_back(store: Store, text: str) -> None:
    """Whatever is in it and however long it is: said, thought, called with and returned."""
    parts = (
        TextDelta(text),
        ReasoningDelta(text),
        ToolCall("call_1", "f", {"text": text}),
        ToolOutput("call_1", text),
        Citations([Citation("https://a.example", text, text)]),
    )

    assert await written(store, *parts) == parts


@pytest.mark.parametrize("finish", [*FinishReason, None])
async def test_what_is_known_of_an_answer_comes_back(
    store: Store, finish: FinishReason | None
) -> None:
    """How it ended, what it cost, and who gave it under which names."""
    said = StoredMessage(
        id=MAX_ID,
        position=1,
        role=answer(1).role,
        parts=(TextDelta("a"),),
        created=NOW,
        finish=finish,
        usage=Usage(12, 345, 1.5),
        model="gpt-4o-mini",
        upstream="main",
        upstream_conversation="theirs/ü\0",
        upstream_message="msg_of_theirs",
        feedback=Feedback.NEGATIVE,
    )
    change = new(1, question(0), said)
    await store.save(change, ())

    assert await kept(store, change) == (question(0), said)


@pytest.mark.parametrize(
    "usage", [None, Usage(0, 0, 0), Usage(credits=0.125), Usage(input_tokens=MAX_ID)], ids=str
)
async def test_what_is_not_known_of_an_answer_stays_so(store: Store, usage: Usage | None) -> None:
    """Nothing unknown becomes a 0, nor a 0 unknown."""
    change = new(1, question(0), replace(answer(1), usage=usage))
    await store.save(change, ())

    assert (await kept(store, change))[1].usage == usage


async def test_the_largest_ids_and_times_come_back(store: Store) -> None:
    """Every whole number that JavaScript holds."""
    found = replace(
        row(MAX_ID, place=Place(ACME.owner, MAX_ID), updated=MAX_ID, length=2), created=MAX_ID
    )
    messages = (
        replace(question(0, number=MAX_ID - 1), created=MAX_ID),
        answer(1, number=MAX_ID),
    )
    change = replace(new(1), conversation=found, messages=messages)
    await store.save(change, ())
    await store.mark(MAX_ID, MAX_ID, Feedback.POSITIVE)

    marked = (messages[0], replace(messages[1], feedback=Feedback.POSITIVE))
    assert await store.load(found.place, MAX_ID, EVERYTHING) == (found, marked)


async def test_every_field_of_a_conversation_comes_back(store: Store) -> None:
    """Its title in any script, its user and what upstreams call it."""
    found = row(
        1,
        user_id="a.B-c_9" * 18,
        title="注文は どこ？ '\"; 👩‍🚀 …",
        length=2,
        upstream_ids={"main/": "42", "other/agent ü": "x" * 500},
    )
    await store.save(replace(new(1), conversation=found), ())

    loaded = await store.load(ACME, 1, EVERYTHING)
    assert loaded is not None
    assert loaded[0] == found


async def test_a_long_conversation_comes_back(store: Store) -> None:
    """Thousands of messages, written turn by turn or at once."""
    messages = tuple(answer(n) if n % 2 else question(n, f"q{n}") for n in range(3000))
    change = new(1, *messages)
    await store.save(change, ())

    assert await kept(store, change) == messages
