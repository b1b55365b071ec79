"""Turns: begun, then committed or abandoned.

Nothing of a turn can be seen before the commit, which writes the question and its answer at once: a
turn that failed leaves no trace.
"""

from collections.abc import Callable, Coroutine

from msgspec import Struct
from msgspec.structs import replace

from gateway.conversations.access import Access, Scope, changed, milliseconds
from gateway.conversations.repeats import Asked, Repeated, answered, repeated
from gateway.conversations.results import expired
from gateway.conversations.store import Change, Span
from gateway.core.conversation import (
    Conversation,
    Part,
    Role,
    StoredMessage,
    message_name,
    message_number,
)
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, TextDelta, Usage
from gateway.core.turn import ChatRequest, Turn

_USER, _ASSISTANT = Role.USER, Role.ASSISTANT

# Characters of the user's first message that are the conversation's title.
_TITLE = 80


class Opened(Struct):
    """A turn in progress."""

    turn: Turn
    conversation: Conversation
    """As it was found."""
    messages: tuple[StoredMessage, ...]
    """The newest of what was said before the answer: last a user's question, or an assistant's
    message with the results of its tools."""
    keep: int
    """How many messages of the conversation stay as they are."""
    answer: int
    """The id of the answer."""
    retried: StoredMessage | None = None
    """The answer that is to be replaced."""
    asked: Asked | None = None
    claims: list[int] = []


class Answer(Struct, frozen=True):
    """What a turn's upstream answered; without `finish` it is incomplete."""

    parts: tuple[Part, ...]
    finish: FinishReason | None
    usage: Usage | None
    model: str | None
    upstream: str
    target: str
    """The key under which the upstream's own id of the conversation is kept."""
    conversation: str | None
    message: str | None
    """The upstream's own ids."""


