"""Conversations that a client tells anew with every request, at upstreams that keep them.

A thread is what an upstream calls such a conversation. It is found again by a fingerprint of the
history that led to it, as its client will replay it, and holds only for as long as nothing was said
in it since: a history that is edited, or asked to be answered anew, opens another one. Of what was
said nothing is kept but the ids of the last answer's tool calls.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from hashlib import sha256
from itertools import groupby

from msgspec import Struct

from gateway.conversations.access import Access, changed, milliseconds
from gateway.conversations.history import written
from gateway.conversations.store import Answered, Change, Span
from gateway.core.conversation import Conversation, Place, Role, StoredMessage
from gateway.core.errors import GatewayError
from gateway.core.events import Json, ToolCall, ToolOutput
from gateway.core.turn import ChatRequest, Message, Reply
from gateway.wire import json

# Beside the subjects of Idempotency-Keys, which begin with "key:" or "address:".
_SUBJECT = "thread"

# The whole numbers that JSON here may have: a greater one is read as a float, and stays one.
_LEAST, _BEYOND = -(1 << 63), 1 << 64


class Thread(Struct, kw_only=True):
    """One turn of a conversation that its client tells."""

    ask: ChatRequest
    conversation: Conversation
    """In a place where no client's request finds it; of version 0 where the history is unknown."""
    results: Mapping[str, Json] = {}
    """Of the tools that the last answer called, by the upstream's own ids of the calls."""
    claims: list[int] = []


class Threads:
    """Finds and keeps them. Where the store fails, or another turn is open in a thread, a history
    is unknown: nothing is lost, for its client has all of it. `ttl` is in milliseconds."""

    def __init__(
        self,
        access: Access,
        *,
        ttl: int,
        mint: Callable[[], int],
        clock: Callable[[], int] = milliseconds,
    ) -> None:
        self.mint = mint
        self._access = access
        self._ttl = ttl
        self._clock = clock

    async def find(self, place: Place, ask: ChatRequest) -> Thread:
        """The thread that the request goes on with, to be kept, forgotten or released; a new one
        where there is none."""
        hidden = Place(place.owner, -place.agent)
        with suppress(GatewayError):
            if known := await self._known(hidden, ask):
                return known
        now = self._clock()
        fresh = Conversation(
            id=self.mint(),
            place=hidden,
            user_id=ask.user_id,
            title=None,
            created=now,
            updated=now,
        )
        return Thread(ask=ask, conversation=fresh)

    async def keep(
        self, thread: Thread, reply: Reply, replayed: AbstractSet[type], ids: tuple[str, str]
    ) -> None:
        """Have it found by the history that ends with this answer, of which clients tell the parts
        of these types. `ids` are the target's key and what it calls the conversation."""
        found, now, target = thread.conversation, self._clock(), ids[0]
        said = [*thread.ask.history, *_question(thread.ask), *answer_of(reply, replayed)]
        key, message = fingerprint(found.place, _user(thread.ask), said), self.mint()
        answered = Answered(
            subject=_SUBJECT,
            key=key,
            fingerprint=key,
            conversation=found.id,
            message=message,
            expires=now + self._ttl,
        )
        await self._save(thread, message, waiting(reply), {target: ids[1]}, answered)

    async def forget(self, thread: Thread) -> None:
        """For one that was known: no history leads to it any more, as its upstream has heard what
        the client may never say."""
        await self._save(thread, self.mint(), (), {}, None)

    async def release(self, thread: Thread) -> None:
        """Leave it as it was; nothing if it was kept or forgotten."""
        await self._access.release(thread.claims)

    async def _known(self, place: Place, ask: ChatRequest) -> Thread | None:
        earlier, results = _split(ask)
        if not any(said.role is Role.ASSISTANT for said in earlier):
            return None
        store, claims = self._access.store, list[int]()
        key = fingerprint(place, _user(ask), earlier)
        answered = await store.answered(_SUBJECT, key, self._clock())
        if answered is None or not await store.claim(answered.conversation):
            return None
        claims.append(answered.conversation)
        thread = None
        try:
            found = await store.load(place, answered.conversation, Span(limit=1))
            if found and found[1] and found[1][0].id == answered.message:
                thread = _continued(ask, found[0], found[1][0].calls, results)
                if thread is not None:
                    thread.claims = claims
        finally:
            if thread is None:
                await self._access.release(claims)
        return thread

    async def _save(
        self,
        thread: Thread,
        message: int,
        calls: tuple[ToolCall, ...],
        ids: Mapping[str, str],
        answered: Answered | None,
    ) -> None:
        """The last answer is all that is kept: the next one takes its place."""
        now = self._clock()
        last = StoredMessage(id=message, position=0, role=Role.ASSISTANT, parts=calls, created=now)
        change = Change(
            conversation=changed(thread.conversation, now, 1, ids),
            keep=0,
            messages=(last,),
            answered=answered,
        )
        with suppress(GatewayError):
            await self._access.save(change, thread.claims)


