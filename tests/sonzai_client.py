"""Sonzai's own client, by the rules of its Python SDK 1.8, and stricter where it only warns.

The SDK itself needs Python 3.12. It reads lines with httpx, which splits them as `str.splitlines`
does; wants `data: ` with its space; parses each line by itself; and stops at `[DONE]`. Its models
of a chunk's parts, made of the OpenAPI document, forbid further fields.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# The fields of `ChatSSEChunk` and its parts, with their types; None is any.
CHUNK: dict[str, type | None] = {
    "$schema": str,
    "build_duration_ms": int,
    "choices": list,
    "data": None,
    "enriched_context": None,
    "error": dict,
    "message_index": int,
    "phase": str,
    "side_effects": None,
    "tool": str,
    "type": str,
    "used_fast_path": bool,
}
CHOICE: dict[str, type | None] = {"delta": dict, "index": int, "finish_reason": str}
DELTA: dict[str, type | None] = {"content": str}
ERROR: dict[str, type | None] = {"message": str}


class Kind(StrEnum):
    """What the SDK makes of a chunk."""

    ERROR = "ChatErrorEvent"
    CONTEXT = "ChatContextReadyEvent"
    SIDE_EFFECTS = "ChatSideEffectsEvent"
    BOUNDARY = "ChatMessageBoundaryEvent"
    PHASE = "ChatPhaseEvent"
    COMPLETE = "ChatCompleteEvent"
    DELTA = "ChatDeltaEvent"


_TYPES = {
    "context_ready": Kind.CONTEXT,
    "side_effects": Kind.SIDE_EFFECTS,
    "message_boundary": Kind.BOUNDARY,
    "phase": Kind.PHASE,
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of the SDK."""

    kind: Kind
    said: dict[str, Any]

    @property
    def content(self) -> str:
        choices = self.said.get("choices") or [{"delta": {}}]
        content: str = choices[0]["delta"].get("content", "")
        return content


def read(body: bytes) -> list[Chunk]:
    """The chunks of a stream that ends as it should: with a complete or an error, and `[DONE]`."""
    chunks: list[Chunk] = []
    for line in body.decode().splitlines():
        line = line.strip()
        if line == "data: [DONE]":
            break
        if line and not line.startswith(":"):
            assert line.startswith("data: "), line
            chunks.append(_chunk(json.loads(line.removeprefix("data: "))))
    else:
        raise AssertionError("the stream has no [DONE]")
    ends = [chunk.kind in (Kind.COMPLETE, Kind.ERROR) for chunk in chunks]
    assert ends == [False] * (len(chunks) - 1) + [True]
    return chunks


def text(chunks: list[Chunk]) -> str:
    """What `chat()` gives, which joins the deltas whatever else was said."""
    return "".join(chunk.content for chunk in chunks)


def _chunk(said: Any) -> Chunk:
    _validate(said, CHUNK, required=())
    for choice in said.get("choices", []):
        _validate(choice, CHOICE, required=("delta", "index"))
        _validate(choice["delta"], DELTA, required=())
    if "error" in said:
        _validate(said["error"], ERROR, required=("message",))
    return Chunk(_kind(said), said)


def _kind(said: Mapping[str, Any]) -> Kind:
    if said.get("error"):
        return Kind.ERROR
    if kind := _TYPES.get(said.get("type", "")):
        return kind
    choices = said.get("choices") or [{}]
    return Kind.COMPLETE if choices[0].get("finish_reason") else Kind.DELTA


def _validate(said: Any, model: dict[str, type | None], *, required: tuple[str, ...]) -> None:
    assert isinstance(said, dict), said
    assert said.keys() <= model.keys(), f"extra fields: {said.keys() - model.keys()}"
    assert said.keys() >= set(required), f"missing fields: {set(required) - said.keys()}"
    for name, value in said.items():
        kind = model[name]
        assert kind is None or type(value) is kind, f"{name} is {value!r}"
