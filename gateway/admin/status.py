"""What the gateway knows of itself, as JSON: read off its state when somebody asks.

Times of day are ISO 8601, all other times are seconds. There is no text of a message in it, no key,
and no address of a client.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from gateway import __version__
from gateway.admin.gauges import limits_of, targets_of
from gateway.config.model import Key, Tier
from gateway.config.problems import Problem
from gateway.config.routes import Route, RouteTarget
from gateway.core.events import Json
from gateway.limits.limiter import Limiter
from gateway.observe.exchange import CLIENT_GONE, COMPLETE, Exchange
from gateway.observe.faults import FAULTS, Fault
from gateway.observe.ledger import Failed, Ledger
from gateway.proxy.admission import subject_of_key
from gateway.proxy.snapshot import Snapshot
from gateway.reload.reloader import Outcome, Reloader
from gateway.targets.breaker import State
from gateway.targets.states import States

# Of the requests that are open, the oldest: what hangs is among them.
_OLDEST = 200

_Document = dict[str, Json]


class Status:
    """One gateway's. It only looks, so that it may be asked in a thread."""

    def __init__(
        self,
        *,
        reloader: Reloader,
        states: States,
        limiter: Limiter,
        ledger: Ledger,
        draining: Callable[[], bool],
    ) -> None:
        self._reloader = reloader
        self._states = states
        self._limiter = limiter
        self._ledger = ledger
        self._draining = draining
        self._began, self._since = time.time(), time.monotonic()

    def whole(self) -> _Document:
        """All of it but what is asked by name."""
        now, snapshot = time.monotonic(), self._reloader.snapshot
        requests = self._ledger.open
        return {
            "version": __version__,
            "started": _moment(self._began),
            "uptime": _rounded(now - self._since),
            "draining": self._draining(),
            "config": self._config(),
            "agents": self._agents(snapshot, requests),
            "targets": self._targets(snapshot, now),
            "upstreams": self._upstreams(snapshot),
            "requests": {
                "open": len(requests),
                "oldest": [_request(exchange, now) for exchange in requests[:_OLDEST]],
            },
            "limits": {"buckets": self._limiter.subjects, "with_open_turns": self._limiter.busy},
            "recent_errors": [_failed(failed) for failed in self._ledger.failures],
        }

    def key(self, key_id: str) -> _Document | None:
        """What the config's keys of this id may do now; None if there is none."""
        snapshot = self._reloader.snapshot
        entries = snapshot.keyring.named(key_id)
        if not entries:
            return None
        return {"key": key_id, "entries": [self._entry(snapshot.tiers[k.tier], k) for k in entries]}

    def request(self, request_id: str) -> _Document | None:
        """The requests of this id that are open or have lately failed; None if there is none."""
        now = time.monotonic()
        requests = [each for each in self._ledger.open if each.request_id == request_id]
        failed = self._ledger.find(request_id)
        if not requests and not failed:
            return None
        return {
            "request_id": request_id,
            "open": [_request(exchange, now) for exchange in requests],
            "failed": [_failed(each) for each in failed],
        }

    def _config(self) -> _Document:
        reading, last = self._reloader.reading, self._reloader.last
        return {
            "number": reading.number,
            "digest": reading.digest,
            "read": _moment(reading.at),
            "last_reload": {"at": _moment(last[0]), **told(last[1])} if last else None,
        }

    def _agents(self, snapshot: Snapshot, requests: Sequence[Exchange]) -> list[Json]:
        taken = Counter(exchange.agent for exchange in requests if exchange.turn)
        outcomes: dict[str, dict[str, int]] = {}
        for (agent, outcome), count in list(self._ledger.turns.items()):
            outcomes.setdefault(agent, {})[str(outcome)] = count
        return [
            _agent(route, taken[str(route.id)], outcomes.get(str(route.id), {}))
            for route in snapshot.routes
        ]

    def _targets(self, snapshot: Snapshot, now: float) -> list[Json]:
        limits = limits_of(snapshot)
        # Agents share a target, and its state.
        targets = {target.name: target for target in targets_of(snapshot)}
        return [self._target(each, limits.get(name), now) for name, each in targets.items()]

    def _target(self, target: RouteTarget, limit: int | None, now: float) -> Json:
        said: _Document = {"target": target.name, "upstream": target.target.upstream}
        state = self._states.find(target)
        if state is None:
            return said  # in the moment of a reload
        slots, breaker = state.slots, state.breaker
        said |= {"breaker": breaker.state(now), "opened": breaker.opened}
        if breaker.state(now) is State.OPEN:
            said["half_open_in"] = _rounded(breaker.wait(now, target.upstream.breaker))
        return said | {"streams": slots.taken, "max_streams": limit, "queue": slots.waiting}

    def _upstreams(self, snapshot: Snapshot) -> list[Json]:
        used = {target.target.upstream: target for target in targets_of(snapshot)}
        return [self._upstream(snapshot, name, target) for name, target in used.items()]

    def _upstream(self, snapshot: Snapshot, name: str, target: RouteTarget) -> Json:
        said: _Document = {"upstream": name, "kind": target.kind.name, "healthy": None}
        state = self._states.find(target)
        if target.upstream.health is not None and state is not None:
            said["healthy"] = not state.checked.down
        if client := snapshot.clients.get(name):
            idle = client.idle_connections
            said["connections"] = {"active": client.open_connections - idle, "idle": idle}
        return said

    def _entry(self, tier: Tier, key: Key) -> Json:
        subject = subject_of_key(key.workspace, key.id)
        bucket = self._limiter.look(subject, tier.requests, time.monotonic())
        return {
            "workspace": key.workspace,
            "tier": key.tier,
            "disabled": key.disabled,
            "expires": key.expires,
            "requests": {
                "limit": bucket.limit,
                "period": tier.requests.period,
                "remaining": bucket.remaining,
                "full_in": _rounded(bucket.reset_after),
            },
            "turns": {"open": self._limiter.held(subject), "limit": tier.concurrency},
        }


