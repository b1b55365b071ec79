"""One frame of `oc-gateway top`: what a gateway said, for people's eyes."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.top_asking import Look, shown
from gateway.cli.top_figures import History, Span
from gateway.core.events import Json
from gateway.wire import json

# Seconds that figures look back on: a rate follows what happens, a quantile needs many to be of.
RATES, QUANTILES = 10.0, 60.0
KEPT = max(RATES, QUANTILES)

# Of requests, the oldest and the last: so many of each.
_LINES = 5

# The columns that agents and upstreams have in common, those of numbers, and those of requests.
_PACE = ("turns/s", "failed/s", "p50", "p95")
_NUMBERS = {*_PACE, "streams", "queue", "open", "turns", "failed", "age", "events", "status"}
_ASKED = ("dialect", "agent", "target")

_MEDIAN_AND_TAIL = (0.5, 0.95)
_FIRST_EVENT = "first_event_seconds"
_CLIENT = "client"

_STYLES = {"open": "bold red", "half_open": "yellow", "closed": "green", "down": "bold red"}

# The largest first; the last is for whatever is less.
_TIMES = ((86400.0, "d", 3600.0, "h"), (3600.0, "h", 60.0, "m"), (60.0, "m", 1.0, "s"))


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


def frame(look: Look, history: History, url: str, *, agents: int | None) -> RenderableType:
    """The whole screen. `agents`: how many of them there is room for; None: for all."""
    figures, status = _Figures(history), look.status
    return Group(
        _head(status, url),
        _now(status, figures),
        _limits(status, figures),
        _targets(status, figures),
        _agents(status, figures, agents),
        *_requests(status),
    )


def no_answer(url: str, why: str) -> RenderableType:
    """The line above the last frame while nobody is there."""
    return Text(f"no answer from {url}: {why}", style="bold red")


def _head(status: dict[str, Json], url: str) -> RenderableType:
    config = _part(status, "config")
    line = Text.assemble(
        (f"oc-gateway {json.text(status.get('version'))}", "bold"),
        f"  {url}  up {_time(_number(status, 'uptime'))}",
        f"  config {json.text(config.get('digest'))} of {json.text(config.get('read'))[:19]}",
    )
    if status.get("draining"):
        line.append("  draining", style="bold yellow")
    reload = _part(config, "last_reload")
    if reload.get("ok") is False:
        line.append(f"\nthe last reload failed: {_first_problem(reload)}", style="bold red")
    return line


def _first_problem(reload: dict[str, Json]) -> str:
    problems = _each(reload, "problems")
    first = problems[0] if problems else {}
    said = ": ".join(json.text(first.get(part)) for part in ("where", "problem") if part in first)
    return f"{said} (and {len(problems) - 1} more)" if len(problems) > 1 else said


def _now(status: dict[str, Json], figures: _Figures) -> RenderableType:
    requests = _part(status, "requests")
    failed, refused = (figures.blamed(on_clients=fault) for fault in (False, True))
    parts: list[tuple[str, str]] = [
        (f"{figures.streams:.0f} streams", "bold"),
        (f"{_count(requests, 'open')} requests open", ""),
        (f"{_rate(figures.now.rate('turns_total'))} turns/s", "bold"),
        (f"{_rate(failed)} failed/s", "bold red" if failed else ""),
        (f"{_rate(refused)} refused/s", "yellow" if refused else ""),
        (f"{_rate(figures.now.rate('events_total'))} events/s", ""),
        (f"{_rate(figures.now.rate('tokens_total'))} tokens/s", ""),
    ]
    median, tail = _first_events(figures.first_event)
    parts.append((f"first event p50 {median} p95 {tail}", "bold"))
    return Text("  ").join(Text(said, style) for said, style in parts)


def _limits(status: dict[str, Json], figures: _Figures) -> RenderableType:
    limits = _part(status, "limits")
    said = Text(f"limits: {_count(limits, 'buckets')} buckets")
    for (tier, limit), rate in sorted(figures.limits.items()):
        said.append(f"  {shown(tier)} {shown(limit)} refuses {_rate(rate)}/s", style="yellow")
    return said


def _targets(status: dict[str, Json], figures: _Figures) -> RenderableType:
    """What is known of an upstream as a whole stands beside the first of its targets."""
    table = _table("target", "breaker", "streams", "queue", "upstream", *_PACE, "connections")
    upstreams = {json.text(one.get("upstream")): one for one in _each(status, "upstreams")}
    for target in _each(status, "targets"):
        upstream = upstreams.pop(json.text(target.get("upstream")), None)
        table.add_row(*_target(target), *(_upstream(upstream, figures) if upstream else ()))
    return table


def _target(target: dict[str, Json]) -> list[Text]:
    breaker, limit = json.text(target.get("breaker")), target.get("max_streams")
    left = f" {_time(_number(target, 'half_open_in'))}" if "half_open_in" in target else ""
    queue = _count(target, "queue")
    return [
        Text(json.text(target.get("target"))),
        Text(breaker.replace("_", " ") + left, _STYLES.get(breaker, "")),
        Text(f"{_count(target, 'streams')}{'' if limit is None else f'/{limit}'}"),
        Text(str(queue), "yellow" if queue else ""),
    ]


def _upstream(upstream: dict[str, Json], figures: _Figures) -> list[Text]:
    name, connections = json.text(upstream.get("upstream")), _part(upstream, "connections")
    down = upstream.get("healthy") is False
    said = f"{_count(connections, 'active')} + {_count(connections, 'idle')} idle"
    return [
        Text(f"{name} down" if down else name, _STYLES["down"] if down else ""),
        Text(_rate(figures.upstreams.get((name,), 0.0))),
        _failing(figures.attempts_failed.get((name,), 0.0)),
        *_first_events(figures.by_upstream.get((name,), [])),
        Text(said if connections else ""),
    ]


def _agents(status: dict[str, Json], figures: _Figures, room: int | None) -> RenderableType:
    table = _table("agent", "name", "workspace", "open", *_PACE, "turns", "failed")
    agents = sorted(_each(status, "agents"), key=lambda agent: _busy(agent, figures))
    for agent in agents[:room]:
        table.add_row(*_agent(agent, figures))
    if room is not None and len(agents) > room:
        table.caption = f"and {len(agents) - room} more agents, which do less"
    return table


def _busy(agent: dict[str, Json], figures: _Figures) -> tuple[float, ...]:
    """Who does the most comes first."""
    rate = figures.agents.get((_id(agent),), 0.0)
    return -rate, -_count(agent, "open_turns"), -_count(agent, "turns")


def _agent(agent: dict[str, Json], figures: _Figures) -> list[Text]:
    of = _id(agent)
    return [
        Text(of),
        Text(json.text(agent.get("name"))),
        Text(json.text(agent.get("workspace"))),
        Text(str(_count(agent, "open_turns"))),
        Text(_rate(figures.agents.get((of,), 0.0))),
        _failing(figures.blamed(of, on_clients=False)),
        *_first_events(figures.by_agent.get((of,), [])),
        Text(str(_count(agent, "turns"))),
        Text(str(_count(agent, "failed"))),
    ]


def _requests(status: dict[str, Json]) -> Iterator[RenderableType]:
    """The oldest that are open, and the last that failed; nothing where there are none."""
    if oldest := _each(_part(status, "requests"), "oldest")[:_LINES]:
        table = _table("oldest request", "age", "dialect", "agent", "target", "doing", "events")
        for one in oldest:
            age, events = _time(_number(one, "age")), str(_count(one, "events"))
            table.add_row(*_texts(one, "request_id"), age, *_texts(one, *_ASKED, "doing"), events)
        yield table
    if failed := _each(status, "recent_errors")[:_LINES]:
        table = _table("failed request", "at", "dialect", "agent", "target", "outcome", "status")
        for one in failed:
            at, answered = json.text(one.get("at"))[11:19], str(_count(one, "status"))
            table.add_row(
                *_texts(one, "request_id"), at, *_texts(one, *_ASKED, "outcome"), answered
            )
        yield table


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


# Writing it. Everything is `Text`, for in a plain string rich would look for markup.


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), caption_justify="left")
    for column in columns:
        right = column in _NUMBERS
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    return table


def _texts(document: dict[str, Json], *names: str) -> list[Text]:
    return [Text(json.text(document.get(name))) for name in names]


def _failing(rate: float) -> Text:
    return Text(_rate(rate), "bold red" if rate else "")


def _first_events(quantiles: Sequence[float]) -> list[Text]:
    return [Text(_time(each)) for each in quantiles] or [Text("-"), Text("-")]


def _rate(rate: float) -> str:
    if rate >= 10_000:
        return f"{rate / 1000:.0f}k"
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"


def _time(seconds: float) -> str:
    """In the two largest units, or as milliseconds."""
    for size, unit, smaller, smaller_unit in _TIMES:
        if seconds >= size:
            whole, rest = divmod(int(seconds), int(size))
            return f"{whole}{unit} {rest // int(smaller)}{smaller_unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
