"""What clients ask about conversations that are kept: tools' results, feedback, and reads."""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from msgspec import Struct

from gateway.config.routes import Route
from gateway.conversations.access import Access, Scope
from gateway.conversations.results import Pending, ToolResults
from gateway.conversations.store import Span
from gateway.core.codec import Around, Dialect, Records
from gateway.core.conversation import StoredMessage, number_in
from gateway.core.errors import ErrorCode, GatewayError
from gateway.dialects.fields import USER_ID
from gateway.limits.limiter import Limiter
from gateway.observe.exchange import Exchange, Operation
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.proxy.admission import Admission, Caller, check_agent, check_speaks_for, scope_of
from gateway.proxy.call import Call, parsed, read
from gateway.proxy.document import whole
from gateway.proxy.export import Export
from gateway.proxy.handing import hand_on
from gateway.proxy.open_turns import OpenTurns
from gateway.proxy.paging import Cursor, conversations_cursor, messages_cursor, page
from gateway.proxy.passing import Passing
from gateway.proxy.snapshot import Snapshot


class Inquiry(Struct, frozen=True):
    """A request that was let in."""

    call: Call
    caller: Caller
    route: Route
    words: Records
    body: bytes

    @property
    def scope(self) -> Scope:
        return scope_of(self.caller, self.route)

    def named(self, part: str) -> str:
        """What the path says for this part of it."""
        return self.call.request.match_info[part]


