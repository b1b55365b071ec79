"""Reading what the AI SDK's clients post: the whole conversation, in any of its shapes.

`useChat` posts UI messages, with `parts`; AgentsGT's page shows model messages, with `content`,
which is a text or parts of another kind. The `toolInvocations` of `ai` 4 are read, too.
"""

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from gateway.core.conversation import Role
from gateway.core.events import Json, ToolCall
from gateway.core.turn import ChatRequest, Message
from gateway.dialects.ai_sdk_files import file_content
from gateway.dialects.fields import USER_ID, Fields, fields
from gateway.wire import json

_IDENTIFIER = "X-Agent-Identifier"
_ROLES: dict[Json, Role] = {role.value: role for role in Role}

# The texts of one message: a user's are apart, an answer's were cut by what came between them.
_JOINTS: dict[Role, str] = {Role.USER: "\n"}


def decode(body: Json, agent: str | None, headers: Mapping[str, str]) -> ChatRequest:
    """A request's body; further fields (`trigger`, `messageId`, the app's own) say nothing here.

    A last message of the user's that is more than text is left in the history, as it stands.
    """
    read = fields(body)
    history = list(_messages(read))
    if not read.problems:
        _check(read, history)
    last = history[-1] if history else None
    message = None
    if last is not None and last.role is Role.USER and last.content is None:
        message = history.pop().text
    request = ChatRequest(
        agent=agent or "",
        message=message,
        stream=True,
        history=tuple(history),
        session_id=read.string("id", longest=json.MAX_IDENTIFIER),
        user_id=_user(read, headers.get(_IDENTIFIER)),
    )
    read.check()
    return request


def user(headers: Mapping[str, str]) -> str | None:
    """Whose chat a request without a body is about. Raises `GatewayError(INVALID_BODY)`."""
    read = fields({})
    found = _user(read, headers.get(_IDENTIFIER))
    read.check()
    return found


def _check(read: Fields, history: list[Message]) -> None:
    """Whether there is something to answer, by a user who asked for it."""
    if not history or not _asks(history[-1]):
        read.problems["messages"] = "must end with a user's message or the results of tools"
    elif all(said.role is not Role.USER for said in history):
        read.problems["messages"] = "must hold a user's message"


def _asks(last: Message) -> bool:
    if last.role is Role.USER:
        return last.content is not None or bool(last.text.strip())
    return last.role is Role.TOOL


def _user(read: Fields, identifier: str | None) -> str | None:
    if identifier and not USER_ID.fullmatch(identifier):
        read.problems[_IDENTIFIER] = f"must match ^{USER_ID.pattern}$"
    return identifier or None


def _messages(read: Fields) -> Iterator[Message]:
    said = read.body.get("messages")
    if not isinstance(said, list) or not said:
        read.problems["messages"] = "is required and must be a non-empty array"
        return
    for index, message in enumerate(said):
        where = f"messages[{index}]"
        role = _ROLES.get(json.text(json.mapping(message).get("role")))
        if role is None:
            read.problems[f"{where}.role"] = f"is required and must be one of {', '.join(Role)}"
        else:
            yield from _Reading(role, where, read.problems).messages(json.mapping(message))
        if read.problems:  # the first that is wrong is enough: there may be very many
            return


def _parts(message: dict[str, Json]) -> list[Json]:
    """What the message says, in order, whichever field holds it."""
    parts, content = json.array(message.get("parts")), message.get("content")
    if not parts:
        text: Json = {"type": "text", "text": content}
        parts = content if isinstance(content, list) else [text] if content else []
        calls = json.array(message.get("toolInvocations"))
        # In `ai` 4 the calls are what an answer's text follows.
        parts = [*({"type": "tool-invocation", "toolInvocation": call} for call in calls), *parts]
    files = json.array(message.get("experimental_attachments"))
    return [*parts, *({**json.mapping(file), "type": "file"} for file in files)]


