"""Agents, as OpenAI's clients list models."""

from collections.abc import Iterable

from gateway.core.events import Json
from gateway.wire import json


def one(name: str, workspace: str) -> bytes:
    """An agent, by the name that a request's `model` may say."""
    return json.dumps(_model(name, workspace))


def page(names: Iterable[str], workspace: str) -> bytes:
    """All of them: OpenAI's list has one page."""
    return json.dumps({"object": "list", "data": [_model(name, workspace) for name in names]})


def _model(name: str, workspace: str) -> Json:
    # When an agent was made nobody knows, and clients want a number.
    return {"id": name, "object": "model", "created": 0, "owned_by": workspace}
