"""One frame of `oc-gateway top`: what a gateway said, for people's eyes."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from rich.console import Group, RenderableType
from rich.text import Text

from gateway.cli.top_asking import Look, shown
from gateway.cli.top_figures import History, Span
from gateway.cli.top_layout import Listing, Row, fitted, flowing, word
from gateway.cli.top_words import rate_of, time_of
from gateway.core.events import Json
from gateway.wire import json

# Seconds that figures look back on: a rate follows what happens, a quantile needs many to be of.
RATES, QUANTILES = 10.0, 60.0
KEPT = max(RATES, QUANTILES)

# Of requests, the oldest and the last: so many of each at most.
_LINES = 8

# The columns that agents and upstreams have in common, those of numbers, those of names that may be
# cut, and those of requests.
_PACE = ("turns/s", "failed/s", "p50", "p95")
_NUMBERS = {*_PACE, "streams", "queue", "open", "turns", "failed", "age", "events", "status"}
_NAMES = {"target", "upstream", "agent", "name", "workspace", "dialect", "outcome"}
_ASKED = ("dialect", "agent", "target")

_MEDIAN_AND_TAIL = (0.5, 0.95)
_FIRST_EVENT = "first_event_seconds"
_CLIENT = "client"

_CLOSED = "closed"
_STYLES = {"open": "bold red", "half_open": "yellow", _CLOSED: "green", "down": "bold red"}

_listing = partial(Listing, numbers=_NUMBERS, names=_NAMES)


class _Figures:
    """What has happened lately, in numbers."""

    def __init__(self, history: History) -> None:
        self.now: Span = history.last(RATES)
        lately = history.last(QUANTILES)
        self.streams = self.now.after.total("active_streams")
        self.agents = self.now.rates("turns_total", "agent")
        self.upstreams = self.now.rates("turns_total", "upstream")
        self.attempts_failed = self.now.rates("upstream_errors_total", "upstream")
        self.failed = self.now.rates("failures_total", "agent", "fault")
        self.limits = self.now.rates("rate_limit_rejections_total", "tier", "limit")
        self.first_event = lately.quantiles(_MEDIAN_AND_TAIL, _FIRST_EVENT).get((), [])
        self.by_agent = lately.quantiles(_MEDIAN_AND_TAIL, _FIRST_EVENT, "agent")
        self.by_upstream = lately.quantiles(_MEDIAN_AND_TAIL, _FIRST_EVENT, "upstream")

    def blamed(self, agent: str | None = None, *, on_clients: bool) -> float:
        """Requests a second that failed, by whose fault it was."""
        return sum(
            rate
            for (of, fault), rate in self.failed.items()
            if agent in (None, of) and (fault == _CLIENT) is on_clients
        )


def frame(
    look: Look, history: History, url: str, *, width: int, lines: int | None
) -> RenderableType:
    """The whole screen, of this size; without `lines`, as many as it takes."""
    figures, status = _Figures(history), look.status
    above = [
        *flowing(_head(status, url), width),
        *_reload(status),
        *flowing(_now(status, figures), width),
        *flowing(_limits(status, figures), width),
    ]
    listings = [_targets(status, figures), _agents(status, figures), *_requests(status)]
    return Group(*above, *fitted(listings, width, lines and lines - len(above)))


def no_answer(url: str, why: str) -> RenderableType:
    """The line above the last frame while nobody is there."""
    return Text(f"no answer from {url}: {why}", style="bold red")


def _head(status: dict[str, Json], url: str) -> Iterator[Text]:
    config = _part(status, "config")
    yield Text(f"oc-gateway {json.text(status.get('version'))}", "bold")
    yield Text(url)
    yield Text(f"up {time_of(_number(status, 'uptime'))}")
    if workers := _each(status, "workers"):
        answering = sum(worker.get("answers") is True for worker in workers)
        few = answering < len(workers)
        said = f"{answering} of {len(workers)} workers answer" if few else f"{answering} workers"
        yield Text(said, "bold red" if few else "")
    yield Text(f"config {json.text(config.get('digest'))} of {json.text(config.get('read'))[:19]}")
    if config.get("in_all_workers") is False:
        yield Text("not in all workers", "bold yellow")
    if status.get("draining"):
        yield Text("draining", "bold yellow")


def _reload(status: dict[str, Json]) -> Iterator[Text]:
    """Why the last one failed, if it did."""
    reload = _part(_part(status, "config"), "last_reload")
    if reload.get("ok") is False:
        yield Text(f"the last reload failed: {_first_problem(reload)}", "bold red")


def _first_problem(reload: dict[str, Json]) -> str:
    problems = _each(reload, "problems")
    first = problems[0] if problems else {}
    said = ": ".join(json.text(first.get(part)) for part in ("where", "problem") if part in first)
    return f"{said} (and {len(problems) - 1} more)" if len(problems) > 1 else said


def _now(status: dict[str, Json], figures: _Figures) -> Iterator[Text]:
    requests = _part(status, "requests")
    failed, refused = (figures.blamed(on_clients=fault) for fault in (False, True))
    median, tail = (each.plain for each in _first_events(figures.first_event))
    yield Text(f"{figures.streams:.0f} streams", "bold")
    yield Text(f"{_count(requests, 'open')} requests open")
    yield Text(f"{rate_of(figures.now.rate('turns_total'))} turns/s", "bold")
    yield Text(f"{rate_of(failed)} failed/s", "bold red" if failed else "")
    yield Text(f"{rate_of(refused)} refused/s", "yellow" if refused else "")
    yield Text(f"{rate_of(figures.now.rate('events_total'))} events/s")
    yield Text(f"{rate_of(figures.now.rate('tokens_total'))} tokens/s")
    yield Text(f"first event p50 {median} p95 {tail}", "bold")


def _limits(status: dict[str, Json], figures: _Figures) -> Iterator[Text]:
    limits = _part(status, "limits")
    yield Text(f"limits: {_count(limits, 'buckets')} buckets")
    for (tier, limit), rate in sorted(figures.limits.items()):
        yield Text(f"{shown(tier)} {shown(limit)} refuses {rate_of(rate)}/s", "yellow")


def _targets(status: dict[str, Json], figures: _Figures) -> Listing:
    targets = _each(status, "targets")
    return _listing(
        columns=("target", "breaker", "streams", "queue", "upstream", *_PACE, "connections"),
        count=len(targets),
        rows=lambda room: _target_rows(status, _foremost(targets, room), figures),
        spare=("connections", "p50"),
        called="targets",
    )


def _foremost(targets: list[dict[str, Json]], room: int) -> list[dict[str, Json]]:
    """Those that have something to do or to suffer, in the order of all."""
    places = sorted(range(len(targets)), key=lambda place: _pressed(targets[place]))
    return [targets[place] for place in sorted(places[:room])]


def _pressed(target: dict[str, Json]) -> tuple[bool, int, int]:
    closed = json.text(target.get("breaker")) in ("", _CLOSED)
    return closed, -_count(target, "queue"), -_count(target, "streams")


def _target_rows(
    status: dict[str, Json], targets: Iterable[dict[str, Json]], figures: _Figures
) -> Iterator[Row]:
    """What is known of an upstream as a whole stands beside the first of its targets."""
    upstreams = {json.text(one.get("upstream")): one for one in _each(status, "upstreams")}
    for target in targets:
        upstream = upstreams.pop(json.text(target.get("upstream")), None)
        yield [*_target(target), *(_upstream(upstream, figures) if upstream else ())]


def _target(target: dict[str, Json]) -> list[Text]:
    breaker, limit = json.text(target.get("breaker")), target.get("max_streams")
    left = f" {time_of(_number(target, 'half_open_in'))}" if "half_open_in" in target else ""
    queue = _count(target, "queue")
    return [
        word(json.text(target.get("target"))),
        word(breaker.replace("_", " ") + left, _STYLES.get(breaker, "")),
        word(f"{_count(target, 'streams')}{'' if limit is None else f'/{limit}'}"),
        word(str(queue), "yellow" if queue else ""),
    ]


def _upstream(upstream: dict[str, Json], figures: _Figures) -> list[Text]:
    name, connections = json.text(upstream.get("upstream")), _part(upstream, "connections")
    down = upstream.get("healthy") is False
    said = f"{_count(connections, 'active')} + {_count(connections, 'idle')} idle"
    return [
        word(f"{name} down" if down else name, _STYLES["down"] if down else ""),
        word(rate_of(figures.upstreams.get((name,), 0.0))),
        _failing(figures.attempts_failed.get((name,), 0.0)),
        *_first_events(figures.by_upstream.get((name,), [])),
        word(said if connections else ""),
    ]


def _agents(status: dict[str, Json], figures: _Figures) -> Listing:
    agents = sorted(_each(status, "agents"), key=lambda agent: _busy(agent, figures))
    return _listing(
        columns=("agent", "name", "workspace", "open", *_PACE, "turns", "failed"),
        count=len(agents),
        rows=lambda room: (_agent(agent, figures) for agent in agents[:room]),
        spare=("workspace", "p50"),
        called="agents, which do less",
    )


def _busy(agent: dict[str, Json], figures: _Figures) -> tuple[float, ...]:
    """Who does the most comes first."""
    rate = figures.agents.get((_id(agent),), 0.0)
    return -rate, -_count(agent, "open_turns"), -_count(agent, "turns")


def _agent(agent: dict[str, Json], figures: _Figures) -> list[Text]:
    of = _id(agent)
    return [
        word(of),
        word(json.text(agent.get("name"))),
        word(json.text(agent.get("workspace"))),
        word(str(_count(agent, "open_turns"))),
        word(rate_of(figures.agents.get((of,), 0.0))),
        _failing(figures.blamed(of, on_clients=False)),
        *_first_events(figures.by_agent.get((of,), [])),
        word(str(_count(agent, "turns"))),
        word(str(_count(agent, "failed"))),
    ]


def _requests(status: dict[str, Json]) -> Iterator[Listing]:
    """The oldest that are open, and the last that failed."""
    oldest = _each(_part(status, "requests"), "oldest")[:_LINES]
    yield _listing(
        columns=("oldest request", "age", *_ASKED, "doing", "events"),
        count=len(oldest),
        rows=lambda room: map(_open, oldest[:room]),
        spare=("dialect",),
    )
    failed = _each(status, "recent_errors")[:_LINES]
    yield _listing(
        columns=("failed request", "at", *_ASKED, "outcome", "status"),
        count=len(failed),
        rows=lambda room: map(_failed, failed[:room]),
        spare=("dialect", "status"),
    )


def _open(one: dict[str, Json]) -> Row:
    age, events = time_of(_number(one, "age")), str(_count(one, "events"))
    return [*_texts(one, "request_id"), word(age), *_texts(one, *_ASKED, "doing"), word(events)]


def _failed(one: dict[str, Json]) -> Row:
    at, status = json.text(one.get("at"))[11:19], str(_count(one, "status"))
    return [*_texts(one, "request_id"), word(at), *_texts(one, *_ASKED, "outcome"), word(status)]


# Reading what was said, leniently: another version of the gateway may say other things.


def _part(document: dict[str, Json], name: str) -> dict[str, Json]:
    return json.mapping(document.get(name))


def _each(document: dict[str, Json], name: str) -> list[dict[str, Json]]:
    return [json.mapping(one) for one in json.array(document.get(name))]


def _count(document: dict[str, Json], name: str) -> int:
    return json.count(document.get(name)) or 0


def _number(document: dict[str, Json], name: str) -> float:
    return json.amount(document.get(name)) or 0.0


def _id(agent: dict[str, Json]) -> str:
    return json.identifier(agent.get("id")) or ""


# Writing it.


def _texts(document: dict[str, Json], *names: str) -> list[Text]:
    return [word(json.text(document.get(name))) for name in names]


def _failing(rate: float) -> Text:
    return word(rate_of(rate), "bold red" if rate else "")


def _first_events(quantiles: Sequence[float]) -> list[Text]:
    return [word(time_of(each)) for each in quantiles] or [word("-"), word("-")]