class _Reading(Struct):
    """One message of theirs, which is one or more of ours: an answer of several steps is several,
    each with the results of its tools behind it."""

    role: Role
    where: str
    problems: dict[str, str]
    texts: list[str] = []
    content: list[Json] = []
    """All of it, as OpenAI writes it."""
    has_files: bool = False
    calls: list[ToolCall] = []
    results: list[Message] = []
    done: list[Message] = []

    def messages(self, message: dict[str, Json]) -> list[Message]:
        for index, part in enumerate(_parts(message)):
            self._read(json.mapping(part), f"{self.where}.parts[{index}]")
            if self.problems:
                return []
        self._end_step()
        return self.done

    def _read(self, part: dict[str, Json], where: str) -> None:
        kind = json.text(part.get("type"))
        of_tools = kind == "dynamic-tool" or kind.startswith("tool-")
        if not kind:
            self.problems[where] = "must be an object with a type"
        elif not of_tools and self.role is Role.TOOL:
            self.problems[where] = "must be a tool-result"
        elif of_tools and self.role not in (Role.TOOL, Role.ASSISTANT):
            self.problems[where] = "must be in an assistant's message"
        elif kind.startswith("tool-") and "state" in part:
            self._tool({**part, "toolName": kind.removeprefix("tool-")}, where)
        elif read := _READERS.get(kind):
            read(self, part, where)
        # Reasoning, sources, data and what later releases add are not what a model is told.

    def _text(self, part: dict[str, Json], where: str) -> None:
        text = part.get("text")
        if not isinstance(text, str):
            self.problems[f"{where}.text"] = "is required and must be a string"
        elif text:
            if self.results:
                self._end_step()
            self.texts.append(text)
            self.content.append({"type": "text", "text": text})

    def _file(self, part: dict[str, Json], where: str) -> None:
        # What a model drew is not told it again.
        if self.role is not Role.USER:
            return
        content = file_content(part)
        if content is None:
            self.problems[where] = "must be an image by its http(s) or data URL, or a data URL"
        else:
            self.content.append(content)
            self.has_files = True

    def _tool(self, part: dict[str, Json], where: str) -> None:
        """A call in a UI message, with its result if it has one. One without is left out: models
        refuse it."""
        result = _result(part)
        if result is not None and (call := self._call(part, where)):
            self.calls.append(call)
            self.results.append(Message(Role.TOOL, result, call_id=call.call_id))

    def _invocation(self, part: dict[str, Json], where: str) -> None:
        said = json.mapping(part.get("toolInvocation"))
        if said.get("state") == "result" and (call := self._call(said, where)):
            self.calls.append(call)
            output = _written(said.get("result"))
            self.results.append(Message(Role.TOOL, output, call_id=call.call_id))

    def _model_call(self, part: dict[str, Json], where: str) -> None:
        if call := self._call(part, where):
            self.calls.append(call)

    def _model_result(self, part: dict[str, Json], where: str) -> None:
        if call_id := self._call_id(part, where):
            output = part.get("output", part.get("result"))
            self.results.append(Message(Role.TOOL, _unwrapped(output), call_id=call_id))

    def _call(self, part: dict[str, Json], where: str) -> ToolCall | None:
        name = json.text(part.get("toolName"))
        if not name:
            self.problems[f"{where}.toolName"] = "is required and must be a non-empty string"
        call_id = self._call_id(part, where)
        if not name or call_id is None:
            return None
        said = next((part[key] for key in ("input", "rawInput", "args") if key in part), {})
        return ToolCall(call_id, name, said)

    def _call_id(self, part: dict[str, Json], where: str) -> str | None:
        call_id = json.identifier(part.get("toolCallId"))
        if call_id is None:
            problem = f"is required and must be a string of 1 to {json.MAX_IDENTIFIER} characters"
            self.problems[f"{where}.toolCallId"] = problem
        return call_id

    def _step_start(self, _part: dict[str, Json], _where: str) -> None:
        self._end_step()

    def _end_step(self) -> None:
        text = _JOINTS.get(self.role, "").join(self.texts)
        if text or self.calls or self.has_files:
            content: Json = self.content if self.has_files else None
            self.done.append(Message(self.role, text, tuple(self.calls), content=content))
        self.done += self.results
        self.texts, self.content, self.calls, self.results = [], [], [], []
        self.has_files = False


# The rest are `tool-<NAME>`, and have a state; so do these, where they are tools' names.
_READERS: dict[str, Callable[[_Reading, dict[str, Json], str], None]] = {
    "text": _Reading._text,
    "file": _Reading._file,
    "image": _Reading._file,
    "step-start": _Reading._step_start,
    "dynamic-tool": _Reading._tool,
    "tool-invocation": _Reading._invocation,
    "tool-call": _Reading._model_call,
    "tool-result": _Reading._model_result,
}


def _result(part: dict[str, Json]) -> str | None:
    """What the model is told of a call in a UI message; None where there is nothing yet."""
    match part.get("state"):
        case "output-available" if part.get("preliminary") is not True:
            return _written(part.get("output"))
        case "output-error":
            return json.text(part.get("errorText")) or "the tool failed"
        case "output-denied" | "approval-responded":
            return _approval(json.mapping(part.get("approval")))
        case _:
            return None


def _approval(said: dict[str, Json]) -> str:
    """The user's word on a call that is run elsewhere, if at all."""
    approved: dict[str, Json] = {"approved": said.get("approved") is True}
    reason = json.text(said.get("reason"))
    return _written({**approved, "reason": reason} if reason else approved)


def _unwrapped(output: Json) -> str:
    """A model message's result: from `ai` 5 on with its type, `{"type":"json","value":...}`."""
    said = json.mapping(output)
    if said.get("type") == "execution-denied":
        return _approval({"approved": False, "reason": said.get("reason")})
    return _written(said["value"] if "type" in said and "value" in said else output)


def _written(output: Json) -> str:
    return output if isinstance(output, str) else json.dumps(output).decode()
