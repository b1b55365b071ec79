"""openai-python, of whichever release is on the path: how each of these requests went."""

import json
import sys
from collections.abc import Callable
from typing import Any

import openai

Way = Callable[[Any, dict[str, Any], dict[str, Any]], None]


def whole(client: Any, body: dict[str, Any], came: dict[str, Any]) -> None:
    came["answer"] = client.chat.completions.create(**body).model_dump()


def streamed(client: Any, body: dict[str, Any], came: dict[str, Any]) -> None:
    for chunk in client.chat.completions.create(**body, stream=True):
        came["chunks"].append(chunk.model_dump())


def helped(client: Any, body: dict[str, Any], came: dict[str, Any]) -> None:
    with client.beta.chat.completions.stream(**body) as stream:
        came["chunks"].extend(event.type for event in stream)
        came["answer"] = stream.get_final_completion().model_dump()


def models(client: Any, body: dict[str, Any], came: dict[str, Any]) -> None:
    came["answer"] = [model.id for model in client.models.list(**body)]


WAYS: dict[str, Way] = {"whole": whole, "streamed": streamed, "helped": helped, "models": models}


def asked(client: Any, way: str, body: dict[str, Any]) -> dict[str, Any]:
    came: dict[str, Any] = {"chunks": [], "answer": None, "error": None}
    try:
        WAYS[way](client, body, came)
    except openai.APIError as error:
        status = getattr(error, "status_code", None)
        words = {"code": error.code, "type": error.type, "message": error.message}
        came["error"] = {"name": type(error).__name__, "status": status, **words}
    return came


given = json.loads(sys.argv[1])
client = openai.OpenAI(base_url=given["url"], api_key=given["key"], max_retries=0)
all_of_them = [asked(client, way, body) for way, body in given["requests"]]
print(json.dumps({"release": openai.__version__, "came": all_of_them}))
