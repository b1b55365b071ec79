"""The config as one of several workers has it."""

from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from gateway.config.agents import TargetConfig
from gateway.config.model import Config, Server
from gateway.config.problems import ConfigError, Problem
from gateway.config.upstreams import Upstream

Limited = TypeVar("Limited", Upstream, TargetConfig)


class Part(Struct, frozen=True):
    """One of `count` workers, by its number from 1."""

    number: int
    count: int

    def of(self, total: int) -> int:
        """Its part of so many: those of all workers add up to it."""
        return total // self.count + (self.number <= total % self.count)

    def most_of(self, total: int) -> int:
        """The same rounded up: nobody's part of a few is none."""
        return -(-total // self.count)


def partial_config(config: Config, part: Part) -> Config:
    """Its part of what holds for all of them together. Raises `ConfigError` for what is too little
    to be shared: a file's reload may bring that, where "auto" had counted the workers before."""
    problems: list[Problem] = []
    upstreams = {
        name: _limited(upstream, part, f"upstreams.{name}", problems).model_copy(
            update={"queue": _queue(upstream, part)}
        )
        for name, upstream in config.upstreams.items()
    }
    agents = [
        agent.model_copy(
            update={
                "targets": [
                    _limited(target, part, f"agents[{at}].targets[{nth}]", problems)
                    for nth, target in enumerate(agent.targets)
                ]
            }
        )
        for at, agent in enumerate(config.agents)
    ]
    if problems:
        raise ConfigError(Path(), problems)
    server = _without_resuming(config.server)
    return config.model_copy(update={"server": server, "upstreams": upstreams, "agents": agents})


def _limited(user: Limited, part: Part, where: str, problems: list[Problem]) -> Limited:
    total = user.max_streams
    if total is None:
        return user
    if total < part.count:
        said = f"{part.count} workers are running, and each has a part of it: restart the gateway"
        problems.append(Problem(f"{where}.max_streams", said, str(total)))
    return user.model_copy(update={"max_streams": part.of(total)})


def _queue(upstream: Upstream, part: Part) -> object:
    return upstream.queue.model_copy(update={"size": part.most_of(upstream.queue.size)})


def _without_resuming(server: Server) -> Server:
    """Whoever came back would meet another process than the one with the stream."""
    resume = server.resume.model_copy(update={"on_request": False})
    return server.model_copy(update={"resume": resume})
