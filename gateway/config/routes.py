"""From an agent's name to the upstreams that answer for it: built once, never changed."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.agents import Agent, Public, TargetConfig
from gateway.config.model import Config
from gateway.config.place import quoted
from gateway.config.recordings import transcripts
from gateway.config.secrets import reveal
from gateway.config.upstreams import Upstream
from gateway.core.codec import Target, Transcript, UpstreamKind
from gateway.core.conversation import Role
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import Budget, Message, Tool
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.refusals import passed_refusal


class Origins(Struct, frozen=True):
    """Origins of browser pages; `"*"` among them stands for any."""

    names: frozenset[str]

    def __contains__(self, origin: object) -> bool:
        return "*" in self.names or origin in self.names


class PublicAccess(Struct, frozen=True):
    """Who may speak to an agent without a key, and how much."""

    origins: Origins
    tier: str

    def allows(self, origin: str | None) -> bool:
        """Whether a page of this origin may; None, no browser, only where any may."""
        # Browsers write ASCII. What is no UTF-8 either could not be kept with the conversation.
        return origin in self.origins and (origin is None or origin.isascii())


class Clocks(NamedTuple):
    """How long a target may take, in seconds: `Timeouts` of the config."""

    connect: float
    first_event: float
    idle: float
    total: float


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """One upstream of an agent, with the codec that speaks to it."""

    target: Target
    kind: UpstreamKind
    upstream: Upstream
    """Its settings, with the target's own where it has some."""
    name: str
    """What is one backend to every agent: the same model, or agent, of the same upstream."""
    weight: int | None = None
    state_key: str = field(init=False)
    """Under which an upstream's own conversation id is kept: two agents of one upstream do not
    know each other's conversations."""
    clocks: Clocks = field(init=False)
    max_streams: int | None = field(init=False)

    def __post_init__(self) -> None:
        key = f"{self.target.upstream}/{self.target.agent or ''}"
        object.__setattr__(self, "state_key", key)
        # Read several times in each turn, and an attribute of a pydantic model costs thirty times
        # what one of these does.
        object.__setattr__(self, "clocks", Clocks(**dict(self.upstream.timeouts)))
        object.__setattr__(self, "max_streams", self.upstream.max_streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One agent, ready to use."""

    id: int
    workspace: str
    name: str
    targets: tuple[RouteTarget, ...]
    """In order, or each with its weight: the next where one fails. Never empty."""
    hedge_after: float | None
    """Seconds without a first event until the next target is asked as well."""
    open_after: float | None
    """Seconds without a first event until a stream begins all the same."""
    try_anyway: bool
    """Whether targets are asked that all are said to be down."""
    on_disconnect: Literal["cancel", "drain", "keep"]
    drain_max: float
    allowed_models: frozenset[str]
    credits_per_turn: int | None
    identity_secret: str | None = field(repr=False)
    instructions: str | None
    tools: tuple[Tool, ...]
    public: PublicAccess | None
    history: Budget
    passthrough: str | None
    """The family of protocols whose conversations, kept by the upstream, clients see as they are;
    None: the gateway keeps them."""
    system: tuple[Message, ...] = field(init=False)
    """The instructions, as models take them."""

    def __post_init__(self) -> None:
        text = self.instructions
        object.__setattr__(self, "system", (Message(Role.SYSTEM, text),) if text else ())


class Routes:
    """Every agent that can be found, by whatever clients call it."""

    def __init__(self, routes: Iterable[tuple[Route, Iterable[str]]]) -> None:
        """Each route comes with its aliases."""
        self._routes: list[Route] = []
        self._by_name: dict[tuple[str, str], Route] = {}
        self._by_name_alone: dict[str, Route | None] = {}
        for route, aliases in routes:
            self._add(route, {str(route.id), route.name, *aliases})
        # Ids are unique in the whole file, so an id is never ambiguous.
        self._by_name_alone.update({str(route.id): route for route in self._routes})
        names = (route.public.origins.names for route in self._routes if route.public)
        self.origins = Origins(frozenset[str]().union(*names))
        """Every origin that some public agent allows, for preflights."""

    def _add(self, route: Route, names: set[str]) -> None:
        self._routes.append(route)
        for name in names:
            self._by_name[route.workspace, name] = route
            # None: two workspaces call an agent so.
            self._by_name_alone[name] = None if name in self._by_name_alone else route

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def find(self, agent: str, workspace: str | None) -> Route:
        """The agent of this id, name or alias, as text, in the workspace.

        Without a workspace: of this id, or of a name that only one workspace knows. Raises
        `GatewayError(AGENT_NOT_FOUND)`, also for what is archived or another workspace's.
        """
        if workspace is None:
            found = self._by_name_alone.get(agent)
        else:
            found = self._by_name.get((workspace, agent))
        if found is None:
            raise GatewayError(ErrorCode.AGENT_NOT_FOUND, "agent not found")
        return found

    def of_workspace(self, workspace: str) -> tuple[Route, ...]:
        """Its agents, in the order of the file."""
        return tuple(route for route in self._routes if route.workspace == workspace)


def build_routes(config: Config, base: Path, environ: Mapping[str, str] = os.environ) -> Routes:
    """The routes of a config that was loaded from the folder `base`.

    Raises `ConfigError` for what it refers to and that is not there, or not right: transcripts,
    and (`MissingSecret`) the agents' identity secrets.
    """
    recorded = transcripts(config, base)
    return Routes(
        (
            Route(
                id=agent.id,
                workspace=agent.workspace,
                name=agent.name,
                targets=_targets(config, agent, recorded),
                hedge_after=agent.hedge_after,
                open_after=agent.open_after,
                try_anyway=agent.when_all_open == "try_anyway",
                on_disconnect=agent.on_disconnect,
                drain_max=agent.drain_max,
                allowed_models=frozenset(agent.allowed_models),
                credits_per_turn=agent.credits_per_turn,
                identity_secret=_identity_secret(agent, base, environ),
                instructions=agent.instructions,
                tools=tuple(Tool(t.name, t.description, t.parameters) for t in agent.tools),
                public=_public(agent.public),
                history=Budget(agent.history.max_messages, agent.history.max_tokens),
                passthrough=_passthrough(config, agent),
            ),
            agent.aliases,
        )
        for agent in config.agents
        if not agent.archived
    )


def _public(public: Public | None) -> PublicAccess | None:
    return PublicAccess(Origins(frozenset(public.origins)), public.tier) if public else None


def _passthrough(config: Config, agent: Agent) -> str | None:
    if agent.conversations == "stored":
        return None
    first = config.upstreams[agent.targets[0].upstream]
    return UPSTREAMS[kind_name(first)].family


def _identity_secret(agent: Agent, base: Path, environ: Mapping[str, str]) -> str | None:
    if agent.identity_secret is None:
        return None
    return reveal(agent.identity_secret, base, environ, f"identity_secret of agent {agent.id}")


def _targets(
    config: Config, agent: Agent, recorded: Mapping[str, Transcript]
) -> tuple[RouteTarget, ...]:
    return tuple(_target(config, agent, used, recorded) for used in agent.targets)


def _target(
    config: Config, agent: Agent, used: TargetConfig, recorded: Mapping[str, Transcript]
) -> RouteTarget:
    upstream = config.upstreams[used.upstream]
    target = Target(
        upstream=used.upstream,
        model=used.model,
        agent=None if used.agent is None else str(used.agent),
        params=used.params,
        blank_lines=upstream.blank_lines,
        max_event=upstream.max_event,
        transcript=recorded.get(used.upstream),
    )
    kind = UPSTREAMS[kind_name(upstream)]
    if agent.conversations == "passthrough":
        kind = replace(kind, error=passed_refusal)
    which = target.model or target.agent
    name = f"{used.upstream}/{which}" if which else used.upstream
    return RouteTarget(target, kind, _as_used(upstream, used), name, used.weight)


def _as_used(upstream: Upstream, used: TargetConfig) -> Upstream:
    """The upstream's settings with those of one of its targets over them."""
    own = {name: getattr(used, name) for name in ("retries", "retry_after_send", "max_streams")}
    changes = {name: value for name, value in own.items() if value is not None}
    times = used.timeouts.model_dump(exclude_none=True)
    if times:
        changes["timeouts"] = upstream.timeouts.model_copy(update=times)
    return upstream.model_copy(update=changes) if changes else upstream


def kind_name(upstream: Upstream) -> str:
    """The name in `UPSTREAMS` of what this upstream speaks."""
    return f"bookbag-{upstream.api or 'v2'}" if upstream.kind == "bookbag" else upstream.kind


def routing_table(routes: Routes) -> str:
    """For people: every agent, its targets in order, and who may use it without a key."""
    return "\n".join(line for route in routes for line in _lines(route))


def _lines(route: Route) -> Iterator[str]:
    yield f"agent {route.id} {quoted(route.name)}, workspace {route.workspace}"
    for number, target in enumerate(route.targets, 1):
        place = f"weight {target.weight}:" if target.weight else f"{number}."
        yield f"  {place} {_described(target)}"
    if route.public:
        origins = " ".join(sorted(route.public.origins.names))
        yield f"  public: {origins}, tier {route.public.tier}"


def _described(target: RouteTarget) -> str:
    used, address = target.target, target.upstream.base_url
    said = f"{used.upstream}: {target.kind.name}"
    said += f" at {urlsplit(address).netloc}" if address else ""
    said += f", model {used.model}" if used.model else ""
    return said + (f", agent {used.agent}" if used.agent else "")
