"""A client that uses tools, and how models call them and are told of them."""

from dataclasses import dataclass

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.running import Answered, Running
from tests.e2e.scripted import ScriptedUpstream, Step, finish, sse

TOOLS = """
[[agents.tools]]
name = "order_status"
description = "Look an order up."
parameters = { type = "object", properties = { order = { type = "integer" } }, required = ["order"], additionalProperties = false }
[[agents.tools]]
name = "refund"
description = "Give money back."
parameters = { type = "object", properties = {} }
"""  # noqa: E501


@dataclass(slots=True)
class Client:
    """A client in one conversation."""

    gateway: Running
    conversation: str = ""

    async def say(self, message: str | None, **more: Json) -> Answered:
        """A message; None goes on from the tools' results."""
        body: dict[str, Json] = {} if message is None else {"message": message}
        if self.conversation:
            body["conversationId"] = int(self.conversation)
        return self._noted(await self.gateway.post("/api/v2/agents/1/chat", {**body, **more}))

    async def hand_in(self, call_id: str, output: Json) -> Answered:
        """A tool's result."""
        body: Json = {"toolCallId": call_id, "output": output}
        return await self.gateway.post(self._path("tool-result"), body)

    async def retry(self, message: str, **more: Json) -> Answered:
        """Ask for an answer anew."""
        return self._noted(
            await self.gateway.post(self._path("retry"), {"messageId": message, **more})
        )

    def _path(self, what: str) -> str:
        return f"/api/v2/agents/1/conversations/{self.conversation}/{what}"

    def _noted(self, answer: Answered) -> Answered:
        if answer.status == 200:
            self.conversation = json.text(metadata(answer)["conversationId"])
        return answer


def metadata(answer: Answered) -> dict[str, Json]:
    """What an answer, streamed or whole, ends with."""
    if answer.headers["content-type"] == "application/json":
        data = json.mapping(answer.json["data"])
        return {**json.mapping(data["metadata"]), "messageId": data["id"]}
    last = json.mapping(answer.frames[-2][1])
    assert last["type"] == "finish", answer.body
    return {**json.mapping(last["metadata"]), "finishReason": last["finishReason"]}


def message_of(answer: Answered) -> str:
    """The id of an answer."""
    return json.text(metadata(answer)["messageId"])


def calls_of(answer: Answered) -> dict[str, Json]:
    """The calls that an answer makes: their inputs, by their ids."""
    frames = [json.mapping(data) for _, data in answer.frames]
    calls = [frame for frame in frames if frame.get("type") == "tool-call"]
    assert metadata(answer)["finishReason"] == ("tool-calls" if calls else "stop")
    return {json.text(call["toolCallId"]): call["input"] for call in calls}


def call(call_id: str, arguments: str = "{}", index: int = 0, **more: Json) -> dict[str, Json]:
    """A call as OpenAI streams and stores it."""
    function: Json = {"name": "order_status", "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function, **more}


def delta(*calls: Json) -> Json:
    return {"choices": [{"index": 0, "delta": {"tool_calls": list(calls)}}]}


def calling(*calls: Json) -> list[Step]:
    """An OpenAI stream that calls tools."""
    return sse(delta(*calls), finish("tool_calls"))


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def said(text: str) -> Json:
    return {"role": "assistant", "content": text}


def called(*calls: dict[str, Json], text: str | None = None) -> Json:
    """The message that made the calls, as it goes back."""
    made: list[Json] = [{k: v for k, v in each.items() if k != "index"} for each in calls]
    return {"role": "assistant", "content": text, "tool_calls": made}


def found(call_id: str, text: str) -> Json:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


def histories(upstream: ScriptedUpstream) -> list[Json]:
    """What a stateless upstream was told, each time."""
    return [request.json["messages"] for request in upstream.requests]
