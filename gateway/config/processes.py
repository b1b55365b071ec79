"""What several workers cannot share.

In each of them it would hold for that one alone: the file would say one thing, and clients meet
another, depending on the process that their connection leads to.
"""

from collections.abc import Iterator

from gateway.config.place import Fault, Place, quoted


def processes(top: Place) -> Iterator[Fault]:
    """What stands beside `server.workers`, and needs a single one."""
    workers = top.at("server").at("workers")
    if workers.text != "auto" and not (workers.id and workers.id > 1):
        return
    said = f"server.workers = {quoted(workers.text) if workers.text else workers.id}"
    yield from _memory(top, said)
    yield from _streams(top, said)
    if workers.id:
        yield from _limits(top, workers.id, said)


def _memory(top: Place, said: str) -> Iterator[Fault]:
    """With `"auto"` also where that comes to one: a file that is right on one machine would be
    wrong on the next."""
    url = top.at("store").at("url")
    if (url.text or "").startswith("memory:"):
        yield Fault(
            url.path,
            f'"memory://" is in one process, and {said}: name a file ("sqlite:///oc-gateway.db") or'
            " a PostgreSQL that they share, or set server.workers = 1",
        )


def _streams(top: Place, said: str) -> Iterator[Fault]:
    advice = f"a client may come back to another process than its stream is in, and {said}"
    on_request = top.at("server").at("resume").at("on_request")
    if on_request.value is True:
        said = f"{advice}: leave it out or set it to false, or set server.workers = 1"
        yield Fault(on_request.path, said)
    for agent in top.at("agents").each():
        place = agent.at("on_disconnect")
        if place.text == "keep":
            yield Fault(place.path, f'{advice}: set "drain" or "cancel", or server.workers = 1')


def _limits(top: Place, count: int, said: str) -> Iterator[Fault]:
    targets = (t for agent in top.at("agents").each() for t in agent.at("targets").each())
    for user in (*top.at("upstreams").each(), *targets):
        place = user.at("max_streams")
        if place.id and place.id < count:
            wanted = f"expected {count} or more: {said}, and each has a part of it"
            yield Fault(place.path, wanted, place.shown)
