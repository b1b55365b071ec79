"""What a reload cannot change: it takes a restart, and says so."""

from collections import defaultdict
from collections.abc import Iterator

from gateway.config.listeners import Tls
from gateway.config.model import Config

# What is built once, at the start. Of [store], the rest is taken up by the pruner's next round.
_SERVER = ("host", "port", "workers", "mounts", "chatbase")
_ADMIN = ("host", "port")
_STORE_FOLLOWS = frozenset({"ttl", "max_per_user"})


def needs_restart(started: Config, wanted: Config) -> tuple[str, ...]:
    """The settings, as they are called in the file, in which `wanted` is not what was started."""
    handshakes = _handshakes(started) != _handshakes(wanted)
    return ("server.tls",) * handshakes + tuple(
        f"{table}.{field}"
        for table, field in _fixed(started)
        if getattr(getattr(started, table), field) != getattr(getattr(wanted, table), field)
    )


def as_started(started: Config, config: Config) -> Config:
    """`config`, with what it takes a restart to change as it was `started`: so it is served by a
    worker that takes the place of one that died."""
    fields: defaultdict[str, dict[str, object]] = defaultdict(dict)
    for table, field in _fixed(started):
        fields[table][field] = getattr(getattr(started, table), field)
    fields["server"]["tls"] = _tls(started.server.tls, config.server.tls)
    tables = {
        table: getattr(config, table).model_copy(update=update) for table, update in fields.items()
    }
    return config.model_copy(update=tables)


def _tls(started: Tls | None, wanted: Tls | None) -> Tls | None:
    if started is None or wanted is None:
        return started
    return wanted.model_copy(update={"min_version": started.min_version})


def _handshakes(config: Config) -> str:
    """What is agreed upon before a certificate is presented; that is another one at any time."""
    return config.server.tls.min_version if config.server.tls else ""


def _fixed(config: Config) -> Iterator[tuple[str, str]]:
    for field in _SERVER:
        yield "server", field
    for field in _ADMIN:
        yield "admin", field
    for field in type(config.store).model_fields:
        if field not in _STORE_FOLLOWS:
            yield "store", field
    for table in ("logs", "tracing"):
        for field in type(getattr(config, table)).model_fields:
            yield table, field