def is_thread(place: Place) -> bool:
    """Whether what is kept there is a thread, and no conversation for anybody's eyes."""
    return place.agent < 0


def answer_of(reply: Reply, replayed: AbstractSet[type]) -> list[Message]:
    """An answer, as it is told by clients that tell the parts of these types."""
    outputs = [part for part in reply.parts if type(part) is ToolOutput]
    ran = {output.call_id for output in outputs}
    if ToolOutput in replayed:
        calls, told = reply.tool_calls, outputs
    else:
        calls, told = [call for call in reply.tool_calls if call.call_id not in ran], []
    said = Message(Role.ASSISTANT, reply.text, tuple(calls) if ToolCall in replayed else ())
    return [said, *(Message(Role.TOOL, written(o.output), call_id=o.call_id) for o in told)]


def _user(ask: ChatRequest) -> str | None:
    """Whoever asks, also by a name that is no user's id here and is only handed on."""
    return ask.user_id or json.text(ask.params.get("user")) or None


def _question(ask: ChatRequest) -> list[Message]:
    return [] if ask.message is None else [Message(Role.USER, ask.message)]


def waiting(reply: Reply) -> tuple[ToolCall, ...]:
    """Its calls that the upstream has not run itself: the ids, and not what they are about."""
    ran = {part.call_id for part in reply.parts if type(part) is ToolOutput}
    return tuple(
        ToolCall(call.call_id, call.name, None, said_id=call.said_id)
        for call in reply.tool_calls
        if call.call_id not in ran
    )


def fingerprint(place: Place, user_id: str | None, said: Iterable[Message]) -> str:
    """Of a history, as far as a stateful upstream is told of it: instructions are not.

    Clients cut one answer into several messages or join them, and lay out text and JSON anew: that
    makes no difference.
    """
    owner = place.owner
    whose: Json = [owner.workspace, owner.origin, place.agent, user_id]
    heard = [each for each in said if each.role is not Role.SYSTEM and _says_something(each)]
    turns: list[Json] = []
    for asked, group in groupby(heard, lambda each: each.role is Role.USER):
        part = list(group)
        turns.append([each.text for each in part] if asked else _answer(part))
    return sha256(json.dumps([whose, turns])).hexdigest()


def _says_something(said: Message) -> bool:
    return said.role is not Role.ASSISTANT or bool(said.tool_calls or said.text.strip())


def _answer(said: Sequence[Message]) -> Json:
    """All that was said between two messages of the user's."""
    texts = (each.text for each in said if each.role is Role.ASSISTANT)
    calls: list[Json] = [
        [call.call_id, call.name, _plain(call.arguments)]
        for each in said
        for call in each.tool_calls
    ]
    results = {each.call_id or "": each.text for each in said if each.role is Role.TOOL}
    return {
        "text": "".join("".join(texts).split()),
        "calls": calls,
        "results": [[name, _plain(results[name])] for name in sorted(results)],
    }


def _plain(value: Json) -> Json:
    """The same for all that JavaScript and Python make of one value."""
    return _sorted(structured(value) if isinstance(value, str) else value)


def _sorted(value: Json) -> Json:
    match value:
        case dict():
            return {name: _sorted(value[name]) for name in sorted(value)}
        case list():
            return [_sorted(item) for item in value]
        case float() if value.is_integer() and _LEAST <= value < _BEYOND:
            return int(value)
        case _:
            return value


def structured(text: str) -> Json:
    """The object or the array that a text is the JSON of, else the text."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return json.loads(text.encode())
    except json.InvalidJson:
        return text


def _split(ask: ChatRequest) -> tuple[tuple[Message, ...], dict[str, str]]:
    """What the upstream knows, and the results that it does not: those before the question."""
    said = ask.history[:-1] if _asks(ask) and ask.message is None else ask.history
    end = len(said)
    while end and said[end - 1].role is Role.TOOL:
        end -= 1
    return said[:end], {each.call_id or "": each.text for each in said[end:]}


def _asks(ask: ChatRequest) -> bool:
    """Whether the user says something new; a message of more than text is last in the history."""
    return ask.message is not None or (bool(ask.history) and ask.history[-1].role is Role.USER)


def _continued(
    ask: ChatRequest,
    found: Conversation,
    calls: Mapping[str, ToolCall],
    results: Mapping[str, str],
) -> Thread | None:
    """None where the upstream cannot go on from this: with results of calls that it does not wait
    for, or without a question and without all of the results."""
    if not results.keys() <= calls.keys():
        return None
    if not _asks(ask) and (not results or results.keys() != calls.keys()):
        return None
    own = {calls[name].said_id or name: structured(text) for name, text in results.items()}
    return Thread(ask=ask, conversation=found, results=own)
