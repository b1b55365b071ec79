"""What a reload cannot change: it takes a restart, and says so."""

from collections.abc import Iterator

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