def told(outcome: Outcome) -> _Document:
    """What became of a reload."""
    if outcome.problems:
        return {"ok": False, "problems": [_problem(problem) for problem in outcome.problems]}
    return {"ok": True, "needs_restart": list(outcome.needs_restart)}


def _problem(problem: Problem) -> Json:
    said = {"where": problem.where, "problem": problem.text, "found": problem.found}
    return {name: text for name, text in said.items() if text}


def _agent(route: Route, taken: int, outcomes: Mapping[str, int]) -> Json:
    """`failed` are the turns that the gateway or an upstream is to blame for."""
    failed = (n for outcome, n in outcomes.items() if _fault(outcome) not in (None, Fault.CLIENT))
    return {
        "id": route.id,
        "name": route.name,
        "workspace": route.workspace,
        "targets": [
            {"target": each.name, "weight": each.weight} if each.weight else {"target": each.name}
            for each in route.targets
        ],
        "open_turns": taken,
        "turns": sum(outcomes.values()),
        "failed": sum(failed),
        "outcomes": dict(outcomes),
    }


def _fault(outcome: str) -> Fault | None:
    return None if outcome == COMPLETE else FAULTS.get(outcome, Fault.GATEWAY)


def _request(exchange: Exchange, now: float) -> Json:
    progress = exchange.answering
    said: _Document = {
        "request_id": exchange.request_id,
        "age": _rounded(now - exchange.started),
        "dialect": exchange.dialect,
        "operation": exchange.operation,
        "agent": exchange.agent,
        "target": exchange.target,
        "stream": exchange.stream,
        "doing": _doing(exchange),
        "events": progress.events if progress is not None else 0,
    }
    if exchange.outcome == CLIENT_GONE:
        said["client"] = "gone"
    return _traced(said, exchange.trace.id)


def _doing(exchange: Exchange) -> str:
    if exchange.answering is not None:
        return "answering"
    return "asking" if exchange.turn else "reading"


def _failed(failed: Failed) -> Json:
    said: _Document = {
        "at": _moment(failed.at),
        "request_id": failed.request_id,
        "dialect": failed.dialect,
        "operation": failed.operation,
        "agent": failed.agent,
        "upstream": failed.upstream,
        "target": failed.target,
        "outcome": failed.outcome,
        "fault": failed.fault,
        "status": failed.status,
        "attempts": failed.attempts,
        "duration": _rounded(failed.duration),
    }
    return _traced(said, failed.trace_id)


def _traced(said: _Document, trace_id: str) -> _Document:
    return {**said, "trace_id": trace_id} if trace_id else said


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