class RecordRequests:
    """Serves them, in any dialect that has words for them."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        limiter: Limiter,
        access: Access,
        results: ToolResults,
        open_turns: OpenTurns,
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self._snapshot = snapshot
        self._admission = Admission(limiter)
        self._access = access
        self._results = results
        self._open_turns = open_turns
        self._metrics = metrics
        self._logger = logger
        self._passing = Passing(metrics)
        self._operations: dict[Operation, Callable[[Inquiry], Awaitable[web.StreamResponse]]] = {
            Operation.TOOL_RESULT: self._tool_result,
            Operation.FEEDBACK: self._feedback,
            Operation.CONVERSATIONS: self._conversations,
            Operation.USER_CONVERSATIONS: self._user_conversations,
            Operation.CONVERSATION: self._conversation,
            Operation.MESSAGES: self._messages,
            Operation.EXPORT: self._export,
        }

    async def serve(
        self, operation: Operation, request: web.Request, dialect: Dialect, exchange: Exchange
    ) -> web.StreamResponse:
        """Answer one request. Raises `GatewayError` as long as nothing has been sent."""
        assert dialect.records is not None
        call = Call(request, dialect, exchange, self._snapshot())
        caller = self._admission.by_key(call)
        body = await read(call) if request.method != hdrs.METH_GET else b""
        agent = request.match_info["agent"]
        route = call.snapshot.routes.find(agent, caller.owner.workspace)
        exchange.agent = str(route.id)
        check_agent(caller, route)
        with self._open_turns.turn():
            if route.passthrough is not None:
                tail = _behind_agent(request)
                return await self._passing.forward(call, caller, route, request.method, tail, body)
            # Digits only: nothing else that a client writes gets into the log.
            number = number_in(request.match_info.get("conversation", ""))
            exchange.conversation = str(number or "")
            inquiry = Inquiry(call, caller, route, dialect.records, body)
            return await self._operations[operation](inquiry)

    # What changes something.

    async def _tool_result(self, asked: Inquiry) -> web.StreamResponse:
        given = asked.words.tool_result(parsed(asked.body))
        pending = await self._results.pending(asked.scope, asked.named("conversation"), given)
        try:
            # The upstream first: a result that it does not take has not been taken.
            await self._hand_on(asked, pending)
            await self._results.settle(pending)
        finally:
            await self._results.abandon(pending)
        return _json(asked.words.accepted)

    async def _hand_on(self, asked: Inquiry, pending: Pending) -> None:
        call, exchange = asked.call, asked.call.exchange
        try:
            await hand_on(call.snapshot, asked.route, pending, exchange.request_id, exchange.trace)
        except GatewayError as exc:
            exchange.upstream = pending.message.upstream or ""
            self._metrics.upstream_failed(exchange.upstream, exc.code)
            raise

    async def _feedback(self, asked: Inquiry) -> web.StreamResponse:
        feedback = asked.words.feedback(parsed(asked.body))
        conversation, message = asked.named("conversation"), asked.named("message")
        marked = await self._access.mark(asked.scope, conversation, message, feedback)
        upstream, model = _source(asked.route, marked)
        said = feedback.value if feedback else "cleared"
        self._metrics.feedback_given(asked.call.exchange.agent, upstream, model, said)
        return _json(asked.words.rated(marked))

    # Reads.

    async def _conversations(self, asked: Inquiry) -> web.StreamResponse:
        return await self._listed(asked, asked.scope.user_id)

    async def _user_conversations(self, asked: Inquiry) -> web.StreamResponse:
        user = asked.named("user")
        if not USER_ID.fullmatch(user):
            problem = f"must match ^{USER_ID.pattern}$"
            raise GatewayError(
                ErrorCode.INVALID_BODY, f"userId {problem}", details={"userId": problem}
            )
        check_speaks_for(asked.caller, user)
        return await self._listed(asked, user)

    async def _listed(self, asked: Inquiry, user: str | None) -> web.StreamResponse:
        """Conversations, the newest activity first."""
        wanted = page(asked.call.request.query, Cursor.CONVERSATIONS)
        after = (wanted.after[0], wanted.after[1]) if wanted.after else None
        # One more than is shown tells if there are more.
        listed = await self._access.store.listed(asked.scope.place, user, after, wanted.limit + 1)
        shown = listed.conversations[: wanted.limit]
        cursor = None
        if len(listed.conversations) > wanted.limit:
            cursor = conversations_cursor(shown[-1].updated, shown[-1].id)
        items = b",".join(map(asked.words.conversation, shown))
        return await _sent(asked, asked.words.page(cursor, listed.total), b"[" + items + b"]")

    async def _conversation(self, asked: Inquiry) -> web.StreamResponse:
        return await self._said(asked, asked.words.whole)

    async def _messages(self, asked: Inquiry) -> web.StreamResponse:
        return await self._said(asked, lambda _: (b"[", b"]"))

    async def _said(self, asked: Inquiry, around: Callable[..., Around]) -> web.StreamResponse:
        """The newest messages, or those before a cursor, in their order."""
        wanted = page(asked.call.request.query, Cursor.MESSAGES)
        before = wanted.after[0] if wanted.after else None
        span = Span(limit=wanted.limit, before=before)
        found, messages = await self._access.load(asked.scope, asked.named("conversation"), span)
        first = messages[0].position if messages else 0
        cursor = messages_cursor(first) if first else None
        items = b",".join(map(asked.words.message, messages))
        inside = _within(around(found), items)
        return await _sent(asked, asked.words.page(cursor, found.length), inside)

    async def _export(self, asked: Inquiry) -> web.StreamResponse:
        export = Export(asked.call, asked.words, asked.scope, self._access.store)
        return await export.answer(self._logger)


def _source(route: Route, message: StoredMessage) -> tuple[str, str]:
    """The upstream and the model of an answer, as labels: those that the agent's config names now,
    for it may have named any number of others since the answer was given."""
    upstreams = {target.target.upstream for target in route.targets}
    models = {target.target.model for target in route.targets} | route.allowed_models
    upstream = message.upstream if message.upstream in upstreams else None
    model = message.model or ""
    return upstream or "other", model if model in {*models, ""} else "other"


def _behind_agent(request: web.Request) -> str:
    """The path behind the agent's, with its query, as they came."""
    resource = request.match_info.route.resource
    assert resource is not None
    depth = resource.canonical.split("/").index("{agent}") + 1
    return "/" + request.rel_url.raw_path_qs.split("/", depth)[-1]


def _within(around: Around, inside: bytes) -> bytes:
    return around[0] + inside + around[1]


async def _sent(asked: Inquiry, around: Around, inside: bytes) -> web.StreamResponse:
    call = asked.call
    stalled = call.snapshot.server.write_timeout
    return await whole(call.request, call.exchange, _within(around, inside), stalled)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
