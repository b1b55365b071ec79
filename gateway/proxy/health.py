"""Checks of upstreams beside the traffic: a request again and again, to see whether they answer.

An upstream whose checks fail so many times in a row is down, and its targets are passed over, until
one check succeeds.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Iterator

from msgspec import Struct

from gateway.config.upstreams import Health
from gateway.core.codec import UpstreamRequest
from gateway.core.errors import ErrorCode, GatewayError
from gateway.observe.logs import Logger
from gateway.proxy.client import Client
from gateway.proxy.snapshot import Snapshot
from gateway.targets.states import States

# A fleet that was started together does not ask in step.
_JITTER = (0.9, 1.1)


class _Subject(Struct, frozen=True):
    """What is checked, and how: equal if a reload has changed nothing about it."""

    upstream: str
    client: Client
    health: Health


class HealthChecks:
    """The checks of all upstreams that a config wants checked, between `start` and `stop`."""

    def __init__(self, states: States, logger: Logger, told: Callable[[str, bool], None]) -> None:
        """`told` hears of every check: the upstream's name, and whether it was well."""
        self._states = states
        self._logger = logger
        self._told = told
        self._tasks: dict[_Subject, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def start(self, snapshot: Snapshot) -> None:
        """Check each at once, and then again and again in the background."""
        self.follow(snapshot)

    def follow(self, snapshot: Snapshot) -> None:
        """After a reload: go on with what is as it was, and begin anew with what has changed."""
        wanted = set(_subjects(snapshot))
        for subject in self._tasks.keys() - wanted:
            self._leave(subject)
        for subject in wanted - self._tasks.keys():
            self._tasks[subject] = asyncio.create_task(self._watch(subject), name="health")

    async def stop(self) -> None:
        """Once it returns, nothing is asked any more."""
        tasks = {*self._tasks.values(), *self._leaving}
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _leave(self, subject: _Subject) -> None:
        """What was found of it says nothing of what the file now calls by its name."""
        task = self._tasks.pop(subject)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        task.cancel()
        checked = self._states.checked(subject.upstream)
        checked.failures, checked.down = 0, False

    async def _watch(self, subject: _Subject) -> None:
        loop = asyncio.get_running_loop()
        while True:
            following = loop.time() + _pause(subject.health.interval)
            try:
                await self._check(subject)
            # Whatever it is: an upstream that nobody checks any more would stay down for good.
            except Exception as exc:
                self._logger.error("health_check_broken", upstream=subject.upstream, exc_info=exc)
            await asyncio.sleep(following - loop.time())

    async def _check(self, subject: _Subject) -> None:
        problem = await _problem(subject)
        if problem is ErrorCode.UNAVAILABLE:
            return  # all connections are taken by turns, which know better than we do
        if problem is None:
            self._succeeded(subject)
        else:
            self._failed(subject, problem)
        self._told(subject.upstream, problem is None)

    def _succeeded(self, subject: _Subject) -> None:
        checked = self._states.checked(subject.upstream)
        was_down, checked.down, checked.failures = checked.down, False, 0
        if was_down:
            self._logger.info("upstream_healthy", upstream=subject.upstream)

    def _failed(self, subject: _Subject, problem: str) -> None:
        checked = self._states.checked(subject.upstream)
        checked.failures += 1
        if checked.failures >= subject.health.failures and not checked.down:
            checked.down = True
            self._logger.warning("upstream_unhealthy", upstream=subject.upstream, problem=problem)


def _subjects(snapshot: Snapshot) -> Iterator[_Subject]:
    """Upstreams that no agent uses are not asked."""
    for route in snapshot.routes:
        for target in route.targets:
            upstream, health = target.target.upstream, target.upstream.health
            if health is not None:
                yield _Subject(upstream, snapshot.clients[upstream], health)


def _pause(interval: float) -> float:
    return interval * random.SystemRandom().uniform(*_JITTER)


async def _problem(subject: _Subject) -> str | None:
    """In a word for the log; None for a status of 2xx."""
    try:
        async with asyncio.timeout(subject.health.timeout):
            status = await _status(subject)
    except TimeoutError:
        return "timeout"
    except GatewayError as exc:
        return exc.code
    return None if 200 <= status < 300 else f"status {status}"


async def _status(subject: _Subject) -> int:
    """Raises `GatewayError` where there is no answer."""
    request = UpstreamRequest(subject.health.path, b"", "GET", {"Accept": "*/*"})
    answer = await subject.client.send(request, secrets.token_hex(16))
    try:
        await answer.head
    except BaseException:
        answer.close()
        raise
    answer.release()
    return answer.status