class Turns:
    """Begins and ends turns, with ids from `mint`. `tool_call_ttl` is how long a call waits for its
    result, `repeat_ttl` how long an Idempotency-Key is known: both in milliseconds."""

    def __init__(
        self,
        access: Access,
        *,
        tool_call_ttl: int,
        repeat_ttl: int,
        mint: Callable[[], int],
        clock: Callable[[], int] = milliseconds,
    ) -> None:
        self._access = access
        self._tool_call_ttl = tool_call_ttl
        self._repeat_ttl = repeat_ttl
        self._mint = mint
        self._clock = clock

    def begin(
        self, scope: Scope, ask: ChatRequest, *, limit: int, asked: Asked | None = None
    ) -> Coroutine[object, object, Opened | Repeated]:
        """To be awaited: open the turn that a request asks for, with the newest `limit` messages;
        or the answer that the same request (`asked`) was given before.

        Raises `GatewayError`: CONVERSATION_NOT_FOUND, also for one that is somewhere else;
        CONVERSATION_BUSY while another turn is open in it; INVALID_BODY for a request without a
        message where no tool's result waits for an answer, or for a key that was another request's;
        REQUEST_RUNNING; RETRY_MESSAGE_NOT_FOUND, RETRY_NO_USER_MESSAGE.
        """
        if asked is None and ask.conversation_id is None:
            return self._first(scope, ask)  # nobody else knows of it: there is nothing to claim
        return self._claimed(scope, ask, limit, asked)

    async def _claimed(
        self, scope: Scope, ask: ChatRequest, limit: int, asked: Asked | None
    ) -> Opened | Repeated:
        claims: list[int] = []
        try:
            if asked is not None:
                await self._claim(asked, claims)
                if known := await answered(self._access.store, asked, self._clock()):
                    await self._access.release(claims)
                    return await self._repeated(scope, known.conversation, known.message)
            opened = await self._open(scope, ask, limit, claims)
        except BaseException:
            await self._access.release(claims)
            raise
        opened.asked, opened.claims = asked, claims
        return opened

    def commit(self, opened: Opened, answer: Answer) -> Coroutine[object, object, None]:
        """To be awaited: keep the turn, in one atomic write, and end it.

        The upstream that answered is remembered by its own id of the conversation; what others
        called it is forgotten: they have missed this turn. Raises `GatewayError(CONVERSATION_BUSY)`
        if the conversation was changed from outside.
        """
        now, keep = self._clock(), opened.keep
        # A question is last, and new; what goes on from the results of tools has none.
        fresh = opened.messages[-1:] if opened.messages[-1].position >= keep else ()
        found, position = opened.conversation, keep + len(fresh)
        said = StoredMessage(
            opened.answer,
            position,
            _ASSISTANT,
            answer.parts,
            now,
            answer.finish,
            answer.usage,
            answer.model,
            answer.upstream,
            answer.conversation,
            answer.message,
        )
        ids = {answer.target: answer.conversation} if answer.conversation else {}
        answered = None
        if opened.asked is not None and answer.finish is not None:
            # What is incomplete answers no key: the same request shall run again.
            answered = opened.asked.answered(found.id, said.id, now + self._repeat_ttl)
        row = changed(found, now, position + 1, ids)
        change = Change(row, keep, (*fresh, said), answered)
        return self._access.save(change, opened.claims)

    async def abandon(self, opened: Opened) -> None:
        """End it and leave the conversation as it was; nothing if it has ended already."""
        if opened.claims:
            await self._access.release(opened.claims)

    async def _claim(self, asked: Asked, claims: list[int]) -> None:
        if not await self._access.store.claim(asked.name):
            raise GatewayError(
                ErrorCode.REQUEST_RUNNING,
                "a request with this Idempotency-Key is still running: wait for it to end",
            )
        claims.append(asked.name)

    async def _first(self, scope: Scope, ask: ChatRequest) -> Opened:
        """The first turn of a new conversation."""
        if ask.message is None:
            raise _no_message("message is required and must be a non-empty string")
        # An upstream asked for an answer that cannot be kept is asked for nothing.
        await self._access.store.ready()
        now, title = self._clock(), _title(ask.message)
        found = Conversation(self._mint(), scope.place, ask.user_id, title, now, now)
        return self._asking(found, (), ask.message, now)

    async def _open(self, scope: Scope, ask: ChatRequest, limit: int, claims: list[int]) -> Opened:
        if ask.conversation_id is None:
            return await self._first(scope, ask)
        number = await self._access.claim(scope, ask.conversation_id, claims)
        span = Span(limit=limit)
        if ask.retry_of is not None:
            span = Span(limit=limit, upto=message_number(ask.retry_of) or 0)
        found, messages = await self._access.load(scope, number, span)
        if ask.message is None and not any(said.role is Role.USER for said in messages):
            # A turn of more tool rounds than there is room for: it begins with its question.
            span = replace(span, limit=found.length)
            found, messages = await self._access.load(scope, number, span)
        if ask.retry_of is not None:
            return self._retried(found, messages)
        if ask.message is not None:
            return self._asking(found, messages, ask.message, self._clock())
        self._check_results(messages)
        question = next(said for said in reversed(messages) if said.role is Role.USER)
        return self._opened(found, messages, question, found.length)

    def _asking(
        self, found: Conversation, before: tuple[StoredMessage, ...], text: str, now: int
    ) -> Opened:
        """A turn with a question of its own."""
        length = found.length
        question = StoredMessage(self._mint(), length, _USER, (TextDelta(text),), now)
        return self._opened(found, (*before, question), question, length)

    def _opened(
        self,
        found: Conversation,
        messages: tuple[StoredMessage, ...],
        question: StoredMessage,
        keep: int,
        retried: StoredMessage | None = None,
    ) -> Opened:
        answer = self._unlike(messages)
        name, theirs = message_name(answer), message_name(question.id)
        turn = Turn(str(found.id), theirs, name, found.user_id)
        return Opened(turn, found, messages, keep, answer, retried)

    def _unlike(self, messages: tuple[StoredMessage, ...]) -> int:
        """An id that none of them has."""
        number = self._mint()
        for said in messages:
            if said.id == number:
                return self._unlike(messages)
        return number

    def _retried(self, found: Conversation, messages: tuple[StoredMessage, ...]) -> Opened:
        """Cut at the user's message that the answer was to."""
        if not messages or messages[-1].role is not Role.ASSISTANT:
            raise GatewayError(
                ErrorCode.RETRY_MESSAGE_NOT_FOUND,
                "this conversation has no such message of the assistant's to retry",
            )
        *before, retried = messages
        while before and before[-1].role is not Role.USER:
            before.pop()
        if not before:
            raise GatewayError(
                ErrorCode.RETRY_NO_USER_MESSAGE, "no user's message comes before this one"
            )
        keep = before[-1].position + 1
        return self._opened(found, tuple(before), before[-1], keep, retried)

    def _check_results(self, messages: tuple[StoredMessage, ...]) -> None:
        """A request without a message goes on from the results of all the calls."""
        last = messages[-1]
        if last.finish is not FinishReason.TOOL_CALLS or not last.outputs:
            raise _no_message(
                "message is required and must be a non-empty string: no tool's result waits here"
            )
        waits = not expired(last, self._tool_call_ttl, self._clock())
        missing = last.calls.keys() - last.outputs.keys()
        if waits and missing:
            names = ", ".join(sorted(missing))
            raise _no_message(f"these tool calls have no result yet: {names}")

    async def _repeated(self, scope: Scope, conversation: int, message: int) -> Repeated:
        span = Span(limit=2, upto=message)
        found, messages = await self._access.load(scope, conversation, span)
        if not any(said.role is Role.USER for said in messages):
            span = replace(span, limit=found.length)
            found, messages = await self._access.load(scope, conversation, span)
        return repeated(found, messages)


def _title(text: str) -> str:
    line = text[: _TITLE + 1]
    if not line.isprintable() or "  " in line or line != line.strip():
        line = _one_line(text[: 10 * _TITLE])
    return line if len(line) <= _TITLE else line[: _TITLE - 1].rstrip() + "…"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    if not line.isprintable():
        line = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    return line


def _no_message(message: str) -> GatewayError:
    return GatewayError(ErrorCode.INVALID_BODY, message, details={"message": message})
