"""What tests ask about conversations that are kept, in the words of Bookbag v2."""

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.running import KEY, Answered, Running, config

# Each is a `[store]` table; relative paths are in the test's own folder.
STORES = {"memory": 'url = "memory://"', "sqlite": 'url = "sqlite:///kept.db"'}

AGENT = "/api/v2/agents/1"
CONVERSATIONS = f"{AGENT}/conversations"


def echo(store: str, **more: str) -> str:
    """A config whose upstream says what it is told; `/tool name {}` has it call a tool."""
    more = {"tier": 'requests = "100000/1s"', **more}
    return config("", kind="echo", target="", store=STORES[store], **more)


async def asked(gateway: Running, path: str, key: str | None = KEY) -> dict[str, Json]:
    """What a read answers."""
    answer = await gateway.request("GET", path, key=key)
    assert answer.status == 200, answer.body
    return answer.json


async def pages(gateway: Running, path: str, key: str = KEY) -> list[list[dict[str, Json]]]:
    """A list, page by page, to its end."""
    found: list[list[dict[str, Json]]] = []
    cursor: Json = ""
    while cursor is not None:
        sign = "&" if "?" in path else "?"
        page = await asked(gateway, f"{path}{sign}cursor={cursor}" if cursor else path, key)
        pagination = json.mapping(page["pagination"])
        assert pagination["hasMore"] is (pagination["cursor"] is not None)
        found.append([json.mapping(item) for item in json.array(page["data"])])
        cursor = pagination["cursor"]
    return found


async def messages(gateway: Running, conversation: str, key: str = KEY) -> list[dict[str, Json]]:
    """All of a conversation's, in their order."""
    path = f"{CONVERSATIONS}/{conversation}/messages?limit=100"
    return [message for page in reversed(await pages(gateway, path, key)) for message in page]


async def texts(gateway: Running, conversation: str) -> list[str]:
    """What was said, message by message."""
    return [text(message) for message in await messages(gateway, conversation)]


def text(message: dict[str, Json]) -> str:
    parts = map(json.mapping, json.array(message["parts"]))
    return "".join(json.text(part.get("text")) for part in parts)


async def said(
    gateway: Running, message: str | None, key: str = KEY, **body: Json
) -> dict[str, Json]:
    """A turn's whole answer."""
    sent: dict[str, Json] = {"stream": False, **body}
    if message is not None:
        sent["message"] = message
    answer = await gateway.post(f"{AGENT}/chat", sent, key)
    assert answer.status == 200, answer.body
    return json.mapping(answer.json["data"])


def conversation_of(data: dict[str, Json]) -> str:
    return json.text(json.mapping(data["metadata"])["conversationId"])


def identity(answer: Answered) -> dict[str, Json]:
    """The ids that a stream ended with."""
    assert answer.status == 200, answer.body
    return json.mapping(json.mapping(answer.frames[-2][1])["metadata"])


def call_of(data: dict[str, Json]) -> str:
    """The id of the first tool call of an answer."""
    parts = map(json.mapping, json.array(data["parts"]))
    return next(json.text(part["toolCallId"]) for part in parts if part["type"] == "tool-call")


async def retry(gateway: Running, conversation: str, message: Json, **body: Json) -> Answered:
    path = f"{CONVERSATIONS}/{conversation}/retry"
    return await gateway.post(path, {"messageId": message, **body})


async def result(gateway: Running, conversation: str, call: Json, **body: Json) -> Answered:
    path = f"{CONVERSATIONS}/{conversation}/tool-result"
    return await gateway.post(path, {"toolCallId": call, **body})


async def rate(gateway: Running, conversation: str, message: Json, feedback: Json) -> Answered:
    path = f"{CONVERSATIONS}/{conversation}/messages/{message}/feedback"
    return await gateway.request("PATCH", path, {"feedback": feedback})
